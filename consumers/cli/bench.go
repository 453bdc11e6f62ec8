//go:build !worker

package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/stub"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/reference"
)

// What the benchmark of the pipeline does.
const (
	benchBody   = 4 << 10 // bytes of a request
	benchSlots  = 64      // jobs at work
	benchPace   = 10 * time.Millisecond
	benchBudget = schemas.TON / 100
	// benchGC is how much garbage may gather, in percent of what lives: server, brokers, workers and clients share a heap
	// here that is small for each of them. It holds for all programs.
	benchGC = 400
)

// benchPlan is how much is done.
type benchPlan struct {
	rounds, jobs   int // of throughput
	blocks, paced  int // of latency
	scaled         time.Duration
	flood, fairTry int
}

// planOf is the plan of a quick or a whole run.
func planOf(quick bool) benchPlan {
	if quick {
		return benchPlan{rounds: 4, jobs: 400, blocks: 2, paced: 60, scaled: 700 * time.Millisecond, flood: 3000, fairTry: 3}
	}
	return benchPlan{rounds: 12, jobs: 1000, blocks: 5, paced: 200, scaled: 3 * time.Second, flood: 10_000, fairTry: 7}
}

// BenchPipeline measures the way of a job through the network beside two reference programs, in one run that takes turns:
// what else happens on the machine befalls all of them alike.
func BenchPipeline(ctx context.Context, quick bool) (result cli.BenchResult, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(benchGC))
	n, err := newBenchNet(ctx)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	b := &pipelineBench{net: n, plan: planOf(quick), result: cli.BenchResult{Bench: "pipeline"}}
	for _, step := range []func(context.Context) error{b.prepare, b.throughput, b.latency, b.release, b.scaling, b.fairness} {
		if err := step(ctx); err != nil {
			return result, err
		}
	}
	b.note("%d cores, server and all clients in one process, file storage, one replica, requests of %d bytes, stub engine", runtime.GOMAXPROCS(0), benchBody)
	b.note("the floor verifies with crypto/ed25519; the pipeline verifies known keys with tables, and soon knows all of them")
	if quick {
		b.note("quick: few jobs, the figures are noisy")
	}
	return b.result, nil
}

// pipelineBench is one run.
type pipelineBench struct {
	net        *benchNet
	plan       benchPlan
	result     cli.BenchResult
	raw, floor *reference.Program
	crew       *benchCrew
}

// add adds figures.
func (b *pipelineBench) add(figures ...cli.Figure) {
	b.result.Figures = append(b.result.Figures, figures...)
}

// note adds a condition.
func (b *pipelineBench) note(format string, args ...any) {
	b.result.Notes = append(b.result.Notes, fmt.Sprintf(format, args...))
}

// prepare starts one worker and takes the shape of a job's messages from a real one.
func (b *pipelineBench) prepare(ctx context.Context) (err error) {
	if b.crew, err = b.net.crew(ctx, 1, stub.Options{Slots: benchSlots}); err != nil {
		return err
	}
	s, err := b.shape(ctx)
	if err != nil {
		return err
	}
	chunk := (stub.DefaultChunks*stub.DefaultChunkSize/schemas.ChunkQuantum + 1) * schemas.ChunkQuantum
	crypt, err := newBareCrypto(len(s.Job), chunk, len(s.Outcome))
	if err != nil {
		return err
	}
	if b.raw, err = reference.New(ctx, b.net.bus, s, benchSlots, nil); err != nil {
		return err
	}
	b.floor, err = reference.New(ctx, b.net.bus, s, benchSlots, crypt)
	return err
}

// shape runs one job and keeps its two messages.
func (b *pipelineBench) shape(ctx context.Context) (s reference.Shape, err error) {
	j, err := b.seal(enclave.NewSubmission(b.net.tenant, b.net.key))
	if err != nil {
		return s, err
	}
	if _, err := b.net.bus.PublishJob(ctx, streams.Job{Attributes: j.Attributes, Envelope: j.Envelope}); err != nil {
		return s, err
	}
	o, err := b.net.bus.AwaitOutcome(ctx, j.Attributes.Tenant, j.Attributes.ID)
	if err != nil {
		return s, err
	}
	if o.Status != schemas.Succeeded {
		return s, &schemas.Error{Kind: o.Kind, Message: "the first job did not succeed"}
	}
	return reference.Shape{
		JobHeader: j.Attributes.Header(), Job: j.Envelope, OutcomeHeader: o.Header(), Outcome: o.Body,
	}, nil
}

// benchRequest is the body of every job: benchBody bytes that ask for live chunks.
func benchRequest() []byte {
	const before, after = `{"model":"bench","stream":true,"messages":[{"role":"user","content":"`, `"}]}`
	return []byte(before + strings.Repeat("x", benchBody-len(before)-len(after)) + after)
}

