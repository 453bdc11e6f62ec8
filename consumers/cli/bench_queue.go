//go:build !worker

package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/consumers/stub"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/reference"
)

// queuePlan is how much the benchmark of the queues does.
type queuePlan struct {
	depth          int // jobs that wait in the deep queue
	rounds, submit int // of submissions: how often, and jobs each
	work           int // jobs that the worker does
	shards, models int
	turns, moved   int // of the models: how often, and messages each
}

// queuePlanOf is the plan of a quick or a whole run.
func queuePlanOf(quick bool) queuePlan {
	if quick {
		return queuePlan{depth: 20_000, rounds: 15, submit: 1000, work: 300, shards: 5, models: 100, turns: 5, moved: 5000}
	}
	return queuePlan{depth: 1_000_000, rounds: 21, submit: 2000, work: 2000, shards: 10, models: 1000, turns: 5, moved: 20_000}
}

// Shape of the deep queue.
const (
	// deepBody is the size of the envelopes that wait.
	deepBody = 256
	// shortPart is which part of the deep queue's jobs wait in the short one: enough to outlast the worker's real jobs.
	shortPart = 20
	// emptyShard is the shard of the queue that is kept empty, firstShard the first one of the many models.
	emptyShard, firstShard = 1, 2
)

// BenchQueue measures what a full queue costs those who submit and those who work, and what many models cost the server.
func BenchQueue(ctx context.Context, quick bool) (result cli.BenchResult, err error) {
	defer func(rate int) { runtime.MemProfileRate = rate }(runtime.MemProfileRate)
	runtime.MemProfileRate = heapRate
	n, err := newBenchNet(ctx)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	plan := queuePlanOf(quick)
	if _, err := n.bus.Apply(ctx, streams.Topology{Shards: firstShard + plan.shards, TenantQueue: benchQueueCap}); err != nil {
		return result, err
	}
	b := &queueBench{pipelineBench: pipelineBench{net: n, result: cli.BenchResult{Bench: "queue"}}, plan: plan, flood: schemas.NewTenantID()}
	for _, step := range []func(context.Context) error{b.shallow, b.fill, b.submission, b.deep, b.manyModels} {
		if err := step(ctx); err != nil {
			return result, err
		}
	}
	b.note("%d cores, server and all clients in one process, file storage, one replica; envelopes of %d bytes wait", runtime.GOMAXPROCS(0), deepBody)
	if quick {
		b.note("quick: %d jobs wait and %d models share %d shards", plan.depth, plan.models, plan.shards)
	}
	return b.result, nil
}

// queueBench is one run.
type queueBench struct {
	pipelineBench
	plan queuePlan
	// flood is whose jobs fill the deep queue; nobody can open them.
	flood schemas.TenantID
	made  uint64
	like  schemas.Attributes // what a job looks like
	empty float64            // heap of a worker on a short queue
}

// heapRate is the mean number of bytes between two samples of the heap's profile.
const heapRate = 4 << 10

// workerHeap is what is in use after a collection, in bytes, by everything in this process but the server, which is known by
// who allocated it.
func workerHeap() float64 {
	runtime.GC()
	runtime.GC() // the profile is that of the collection before the last one
	var records []runtime.MemProfileRecord
	for n, ok := 0, false; !ok; {
		if n, ok = runtime.MemProfile(records, false); ok {
			records = records[:n]
		} else {
			records = make([]runtime.MemProfileRecord, n+100) // others allocate meanwhile
		}
	}
	sum := 0.0
	for _, r := range records {
		if objects := r.InUseObjects(); objects > 0 && !ofServer(r.Stack()) {
			// A sample stands for more the smaller its objects are.
			size := float64(r.InUseBytes()) / float64(objects)
			sum += float64(r.InUseBytes()) / (1 - math.Exp(-size/heapRate))
		}
	}
	return sum
}

// ofServer reports whether the server is on a stack.
func ofServer(stack []uintptr) bool {
	frames := runtime.CallersFrames(stack)
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, "github.com/nats-io/nats-server/") {
			return true
		}
		if !more {
			return false
		}
	}
}

// shallow lets a worker do its jobs on a queue that holds little else: as much as keeps all its slots busy when its heap is
// looked at, as they are on the deep queue.
func (b *queueBench) shallow(ctx context.Context) (err error) {
	b.empty, err = b.worked(ctx, func() error {
		if err := b.submitReal(ctx, b.plan.work); err != nil {
			return err
		}
		_, err := b.submitted(ctx, b.waiting(0, b.plan.depth/shortPart))
		return err
	})
	return err
}

// deep lets a worker do its jobs, which are the oldest ones, while the flood waits behind them.
func (b *queueBench) deep(ctx context.Context) error {
	full, err := b.worked(ctx, func() error { return nil })
	if err != nil {
		return err
	}
	const mebi = 1 << 20
	b.add(
		cli.Reported("worker_heap_short_queue", "MiB", b.empty/mebi), cli.Reported("worker_heap_deep_queue", "MiB", full/mebi),
		cli.AtMost("worker_heap_deep_vs_short", "ratio", full/b.empty, 1.25),
	)
	return nil
}

// worked lets a worker do the real jobs that submit queues, or that wait, and returns its heap after them.
func (b *queueBench) worked(ctx context.Context, submit func() error) (heap float64, err error) {
	feed, err := b.net.bus.Outcomes(ctx, b.net.tenant.ID())
	if err != nil {
		return 0, err
	}
	defer feed.Close()
	if err := submit(); err != nil {
		return 0, err
	}
	crew, err := b.net.crew(ctx, 1, stub.Options{Slots: benchSlots})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, crew.end()) }()
	for range b.plan.work {
		o, err := feed.Next(ctx)
		if err != nil {
			return 0, err
		}
		if o.Status != schemas.Succeeded {
			return 0, &schemas.Error{Kind: o.Kind, Message: "a job did not succeed"}
		}
	}
	return workerHeap(), nil
}

