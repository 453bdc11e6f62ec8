package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/reference"
)

// What the benchmark of batches does.
const (
	batchLines      = 50_000
	batchLine       = 4 << 10 // bytes: 50,000 of them are OpenAI's 200 MB
	validateGoal    = 100     // MB/s
	memoryGoal      = 150     // MiB
	submissionGoal  = 0.5
	killLines       = 600
	memorySample    = 5 * time.Millisecond
	submissionTurns = 5
)

// BenchBatch measures the three things that a large batch is about: how fast a file of 50,000 lines and 200 MB is checked
// and in how much memory; how fast its lines are sealed, journalled and published, beside a plain asynchronous publish of
// the very same bytes to the same server; and how much is done again after kill -9 in the middle.
func BenchBatch(ctx context.Context, quick bool) (result cli.BenchResult, err error) {
	result = cli.BenchResult{Bench: "batch"}
	lines := batchLines
	if quick {
		lines /= 10
	}
	dir, err := os.MkdirTemp("", "cocoon-bench-")
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	input := filepath.Join(dir, "input.jsonl")
	size, err := writeBenchInput(input, lines, batchLine)
	if err != nil {
		return result, err
	}
	result.Notes = append(result.Notes, fmt.Sprintf("%d cores, %d lines, %.0f MB", runtime.GOMAXPROCS(0), lines, float64(size)/1e6))
	figures, err := benchValidate(ctx, input, size)
	if err != nil {
		return result, err
	}
	result.Figures = append(result.Figures, figures...)
	defer debug.SetGCPercent(debug.SetGCPercent(benchGC))
	n, err := newBenchNet(ctx)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	for _, part := range []func(context.Context, *benchNet, string, int) ([]cli.Figure, []string, error){benchKill, benchSubmission} {
		figures, notes, err := part(ctx, n, dir, lines/submissionTurns)
		if err != nil {
			return result, err
		}
		result.Figures, result.Notes = append(result.Figures, figures...), append(result.Notes, notes...)
	}
	return result, nil
}

// writeBenchInput writes an input of n lines of about size bytes each.
func writeBenchInput(path string, n, size int) (int64, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	text := strings.Repeat("The quick brown fox jumps over the lazy dog. ", size/45+1)
	var written int64
	for i := range n {
		line := fmt.Sprintf(`{"custom_id":"line-%06d","method":"POST","url":"/v1/chat/completions","body":{"model":"%s","messages":[{"role":"user","content":"`, i, benchModel)
		const tail = `"}],"max_tokens":16}}` + "\n"
		line += text[:max(0, size-len(line)-len(tail))] + tail
		if _, err := w.WriteString(line); err != nil {
			return 0, errors.Join(err, f.Close())
		}
		written += int64(len(line))
	}
	return written, errors.Join(w.Flush(), f.Close())
}

// benchValidate checks the file three times, after one time that warms the disk's cache, and once more with the verb for
// it in a process of its own, whose memory is what validation takes. A test binary has no verb and leaves that out.
func benchValidate(ctx context.Context, input string, size int64) ([]cli.Figure, error) {
	best := time.Duration(1 << 62)
	for range 4 {
		f, err := os.Open(input)
		if err != nil {
			return nil, err
		}
		start := time.Now()
		report, err := batch.Validate(ctx, f, batch.Rules{}, nil)
		took := time.Since(start)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		if !report.OK() {
			return nil, report.Err()
		}
		best = min(best, took)
	}
	figures := []cli.Figure{cli.AtLeast("validate", "MB/s", float64(size)/1e6/best.Seconds(), validateGoal)}
	program := ownProgram()
	if program == "" {
		return figures, nil
	}
	cmd := exec.CommandContext(ctx, program, "batch", "validate", input)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := sampleMemory(cmd.Process.Pid)
	err := cmd.Wait()
	if peak := stop(); peak > 0 {
		figures = append(figures, cli.AtMost("validate_memory", "MiB", peak, memoryGoal))
	}
	return figures, err
}

// ownProgram is this program as a file, empty for a test binary, which has no verbs.
func ownProgram() string {
	program, err := os.Executable()
	if err != nil || !strings.HasPrefix(filepath.Base(program), "cocoon") {
		return ""
	}
	return program
}

// sampleMemory watches the resident size of a process until stop is called, which returns the largest, in MiB. It is 0
// where the system does not tell.
func sampleMemory(pid int) (stop func() float64) {
	done, peak := make(chan struct{}), make(chan float64)
	go func() {
		most := 0.0
		t := time.NewTicker(memorySample)
		defer t.Stop()
		for {
			most = max(most, residentMiB(pid))
			select {
			case <-t.C:
			case <-done:
				peak <- most
				return
			}
		}
	}()
	return func() float64 {
		close(done)
		return <-peak
	}
}

// residentMiB is a process's resident size by Linux's /proc.
func residentMiB(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return float64(pages) * float64(os.Getpagesize()) / (1 << 20)
}