// seal seals one job.
func (b *pipelineBench) seal(s *enclave.Submission) (enclave.SealedJob, error) {
	return s.Seal(schemas.Attributes{Budget: benchBudget}, schemas.Request{URL: consumers.PathChat, Body: b.net.request, Stream: true},
		enclave.SpendLimit{Multiplier: schemas.One})
}

// pipeline takes n jobs of a tenant the whole way: sealed, queued, granted, run, answered, opened. Like reference.Program.Run it
// returns when all results were opened, and the times when paced.
func (b *pipelineBench) pipeline(ctx context.Context, tenant *enclave.Tenant, n int, pace time.Duration) ([]time.Duration, error) {
	feed, err := b.net.bus.Outcomes(ctx, tenant.ID())
	if err != nil {
		return nil, err
	}
	defer feed.Close()
	clock := reference.NewClock(n)
	opened := make(chan error, 1)
	go func() { opened <- b.open(ctx, tenant, feed, n, clock) }()
	seals := enclave.NewSubmission(tenant, b.net.key)
	var failed error
	jobs := func(yield func(streams.Job) bool) {
		for i := range n {
			if failed = clock.Wait(ctx, i, pace); failed != nil {
				return
			}
			start := time.Now()
			var j enclave.SealedJob
			if j, failed = b.seal(seals); failed != nil {
				return
			}
			clock.Begin(j.Attributes.ID, start)
			if !yield(streams.Job{Attributes: j.Attributes, Envelope: j.Envelope}) {
				return
			}
		}
	}
	for p := range b.net.bus.PublishJobs(ctx, jobs, streams.BulkOptions{Window: reference.Window}) {
		if p.Err != nil {
			return nil, p.Err
		}
	}
	if failed != nil {
		return nil, failed
	}
	if err := <-opened; err != nil {
		return nil, err
	}
	return clock.Times(), nil
}

// open opens n results as they come.
func (b *pipelineBench) open(ctx context.Context, tenant *enclave.Tenant, feed *streams.Feed[schemas.Outcome], n int, clock *reference.Clock) error {
	expect := enclave.Expect{Broker: b.net.key.Broker()}
	for range n {
		o, err := feed.Next(ctx)
		if err != nil {
			return err
		}
		answer, err := tenant.OpenResult(o, expect)
		if err != nil {
			return err
		}
		if err := answer.Result.Err(); err != nil {
			return err
		}
		clock.End(o.Job)
	}
	return nil
}

// throughput takes turns between the three programs and compares their sums.
func (b *pipelineBench) throughput(ctx context.Context) error {
	programs := []func(int) error{
		func(n int) error { _, err := b.raw.Run(ctx, n, 0); return err },
		func(n int) error { _, err := b.floor.Run(ctx, n, 0); return err },
		func(n int) error { _, err := b.pipeline(ctx, b.net.tenant, n, 0); return err },
	}
	spent := make([]time.Duration, len(programs))
	for round := -1; round < b.plan.rounds; round++ {
		for i, run := range programs {
			runtime.GC()
			start, jobs := time.Now(), b.plan.jobs
			if round < 0 {
				jobs = min(jobs, 200) // warms up
			}
			if err := run(jobs); err != nil {
				return err
			}
			if round >= 0 {
				spent[i] += time.Since(start)
			}
		}
	}
	rate := func(i int) float64 { return float64(b.plan.rounds*b.plan.jobs) / spent[i].Seconds() }
	b.add(
		cli.Reported("raw_throughput", "1/s", rate(0)), cli.Reported("floor_throughput", "1/s", rate(1)),
		cli.Reported("pipeline_throughput", "1/s", rate(2)),
		cli.AtLeast("throughput_vs_floor", "ratio", rate(2)/rate(1), 0.70),
		cli.AtLeast("throughput_vs_raw", "ratio", rate(2)/rate(0), 0.30),
	)
	return nil
}

// latency compares the times of single jobs at a low rate.
func (b *pipelineBench) latency(ctx context.Context) error {
	var floor, pipeline []time.Duration
	for range b.plan.blocks {
		f, err := b.floor.Run(ctx, b.plan.paced, benchPace)
		if err != nil {
			return err
		}
		p, err := b.pipeline(ctx, b.net.tenant, b.plan.paced, benchPace)
		if err != nil {
			return err
		}
		floor, pipeline = append(floor, f...), append(pipeline, p...)
	}
	for _, q := range []struct {
		name string
		at   float64
		goal float64
	}{{"p50", 0.50, 1.5}, {"p99", 0.99, 2}} {
		f, p := quantile(floor, q.at), quantile(pipeline, q.at)
		b.add(
			cli.Reported("floor_latency_"+q.name, "ms", milliseconds(f)), cli.Reported("pipeline_latency_"+q.name, "ms", milliseconds(p)),
			cli.AtMost("latency_vs_floor_"+q.name, "ratio", float64(p)/float64(f), q.goal),
		)
	}
	return nil
}