// submitReal seals and queues jobs that a worker can do.
func (b *queueBench) submitReal(ctx context.Context, n int) error {
	seals := enclave.NewSubmission(b.net.tenant, b.net.key)
	var failed error
	_, err := b.submitted(ctx, func(yield func(streams.Job) bool) {
		for range n {
			var j enclave.SealedJob
			if j, failed = b.seal(seals); failed != nil {
				return
			}
			b.like = j.Attributes
			if !yield(streams.Job{Attributes: j.Attributes, Envelope: j.Envelope}) {
				return
			}
		}
	})
	return errors.Join(err, failed)
}

// fill puts the worker's jobs into the deep queue and the flood behind them.
func (b *queueBench) fill(ctx context.Context) error {
	if err := b.submitReal(ctx, b.plan.work); err != nil {
		return err
	}
	took, err := b.submitted(ctx, b.waiting(0, b.plan.depth))
	b.add(cli.Reported("waiting", "jobs", float64(b.plan.depth)), cli.Reported("fill_rate", "1/s", float64(b.plan.depth)/took.Seconds()))
	return err
}

// waiting makes jobs of the flood.
func (b *queueBench) waiting(shard, n int) func(func(streams.Job) bool) {
	return func(yield func(streams.Job) bool) {
		for range n {
			j := streams.Job{Shard: shard, Attributes: b.like, Envelope: make([]byte, deepBody)}
			j.Attributes.ID, j.Attributes.Tenant = schemas.NewJobID(), b.flood
			b.made++
			binary.BigEndian.PutUint64(j.Envelope, b.made) // each envelope is another one, or it would be a duplicate
			if !yield(j) {
				return
			}
		}
	}
}

// submitted queues jobs as a bulk submission does and returns how long that took.
func (b *queueBench) submitted(ctx context.Context, jobs func(func(streams.Job) bool)) (time.Duration, error) {
	start := time.Now()
	for p := range b.net.bus.PublishJobs(ctx, jobs, streams.BulkOptions{Window: reference.Window}) {
		if p.Err != nil {
			return 0, p.Err
		}
	}
	return time.Since(start), nil
}

// submission takes turns between submitting to the deep queue and to an empty one.
func (b *queueBench) submission(ctx context.Context) error {
	drain, err := b.net.bus.NewPuller(ctx, streams.PullerOptions{
		Route: streams.Route{Shard: emptyShard, Slug: b.net.model.Slug}, Classes: []schemas.Class{schemas.Standard},
	})
	if err != nil {
		return err
	}
	defer drain.Close()
	var spent [2][]time.Duration // on the deep queue, on the empty one
	shards := [2]int{0, emptyShard}
	for round := range b.plan.rounds {
		for turn := range shards {
			i := (round + turn) % len(shards) // who comes second finds the server at what the first one left to do
			runtime.GC()
			took, err := b.submitted(ctx, b.waiting(shards[i], b.plan.submit))
			if err != nil {
				return err
			}
			spent[i] = append(spent[i], took)
		}
		if err := b.drained(ctx, drain); err != nil {
			return err
		}
	}
	b.compare("submit", "deep", "empty", b.plan.submit, spent, 0.80)
	return nil
}

// drained takes the jobs of one round out of the empty queue.
func (b *queueBench) drained(ctx context.Context, p *streams.Puller) error {
	for left := b.plan.submit; left > 0; {
		jobs, err := p.Next(ctx, min(left, 500))
		if err != nil {
			return err
		}
		group, ctx := errgroup.WithContext(ctx)
		for _, d := range jobs {
			group.Go(func() error { return d.Done(ctx) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		left -= len(jobs)
	}
	return nil
}

// manyModels takes turns between the queues of many models in the job streams and as many bare work queues.
func (b *queueBench) manyModels(ctx context.Context) error {
	plain, err := reference.NewPlainModels(ctx, b.net.bus, b.plan.shards, b.plan.models)
	if err != nil {
		return err
	}
	ours, err := reference.NewModels(ctx, b.net.bus, firstShard, b.plan.shards, b.plan.models)
	if err != nil {
		return err
	}
	var spent [2][]time.Duration // by ours, by the plain ones
	for turn := -1; turn < b.plan.turns; turn++ {
		for i, m := range []*reference.Models{ours, plain} {
			runtime.GC()
			took, err := m.Run(ctx, b.plan.moved)
			if err != nil {
				return err
			}
			if turn >= 0 { // the first turn warms up
				spent[i] = append(spent[i], took)
			}
		}
	}
	b.add(cli.Reported("models", "models", float64(b.plan.models)))
	b.compare("models", "sharded", "plain", b.plan.moved, spent, 0.60)
	return nil
}

// compare adds the median rates of two sides that took turns at n things each, and the median of the turns' ratios: a turn in
// which the machine was busy with something else does not move it.
func (b *queueBench) compare(what, one, other string, n int, spent [2][]time.Duration, goal float64) {
	ratios := make([]float64, len(spent[0]))
	for i := range ratios {
		ratios[i] = spent[1][i].Seconds() / spent[0][i].Seconds()
	}
	slices.Sort(ratios)
	rate := func(side int) float64 { return float64(n) / quantile(spent[side], 0.5).Seconds() }
	b.add(
		cli.Reported(what+"_rate_"+one, "1/s", rate(0)), cli.Reported(what+"_rate_"+other, "1/s", rate(1)),
		cli.AtLeast(what+"_"+one+"_vs_"+other, "ratio", ratios[len(ratios)/2], goal),
	)
}
