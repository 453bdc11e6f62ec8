//go:build !worker

package cli

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// The goals of the dashboard, and what its figures are taken over.
const (
	goalFirstPage = 200_000 // bytes transferred
	goalUpdateCPU = 3       // percent of a core
	dashboardWarm = 6 * time.Second
	// clockTick is the unit in which the system counts a process's time.
	clockTick = 10 * time.Millisecond
)

// BenchDashboard measures `cocoon dashboard`, a process of its own, on a network of 1,000 workers and 200 models that beats as
// a real one does, with the network page and the workers page open.
func BenchDashboard(ctx context.Context, quick bool) (result cli.BenchResult, err error) {
	dir, err := os.MkdirTemp("", "cocoon-bench-")
	if err != nil {
		return result, err
	}
	defer os.RemoveAll(dir)
	f, err := newBenchFleet(ctx, filepath.Join(dir, "nats"))
	if err != nil {
		return result, err
	}
	defer f.close(ctx)
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	var board *dashboardProcess
	defer func() {
		cancel() // ends the readers first, and then the process that they read from
		if board != nil {
			_ = board.cmd.Wait()
		}
		if ended := group.Wait(); err == nil && ended != nil && !errors.Is(ended, context.Canceled) {
			err = ended
		}
	}()
	group.Go(func() error { return f.run(ctx) })
	if board, err = startDashboard(ctx, f, dir); err != nil {
		return result, err
	}
	span := 30 * time.Second
	if quick {
		span = 8 * time.Second
	}
	return board.measure(ctx, group, span)
}

// dashboardProcess is a running `cocoon dashboard`.
type dashboardProcess struct {
	cmd *exec.Cmd
	url string
}

// startDashboard starts this very program as a dashboard and waits until it says where it listens.
func startDashboard(ctx context.Context, f *benchFleet, dir string) (*dashboardProcess, error) {
	trust, err := json.Marshal(f.trust)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "trust.json")
	if err := os.WriteFile(path, trust, 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "dashboard", "--nats", f.server.URL(), "--trust", path, "--listen", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &dashboardProcess{cmd: cmd}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if url := regexp.MustCompile(`http://[^/ ]+`).FindString(lines.Text()); url != "" {
			p.url = url
			return p, nil
		}
	}
	p.stop()
	return nil, schemas.Errorf(schemas.KindUnavailable, "the dashboard did not start")
}

// stop ends the process.
func (p *dashboardProcess) stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// measure opens the pages and looks at what they and the process take.
func (p *dashboardProcess) measure(ctx context.Context, group *errgroup.Group, span time.Duration) (cli.BenchResult, error) {
	select {
	case <-time.After(dashboardWarm): // every worker has told of itself once
	case <-ctx.Done():
		return cli.BenchResult{}, ctx.Err()
	}
	page, err := p.page(ctx, "network,history")
	if err != nil {
		return cli.BenchResult{}, err
	}
	workers, err := p.page(ctx, "network,workers,refusals")
	if err != nil {
		return cli.BenchResult{}, err
	}
	var read atomic.Int64
	for _, sections := range []string{"network,history", "network,workers,refusals"} {
		group.Go(func() error { return p.watch(ctx, sections, &read) })
	}
	before, err := p.cpu()
	if err != nil {
		return cli.BenchResult{}, err
	}
	began, readBefore := time.Now(), read.Load()
	select {
	case <-time.After(span):
	case <-ctx.Done():
		return cli.BenchResult{}, ctx.Err()
	}
	after, err := p.cpu()
	if err != nil {
		return cli.BenchResult{}, err
	}
	took := time.Since(began).Seconds()
	return cli.BenchResult{
		Bench: "dashboard",
		Figures: []cli.Figure{
			cli.AtMost("first_page", "bytes", float64(page), goalFirstPage),
			cli.AtMost("workers_page", "bytes", float64(workers), goalFirstPage),
			cli.AtMost("update_cpu", "percent", 100*(after-before).Seconds()/took, goalUpdateCPU),
			cli.Reported("stream", "bytes/s", float64(read.Load()-readBefore)/took),
		},
		Notes: []string{
			fmt.Sprintf("%d workers that beat every 5 s, %d models, %d outcomes a second; two pages open", fleetWorkers, fleetModels, fleetOutcomes),
			"bytes are as transferred, page files included; update_cpu is the dashboard process alone, over " + span.String(),
		},
	}, nil
}

// page is what a browser that knows nothing yet transfers until a page shows everything: the files, and the first state of
// the sections.
func (p *dashboardProcess) page(ctx context.Context, sections string) (int64, error) {
	var read atomic.Int64
	for _, path := range []string{"/", "/static/uplot.css", "/static/app.css", "/static/uplot.js", "/static/app.js", "/static/pages.js"} {
		body, err := p.get(ctx, path, &read)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, body)
		body.Close()
		if err != nil {
			return 0, err
		}
	}
	body, err := p.get(ctx, "/api/events?sections="+sections, &read)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	z, err := gzip.NewReader(body)
	if err != nil {
		return 0, err
	}
	missing := map[string]bool{}
	for name := range strings.SplitSeq(sections, ",") {
		missing["event: "+name] = true
	}
	for lines := bufio.NewReader(z); len(missing) > 0; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return 0, err
		}
		if name := string(bytes.TrimSpace(line)); missing[name] {
			delete(missing, name)
			if _, err := lines.ReadBytes('\n'); err != nil { // its data
				return 0, err
			}
		}
	}
	return read.Load(), nil
}

// watch reads a page's stream until ctx ends.
func (p *dashboardProcess) watch(ctx context.Context, sections string, read *atomic.Int64) error {
	body, err := p.get(ctx, "/api/events?sections="+sections, read)
	if err == nil {
		_, err = io.Copy(io.Discard, body)
		body.Close()
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// get asks for something compressed and counts what is transferred of it.
func (p *dashboardProcess) get(ctx context.Context, path string, read *atomic.Int64) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept-Encoding", "gzip") // set here, so that the client does not unpack
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, schemas.Errorf(schemas.KindUnavailable, "GET %s: %s", path, answer.Status)
	}
	for name, values := range answer.Header {
		read.Add(int64(len(name) + len(values[0]) + 4))
	}
	return &countedBody{answer.Body, read}, nil
}

// countedBody counts the bytes of a body as they come.
type countedBody struct {
	io.ReadCloser
	read *atomic.Int64
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	return n, err
}

// cpu is the time that the process has used of all processors.
func (p *dashboardProcess) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, schemas.Errorf(schemas.KindUnsupported, "this system does not tell what another process uses: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold blanks
	fields := strings.Fields(rest)
	const user, system = 11, 12 // fields 14 and 15 of the line
	if len(fields) <= system {
		return 0, schemas.Errorf(schemas.KindUnsupported, "this system does not tell what another process uses")
	}
	var ticks int64
	for _, i := range []int{user, system} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, schemas.Errorf(schemas.KindUnsupported, "process time: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}
