package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon/consumers/stub"
	"github.com/cocoon-network/cocoon/producers/gateway"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// What the benchmark of the gateway does.
const (
	gatewayCallers = 30 // hey -c 30
	gatewayGoal    = 0.35
	// benchGC is how much garbage may gather, in percent of what lives: server, broker, worker, settlement, gateway and
	// the callers share a heap here that is small for each of them. It holds for all programs of a benchmark.
	benchGC = 400
)

// BenchGateway measures streamed chat requests through the gateway, and so through seal, JetStream, grant, open, run,
// seal and settle, beside the same requests straight at a server that streams the same 50 events of 128 bytes. They take
// turns in one run, with 30 callers and a connection for each request, as `hey -c 30 -disable-keepalive` makes them.
func BenchGateway(ctx context.Context, quick bool) (result cli.BenchResult, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(benchGC))
	result = cli.BenchResult{Bench: "gateway"}
	rounds, requests := 10, 2000
	if quick {
		rounds, requests = 3, 500
	}
	n, err := newBenchNet(ctx)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	_, drain, err := n.work(ctx)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, drain()) }()
	through, direct, stop, err := gatewayPair(ctx, n)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	body := []byte(`{"model":"` + benchModel + `","stream":true,"messages":[{"role":"user","content":"` + strings.Repeat("How do you do? ", 8) + `"}],"max_tokens":128}`)
	var slow, fast load
	for range rounds {
		if err := fast.add(ctx, direct, body, requests); err != nil {
			return result, err
		}
		if err := slow.add(ctx, through, body, requests); err != nil {
			return result, err
		}
	}
	booked, err := n.booked(ctx, rounds*requests)
	if err != nil {
		return result, err
	}
	result.Figures = []cli.Figure{
		cli.AtLeast("gateway_vs_direct", "ratio", slow.perSecond()/fast.perSecond(), gatewayGoal),
		cli.Reported("gateway", "1/s", slow.perSecond()), cli.Reported("direct", "1/s", fast.perSecond()),
		cli.Reported("gateway_p50", "ms", slow.quantile(0.5)), cli.Reported("gateway_p99", "ms", slow.quantile(0.99)),
		cli.Reported("direct_p50", "ms", fast.quantile(0.5)), cli.Reported("direct_p99", "ms", fast.quantile(0.99)),
		cli.Reported("gateway_cpu", "ms", slow.cpuEach()), cli.Reported("direct_cpu", "ms", fast.cpuEach()),
		cli.AtLeast("receipts_booked", "ratio", float64(booked)/float64(rounds*requests), 1),
	}
	result.Notes = []string{fmt.Sprintf("%d cores for everything, callers included; %d requests each in %d turns, %d callers, a connection for each request; stub engine, one broker, file storage, SQLite ledger",
		runtime.GOMAXPROCS(0), rounds*requests, rounds, gatewayCallers)}
	return result, nil
}

// gatewayPair serves the gateway and, beside it, a plain server that streams what the stub engine does.
func gatewayPair(ctx context.Context, n *benchNet) (through, direct string, stop func() error, err error) {
	client, closeClient, err := n.client(ctx)
	if err != nil {
		return "", "", nil, err
	}
	g, err := gateway.New(gateway.Options{Client: client})
	if err != nil {
		return "", "", nil, errors.Join(err, closeClient())
	}
	servers := []*http.Server{g.Server(), {Handler: http.HandlerFunc(streamStub), ReadHeaderTimeout: time.Minute}}
	urls := make([]string, len(servers))
	var serving sync.WaitGroup
	for i, s := range servers {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", nil, errors.Join(err, closeClient())
		}
		urls[i] = "http://" + l.Addr().String() + "/v1/chat/completions"
		serving.Go(func() { _ = s.Serve(l) }) // it ends with Close
	}
	return urls[0], urls[1], func() error {
		err := errors.Join(servers[0].Close(), servers[1].Close())
		serving.Wait()
		return errors.Join(err, closeClient())
	}, nil
}

// stubEvent is an event of 128 bytes.
var stubEvent = []byte("data: " + strings.Repeat("x", stub.DefaultChunkSize) + "\n\n")

// streamStub answers as the stub engine does, without anything around it.
func streamStub(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	c := http.NewResponseController(w)
	for range stub.DefaultChunks {
		if _, err := w.Write(stubEvent); err != nil {
			return
		}
		if err := c.Flush(); err != nil {
			return
		}
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// load is what callers measured.
type load struct {
	elapsed, cpu time.Duration
	times        []time.Duration
}

// add makes requests from all callers at once.
func (l *load) add(ctx context.Context, url string, body []byte, requests int) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var at atomic.Int64
	errs := make([]error, gatewayCallers)
	times := make([][]time.Duration, gatewayCallers)
	var wg sync.WaitGroup
	start, used := time.Now(), cpuTime()
	for w := range gatewayCallers {
		wg.Go(func() {
			for errs[w] == nil && at.Add(1) <= int64(requests) {
				begun := time.Now()
				errs[w] = one(ctx, client, url, body)
				times[w] = append(times[w], time.Since(begun))
			}
		})
	}
	wg.Wait()
	l.elapsed, l.cpu = l.elapsed+time.Since(start), l.cpu+cpuTime()-used
	for _, t := range times {
		l.times = append(l.times, t...)
	}
	return errors.Join(errs...)
}

// one makes a request and reads its answer to the end.
func one(ctx context.Context, client *http.Client, url string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	w, err := client.Do(r)
	if err != nil {
		return err
	}
	defer w.Body.Close()
	answer, err := io.ReadAll(w.Body)
	switch {
	case err != nil:
		return err
	case w.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answered %d: %.200s", url, w.StatusCode, answer)
	case !bytes.HasSuffix(answer, []byte("data: [DONE]\n\n")):
		return fmt.Errorf("%s sent a stream that is not whole: %d bytes", url, len(answer))
	}
	return nil
}

// perSecond is the throughput.
func (l *load) perSecond() float64 { return float64(len(l.times)) / l.elapsed.Seconds() }

// cpuEach is the processor time of a request, of everything in this process together, in milliseconds.
func (l *load) cpuEach() float64 {
	return float64(l.cpu.Microseconds()) / 1000 / float64(len(l.times))
}

// quantile is a quantile of the times, in milliseconds.
func (l *load) quantile(q float64) float64 {
	slices.Sort(l.times)
	return float64(l.times[int(q*float64(len(l.times)-1))].Microseconds()) / 1000
}

// booked waits until settlement has booked n receipts, or nothing is booked for a while, and says how many it has.
func (n *benchNet) booked(ctx context.Context, want int) (int, error) {
	last, since := -1, time.Now()
	for {
		stats := n.settle.Intake.Stats()
		have := int(stats.Booked)
		if have >= want || have == last && time.Since(since) > 10*time.Second {
			return have, nil
		}
		if have != last {
			last, since = have, time.Now()
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