// release ends the worker of the first figures.
func (b *pipelineBench) release(context.Context) error { return b.crew.end() }

// scaling measures more and more workers whose engines take 50 ms a job.
func (b *pipelineBench) scaling(ctx context.Context) error {
	const took, slots = 50 * time.Millisecond, 2
	var one float64
	for workers := 1; workers <= 16; workers *= 2 {
		crew, err := b.net.crew(ctx, workers, stub.Options{Slots: slots, Took: took, Chunks: 5})
		if err != nil {
			return err
		}
		jobs := int(b.plan.scaled/took) * slots * workers
		start := time.Now()
		_, err = b.pipeline(ctx, b.net.tenant, jobs, 0)
		elapsed := time.Since(start)
		if err := errors.Join(err, crew.end()); err != nil {
			return err
		}
		rate := float64(jobs) / elapsed.Seconds()
		if workers == 1 {
			one = rate
		}
		name := fmt.Sprintf("workers_%d", workers)
		b.add(cli.Reported(name+"_throughput", "1/s", rate))
		if workers > 1 {
			b.add(cli.AtLeast(name+"_vs_linear", "ratio", rate/one/float64(workers), 0.90))
		}
	}
	return nil
}

// fairness measures how long one tenant's single job waits behind another tenant's flood, beside the wait alone.
func (b *pipelineBench) fairness(ctx context.Context) error {
	if err := b.net.control(ctx); err != nil {
		return err
	}
	crew, err := b.net.crew(ctx, 1, stub.Options{Slots: 8, Took: 20 * time.Millisecond, Chunks: 5})
	if err != nil {
		return err
	}
	defer func() { _ = crew.end() }()
	small, err := b.net.newTenant(ctx)
	if err != nil {
		return err
	}
	alone, err := b.waits(ctx, small)
	if err != nil {
		return err
	}
	flood, err := b.net.newTenant(ctx)
	if err != nil {
		return err
	}
	flooding, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = b.pipeline(flooding, flood, b.plan.flood, 0) }) // it is cut off below
	defer wg.Wait()
	defer stop()
	if err := b.flooded(ctx); err != nil {
		return err
	}
	behind, err := b.waits(ctx, small)
	if err != nil {
		return err
	}
	// A flood that ended meanwhile would make the figure say nothing.
	if waiting, _, err := b.waiting(ctx); err != nil || waiting == 0 {
		return errors.Join(err, schemas.Errorf(schemas.KindInternal, "the flood did not outlast the measurement: %d jobs wait", waiting))
	}
	b.add(
		cli.Reported("fair_wait_alone", "ms", milliseconds(quantile(alone, 0.5))), cli.Reported("fair_wait_behind_flood", "ms", milliseconds(quantile(behind, 0.5))),
		cli.AtMost("fair_wait_vs_alone", "ratio", float64(quantile(behind, 0.5))/float64(quantile(alone, 0.5)), 2),
	)
	return nil
}

// Times of the flood.
const (
	floodPoll = 50 * time.Millisecond
	floodWait = 20 * time.Second
)

// flooded returns when many jobs wait and control has split their queue into lanes, as it does for a hot model.
func (b *pipelineBench) flooded(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, floodWait, errors.New("the flood never filled the queue"))
	defer cancel()
	tick := time.NewTicker(floodPoll)
	defer tick.Stop()
	for {
		waiting, lanes, err := b.waiting(ctx)
		if err == nil && waiting > 0 && lanes > 1 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// waiting is how many jobs wait in all queues, and the most lanes that one of them has.
func (b *pipelineBench) waiting(ctx context.Context) (jobs uint64, lanes int, err error) {
	backlogs, err := b.net.bus.Backlogs(ctx)
	for _, q := range backlogs {
		jobs += q.Pending
		lanes = max(lanes, q.Lanes)
	}
	return jobs, lanes, err
}

// waits runs single jobs of a tenant one after the other.
func (b *pipelineBench) waits(ctx context.Context, tenant *enclave.Tenant) (all []time.Duration, err error) {
	for range b.plan.fairTry {
		times, err := b.pipeline(ctx, tenant, 1, time.Nanosecond)
		if err != nil {
			return nil, err
		}
		all = append(all, times...)
	}
	return all, nil
}

// quantile is the value below which a share of the times lies.
func quantile(times []time.Duration, share float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

// milliseconds is a time as a figure.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