// benchSubmission submits batches and, in turn, publishes the same envelopes with nothing around them.
func benchSubmission(ctx context.Context, n *benchNet, dir string, lines int) ([]cli.Figure, []string, error) {
	client, stop, err := n.client(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer stop()
	input := filepath.Join(dir, "turn.jsonl")
	if _, err := writeBenchInput(input, lines, batchLine); err != nil {
		return nil, nil, err
	}
	publisher, err := reference.NewPublisher(ctx, n.bus)
	if err != nil {
		return nil, nil, err
	}
	raw := rawPublisher{publisher}
	var ours, theirs, ourCPU, theirCPU time.Duration
	for turn := range submissionTurns {
		b, _, err := batch.Create(ctx, filepath.Join(dir, fmt.Sprint("turn-", turn)), batch.Options{Input: input})
		if err != nil {
			return nil, nil, err
		}
		start, used := time.Now(), cpuTime()
		// Nobody works meanwhile: submission is measured, not the running of what was submitted.
		_, err = b.Run(ctx, client, batch.RunOptions{Detach: true})
		ours, ourCPU = ours+time.Since(start), ourCPU+cpuTime()-used
		if err = errors.Join(err, b.Close()); err != nil {
			return nil, nil, err
		}
		sealed, err := sealBench(ctx, client, input)
		if err != nil {
			return nil, nil, err
		}
		start, used = time.Now(), cpuTime()
		if err := raw.publish(ctx, sealed); err != nil {
			return nil, nil, err
		}
		theirs, theirCPU = theirs+time.Since(start), theirCPU+cpuTime()-used
	}
	total := float64(submissionTurns * lines)
	return []cli.Figure{
		cli.AtLeast("submission_vs_raw", "ratio", theirs.Seconds()/ours.Seconds(), submissionGoal),
		cli.Reported("submission", "1/s", total/ours.Seconds()), cli.Reported("raw", "1/s", total/theirs.Seconds()),
		cli.Reported("submission_cpu", "ms", float64(ourCPU.Microseconds())/1000/total), cli.Reported("raw_cpu", "ms", float64(theirCPU.Microseconds())/1000/total),
	}, []string{fmt.Sprintf("submission: %d turns of %d lines; one encapsulation for 1,000 lines, spool and journal on disk; raw: asynchronous publish of the same envelopes, window %d", submissionTurns, lines, reference.PublishWindow)}, nil
}

// sealBench seals the lines of an input as a batch does.
func sealBench(ctx context.Context, client *producers.Client, input string) (sealed []producers.Sealed, err error) {
	f, err := os.Open(input)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var jobs []producers.Job
	for l, err := range batch.Lines(f, batch.Rules{}) {
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, producers.Job{Body: append([]byte(nil), l.Call.Body...), Class: schemas.Batch})
		if len(jobs) == schemas.MaxPerEncapsulation {
			some, err := client.Seal(ctx, jobs)
			if err != nil {
				return nil, err
			}
			sealed, jobs = append(sealed, some...), jobs[:0]
		}
	}
	some, err := client.Seal(ctx, jobs)
	return append(sealed, some...), err
}

// rawPublisher publishes the same envelopes with the headers that jobs have, and nothing else.
type rawPublisher struct{ *reference.Publisher }

// publish publishes and waits for every acknowledgement.
func (p rawPublisher) publish(ctx context.Context, jobs []producers.Sealed) error {
	messages := make([]reference.Message, len(jobs))
	for i := range jobs {
		messages[i] = reference.Message{Header: jobs[i].Attributes.Header(), Body: jobs[i].Envelope, ID: jobs[i].Hash}
	}
	return p.Publish(ctx, messages)
}

// benchKill runs a batch in a process of its own, kills it with SIGKILL when half of the lines are answered, resumes and
// counts what was run twice. It needs this program as a file, so that a test binary leaves it out.
func benchKill(ctx context.Context, n *benchNet, dir string, _ int) (figures []cli.Figure, notes []string, err error) {
	program := ownProgram()
	if program == "" {
		return nil, []string{"kill -9 left out: this program is not `cocoon`"}, nil
	}
	data := filepath.Join(dir, "tenant")
	if err := n.writeData(ctx, data); err != nil {
		return nil, nil, err
	}
	input := filepath.Join(dir, "kill.jsonl")
	if _, err := writeBenchInput(input, killLines, 512); err != nil {
		return nil, nil, err
	}
	engine, drain, err := n.work(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, drain()) }()
	args := []string{"batch", "submit", input, "--id", "killed", "--class", "priority", "--quiet", "--data", data, "--nats", n.server.URL()}
	cmd := exec.CommandContext(ctx, program, args...)
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	folder := filepath.Join(data, "producer", "batches", "killed")
	if err := halfDone(ctx, folder, ended); err != nil {
		return nil, nil, err
	}
	if err := cmd.Process.Kill(); err != nil {
		return nil, nil, err
	}
	<-ended // with the news that it was killed
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return nil, nil, fmt.Errorf("resume after kill -9: %w: %s", err, out)
	}
	b, err := batch.Read(folder)
	if err != nil {
		return nil, nil, err
	}
	if s := b.Summary(); s.Completed != killLines {
		return nil, nil, fmt.Errorf("after kill -9: %+v", s)
	}
	return []cli.Figure{cli.AtMost("repeated_after_kill", "lines", float64(engine.Runs()-killLines), 0)}, nil, nil
}

// halfDone waits until half of the lines have an answer.
func halfDone(ctx context.Context, folder string, ended <-chan error) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		if b, err := batch.Read(folder); err == nil && b.Summary().Completed >= killLines/2 {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("the batch ended before it was killed: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// writeData writes what `cocoon batch` needs to speak for the tenant.
func (n *benchNet) writeData(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	trust, err := json.Marshal(n.trust)
	if err != nil {
		return err
	}
	documents, err := n.platform.Documents(ctx)
	if err != nil {
		return err
	}
	for name, d := range documents {
		b, err := json.Marshal(d)
		if err != nil {
			return err
		}
		if _, err := n.bus.Bucket(streams.BucketCollateral).Put(ctx, name, b); err != nil {
			return err
		}
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "trust.json"), trust, 0o600),
		os.WriteFile(filepath.Join(dir, "tenant-local.json"), n.tenant.Marshal(), 0o600),
	)
}
