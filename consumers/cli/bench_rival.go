//go:build !worker

package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/procfs"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/ggml/enginebench"
	"github.com/cocoon-network/cocoon/consumers/ggml/gguf"
	"github.com/cocoon-network/cocoon/consumers/openai"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// What both servers of the comparison get.
const (
	rivalSlots   = 16
	rivalThreads = 1
	rivalContext = 256 // tokens of a slot
	rivalReady   = time.Minute
	rivalTimes   = 5 // that all requests run in one round: CPU time is told in hundredths of a second
)

// served is an engine in a process of its own.
type served interface {
	consumers.Engine
	Process() (pid, restarts int)
}

// benchRival compares `cocoon engine` with llama-server: both in a process of their own, driven by the same client over
// OpenAI's interface, with the same model file, slots and threads, in turns. What counts is the CPU time of the process
// for the tokens of an answer; loading is left out. program is the cocoon binary, "" for this one.
func benchRival(ctx context.Context, plan enginebench.Plan, program, server string) (figures []cli.Figure, err error) {
	dir, err := os.MkdirTemp("", "cocoon-rival-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	plan = plan.WithDefaults()
	model := filepath.Join(dir, "model.gguf")
	f, err := os.Create(model)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(gguf.Random(f, plan.Shape), f.Close()); err != nil {
		return nil, err
	}
	e, err := OpenChild(ChildOptions{Program: program, Slots: rivalSlots, Threads: rivalThreads, Ready: rivalReady})(ctx, dir, schemas.Model{ID: "bench", Context: rivalContext})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	rival, err := openRival(ctx, server, model)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rival.Close()) }()

	var ours, theirs spent
	for range plan.Rounds {
		if err := errors.Join(ours.round(ctx, plan, e.(served)), theirs.round(ctx, plan, rival)); err != nil {
			return nil, err
		}
	}
	return []cli.Figure{
		cli.Reported("cocoon_engine", "tokens/cpu-s", ours.best), cli.Reported("llama_server", "tokens/cpu-s", theirs.best),
		cli.AtLeast("vs_llama_server", "ratio", ours.best/theirs.best, 1),
		cli.Reported("ttft_vs_llama_server", "ratio", ours.first.Seconds()/theirs.first.Seconds()),
	}, nil
}

// openRival starts llama-server and waits for it.
func openRival(ctx context.Context, server, model string) (*openai.Supervised, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // a free port; the server opens it itself
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return nil, err
	}
	e, err := openai.Supervise(openai.Child{
		Options: openai.Options{URL: fmt.Sprintf("http://127.0.0.1:%d", port), Flavour: "llama-server"},
		Path:    server, StartTimeout: rivalReady,
		Args: []string{
			"--model", model, "--host", "127.0.0.1", "--port", strconv.Itoa(port), "--parallel", strconv.Itoa(rivalSlots),
			"--ctx-size", strconv.Itoa(rivalSlots * rivalContext), "--threads", strconv.Itoa(rivalThreads), "--threads-batch", strconv.Itoa(rivalThreads),
		},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, rivalReady)
	defer cancel()
	if err := e.Ready(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("--llama-server %s: %w", server, err), e.Close())
	}
	return e, nil
}

// spent is what the rounds of one server took: the best of them, which was disturbed least.
type spent struct {
	best  float64 // tokens per CPU-second
	first time.Duration
}

// round runs all requests several times.
func (s *spent) round(ctx context.Context, plan enginebench.Plan, e served) error {
	pid, _ := e.Process()
	before, err := cpuOf(pid)
	if err != nil {
		return err
	}
	tokens := 0
	for range rivalTimes {
		r, err := plan.Drive(ctx, e)
		if err != nil {
			return err
		}
		tokens += r.Tokens
		if m := r.MedianFirst(); s.first == 0 || m < s.first {
			s.first = m
		}
	}
	after, err := cpuOf(pid)
	if err != nil {
		return err
	}
	s.best = max(s.best, float64(tokens)/(after-before))
	return nil
}

// cpuOf is the CPU time of a process in seconds, as Linux counts it.
func cpuOf(pid int) (float64, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0, &schemas.Error{Kind: schemas.KindUnsupported, Message: "the CPU time of a server can only be read on Linux, while it runs", Err: err}
	}
	stat, err := p.Stat()
	return stat.CPUTime(), err
}
