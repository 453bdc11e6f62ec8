package consumers_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/stub"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestWorkerCrashes: a worker that dies at any point leaves a job that another one ends, once. A job whose outcome was
// stored before is not run again.
func TestWorkerCrashes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		point  consumers.Point
		again  int // runs by the second worker
		before int // runs by the one that died
	}{
		{consumers.PointTaken, 1, 0},
		{consumers.PointGranted, 1, 0},
		{consumers.PointRunning, 1, 1},
		{consumers.PointAnswered, 1, 1},
		{consumers.PointPublished, 0, 1},
	} {
		t.Run(string(c.point), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			first, second := newStub(1, nil), newStub(1, nil)
			dead := make(chan struct{})
			a := b.prepare(first)
			a.SetProbe(func(p consumers.Point, _ schemas.JobID, _ int) {
				if p == c.point {
					a.crash()
					close(dead)
				}
			})
			a.start()
			j := b.submit(1)[0]
			<-dead
			<-a.done
			if !errors.Is(a.err, consumers.ErrKilled) {
				t.Fatalf("Run of a killed worker: %v", a.err)
			}
			b.worker(second)
			if r := b.answer(j); r.Result.Err() != nil {
				t.Fatal(r.Result.Err())
			}
			b.eventually("the queue is empty", func() bool { return b.queued() == 0 })
			if first.Runs() != c.before || second.Runs() != c.again {
				t.Errorf("runs: %d and %d, want %d and %d", first.Runs(), second.Runs(), c.before, c.again)
			}
			if n := b.messages(streams.StreamOutcomes); n != 1 {
				t.Errorf("%d outcomes of one job", n)
			}
		})
	}
}

// TestWorkerFrozen: a worker stopped past its lease wakes up with a finished answer for a job that another worker has
// ended meanwhile. It lets go without a word: one outcome, nothing stolen, nothing queued.
func TestWorkerFrozen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	slow := newStub(1, func(*consumers.Request) stub.Act { <-release; return stub.Act{} })
	var count tally
	a := b.prepare(slow)
	a.SetProbe(count.probe(nil))
	a.start()
	j := b.submit(1)[0]
	b.eventually("the first worker has the job", func() bool { return count.at(consumers.PointGranted, j.Attributes.ID) == 1 })
	thaw := a.Freeze()
	quick := newStub(1, nil)
	second := b.worker(quick)
	grant := b.answer(j).Grant
	if grant.Worker != second.ID() || grant.Attempt != 2 {
		t.Errorf("ended by worker %s at attempt %d, want the second worker at attempt 2", grant.Worker, grant.Attempt)
	}
	thaw()
	close(release)
	b.eventually("the first worker has let go", func() bool { return slow.Running() == 0 })
	a.end()
	if n := count.at(consumers.PointPublished, j.Attributes.ID); n != 0 {
		t.Error("the first worker published for a job that was no longer its own")
	}
	if got := b.answer(j); got.Grant.Worker != second.ID() {
		t.Error("the outcome changed")
	}
	b.eventually("the queue is empty", func() bool { return b.queued() == 0 }) // the second worker acknowledges after its outcome
}

// TestWorkerKeepsLongJobs: a job that runs for many leases is neither delivered twice nor lost.
func TestWorkerKeepsLongJobs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	engine := stub.New(stub.Options{Slots: 4, Took: 3*queueLease + brokerLease})
	b.worker(engine)
	for _, j := range b.submit(4) {
		a := b.answer(j)
		if a.Result.Err() != nil || a.Grant.Attempt != 1 {
			t.Errorf("attempt %d: %v", a.Grant.Attempt, a.Result.Err())
		}
		if a.Grant.Lease.Before(a.Receipt.Finished) {
			t.Errorf("answered at %v under a lease that ended at %v", a.Receipt.Finished, a.Grant.Lease)
		}
	}
	if n := engine.Runs(); n != 4 {
		t.Errorf("%d runs of 4 jobs", n)
	}
}

// TestWorkerCancels: a cancelled job stops at its next step, and what it had produced is charged, no more.
func TestWorkerCancels(t *testing.T) {
	t.Parallel()
	b := setup(t)
	engine := newStub(2, func(*consumers.Request) stub.Act { return stub.Act{Hang: true, FailAt: 20} })
	b.worker(engine)
	j := b.seal(request("cancel me", true))
	b.publish(j)
	b.eventually("it stands still", func() bool { return engine.Hanging() == 1 }) // by then it has said all that it will
	claimed, err := b.bus.Stop(t.Context(), b.route.Slug, j.Attributes.Tenant, j.Attributes.ID, 5*time.Second)
	if err != nil || !claimed {
		t.Fatalf("claimed %v: %v", claimed, err)
	}
	a := b.answer(j)
	if !errors.Is(a.Result.Err(), schemas.KindCancelled) {
		t.Fatalf("the tenant reads %v", a.Result.Err())
	}
	full := stub.DefaultUsage()
	want := schemas.Usage{Prompt: full.Prompt, Cached: full.Cached, Completion: full.Completion * 20 / 50, Reasoning: full.Reasoning * 20 / 50}
	if a.Receipt == nil || a.Receipt.Usage != want || a.Receipt.Status != schemas.Cancelled {
		t.Errorf("receipt %+v, want a usage of %+v", a.Receipt, want)
	}
	b.eventually("the slot is free", func() bool { return engine.Running() == 0 })
}

// TestWorkerCancelsStranger: nobody stops a job by naming another tenant.
func TestWorkerCancelsStranger(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	engine := newStub(2, func(*consumers.Request) stub.Act { <-release; return stub.Act{} })
	var count tally
	w := b.prepare(engine)
	w.SetProbe(count.probe(nil))
	w.start()
	j := b.submit(1)[0]
	b.eventually("it runs", func() bool { return count.at(consumers.PointGranted, j.Attributes.ID) == 1 })
	claimed, err := b.bus.Stop(t.Context(), b.route.Slug, schemas.NewTenantID(), j.Attributes.ID, 200*time.Millisecond)
	if err != nil || claimed {
		t.Errorf("claimed %v: %v", claimed, err)
	}
	close(release)
	if a := b.answer(j); a.Result.Err() != nil {
		t.Error(a.Result.Err())
	}
}

// TestWorkerExpires: a job whose deadline passes while it runs ends as expired, and owes nothing.
func TestWorkerExpires(t *testing.T) {
	t.Parallel()
	b := setup(t)
	engine := newStub(2, func(*consumers.Request) stub.Act { return stub.Act{Hang: true} })
	b.worker(engine)
	j := b.submit(1, func(a *schemas.Attributes) {
		a.Time = time.Now().UTC().Truncate(time.Second)
		a.Expiry = a.Time.Add(6 * time.Second) // enough to begin, however busy the machine is
	})[0]
	o := b.outcome(j)
	if o.Status != schemas.Expired || o.Kind != schemas.KindExpired || o.Receipt != "" {
		t.Errorf("outcome %s, %v, receipt %q", o.Status, o.Kind, o.Receipt)
	}
	if engine.Runs() != 1 {
		t.Errorf("%d runs", engine.Runs())
	}
}

// TestWorkerRetries: a job whose engine breaks runs again, and one that breaks every engine ends as poison, with a copy
// for the operator.
func TestWorkerRetries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	soon := &schemas.Error{Kind: schemas.KindEngine, Message: "broke", RetryAfter: 50 * time.Millisecond}
	var tries atomic.Int64
	engine := newStub(4, func(r *consumers.Request) stub.Act {
		if prompted(r, "poison") || prompted(r, "once") && tries.Add(1) == 1 {
			return stub.Act{Break: soon, FailAt: 3}
		}
		return stub.Act{}
	})
	b.worker(engine)
	once, poison := b.seal(request("once", false)), b.seal(request("poison", false), func(a *schemas.Attributes) { a.Attempts = 2 })
	b.publish(once, poison)
	if a := b.answer(once); a.Result.Err() != nil || a.Grant.Attempt != 2 {
		t.Errorf("attempt %d: %v", a.Grant.Attempt, a.Result.Err())
	}
	if a := b.answer(poison); !errors.Is(a.Result.Err(), schemas.KindPoison) || a.Grant.Attempt != 2 {
		t.Errorf("attempt %d: %v", a.Grant.Attempt, a.Result.Err())
	}
	b.eventually("the queue is empty", func() bool { return b.queued() == 0 })
	for d, err := range b.bus.DeadLetters(t.Context(), streams.DeadSelector{}) {
		if err != nil {
			t.Fatal(err)
		}
		if d.Job != poison.Attributes.ID || d.Kind != schemas.KindPoison {
			t.Errorf("dead letter %+v", d)
		}
	}
	if n := b.messages(streams.StreamDead); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}

// TestWorkerDrains: a worker that is told to end finishes what it can in time, gives the rest back at once and takes
// nothing more.
func TestWorkerDrains(t *testing.T) {
	t.Parallel()
	b := setup(t)
	engine := newStub(4, func(r *consumers.Request) stub.Act {
		if prompted(r, "long") {
			return stub.Act{Hang: true}
		}
		return stub.Act{Took: 500 * time.Millisecond}
	})
	w := b.worker(engine, func(c *consumers.Config, _ *streams.Config) { c.DrainTimeout = 5 * time.Second })
	short, long := b.seal(request("short", false)), b.seal(request("long", false))
	b.publish(short, long)
	b.eventually("both run", func() bool { return engine.Running() == 2 })
	w.end()
	if w.err != nil {
		t.Errorf("Run: %v", w.err)
	}
	late := b.submit(1)[0]
	if a := b.answer(short); a.Result.Err() != nil {
		t.Errorf("the job that had time: %v", a.Result.Err())
	}
	second := newStub(4, nil)
	b.worker(second)
	for _, j := range []enclave.SealedJob{long, late} {
		if a := b.answer(j); a.Result.Err() != nil {
			t.Error(a.Result.Err())
		}
	}
	if second.Runs() != 2 {
		t.Errorf("the second worker ran %d jobs, want 2", second.Runs())
	}
	if c := engine.Capacity(); !c.Draining {
		t.Error("the engine was not drained")
	}
}

// TestWorkerHungEngine: jobs of an engine that stands still go back, and it is restarted before it gets more, whether or not
// they stream, and also when it never says a word.
func TestWorkerHungEngine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		stream bool
		after  int
		stall  time.Duration
	}{
		{"while it streams", true, 5, time.Second},
		{"while it computes", false, 5, time.Second},
		{"before it begins", false, 0, 200 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			hungEngine(t, c.stream, c.after, c.stall)
		})
	}
}

// hungEngine runs a job whose engine hangs after some chunks.
func hungEngine(t *testing.T, stream bool, after int, stall time.Duration) {
	b := setup(t)
	var hung atomic.Bool
	hung.Store(true)
	engine := newStub(2, func(*consumers.Request) stub.Act { return stub.Act{Hang: hung.Load(), FailAt: after} })
	var restarts atomic.Int64
	b.worker(engine, func(c *consumers.Config, _ *streams.Config) {
		c.StallTimeout = stall
		c.Restart = func(context.Context, schemas.ModelID) error {
			restarts.Add(1)
			hung.Store(false)
			return nil
		}
	})
	j := b.seal(request("stuck", stream))
	b.publish(j)
	a := b.answer(j)
	if a.Result.Err() != nil || a.Grant.Attempt != 2 {
		t.Errorf("attempt %d: %v", a.Grant.Attempt, a.Result.Err())
	}
	if n := restarts.Load(); n != 1 {
		t.Errorf("%d restarts, want 1", n)
	}
}

// TestWorkerWithoutBrokers: while the brokers are away jobs stay in the queue instead of using up deliveries.
func TestWorkerWithoutBrokers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var count tally
	w := b.prepare(newStub(2, nil))
	w.SetProbe(count.probe(nil))
	w.start()
	b.answer(b.submit(1)[0]) // it serves
	b.away.Store(true)
	jobs := b.submit(20)
	time.Sleep(3 * time.Second) // nothing may happen: a slower machine only looks less far
	taken := 0
	for _, j := range jobs {
		taken += count.at(consumers.PointTaken, j.Attributes.ID)
	}
	if taken > 4 {
		t.Errorf("%d jobs were taken while no broker answered", taken)
	}
	b.away.Store(false)
	for _, j := range jobs {
		if a := b.answer(j); a.Result.Err() != nil {
			t.Error(a.Result.Err())
		}
	}
}

// TestWorkerNotAdmitted: a policy that no longer admits the worker stops it within seconds, and one that does again
// brings it back. It does not end.
func TestWorkerNotAdmitted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	engine := newStub(2, nil)
	w := b.worker(engine, func(c *consumers.Config, _ *streams.Config) { c.PolicyChanged = b.net.World.Keeper.Changed })
	b.answer(b.submit(1)[0])
	policy := func(version uint64, models ...schemas.ModelID) {
		p := b.net.World.Policy()
		p.Version, p.Models = version, append([]schemas.ModelID{}, models...)
		if _, err := b.net.World.Keeper.Offer(b.net.World.Sign(t, p)); err != nil {
			t.Fatal(err)
		}
	}
	model := b.seal(request("", false)).Attributes.Model
	policy(2)
	b.eventually("the worker says that it is refused", func() bool { return b.entry(w).State == streams.WorkerRefused })
	j := b.submit(1)[0]
	time.Sleep(500 * time.Millisecond) // nothing may happen
	if n := engine.Runs(); n != 1 {
		t.Errorf("ran %d jobs, want the one before the policy", n)
	}
	policy(3, model)
	if a := b.answer(j); a.Result.Err() != nil {
		t.Error(a.Result.Err())
	}
}

// TestWorkerNeverAdmitted: a worker that is set up wrongly ends at once, saying why.
func TestWorkerNeverAdmitted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.net.World.Policy()
	p.Version, p.Models = 2, []schemas.ModelID{}
	if _, err := b.net.World.Keeper.Offer(b.net.World.Sign(t, p)); err != nil {
		t.Fatal(err)
	}
	w := b.prepare(newStub(1, nil))
	if err := w.Run(t.Context()); !errors.Is(err, schemas.KindPolicy) {
		t.Errorf("Run: %v", err)
	}
}

// TestWorkerFaultyWrites crosses every write of a worker with {lost, done but reported as failed}: the job has one outcome,
// it is charged once and the queue ends empty.
func TestWorkerFaultyWrites(t *testing.T) {
	t.Parallel()
	const failing = 3 // tries of the write
	for _, op := range []streams.Op{streams.OpOutcome, streams.OpDone, streams.OpExtend, streams.OpRetry, streams.OpDead, streams.OpBucket, streams.OpObject} {
		for _, fault := range []streamstest.Fault{streamstest.Lost, streamstest.DoneButError} {
			t.Run(string(op)+"/"+fault.String(), func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				var f streamstest.Faults
				f.Set(func(w streams.Write, n int) streamstest.Fault {
					if w.Op == op && n < failing {
						return fault
					}
					return streamstest.None
				})
				var tries atomic.Int64
				body := []byte(strings.Repeat("x", 600<<10))
				engine := newStub(2, func(*consumers.Request) stub.Act {
					act := stub.Act{}
					switch {
					case op == streams.OpExtend:
						act.Took = 2 * queueLease
					case op == streams.OpRetry && tries.Add(1) == 1, op == streams.OpDead:
						act.Break = &schemas.Error{Kind: schemas.KindEngine, RetryAfter: 50 * time.Millisecond}
					case op == streams.OpObject:
						act.Body = body
					}
					return act
				})
				b.worker(engine, func(_ *consumers.Config, s *streams.Config) { s.Intercept = f.Intercept })
				j := b.submit(1, func(a *schemas.Attributes) {
					if op == streams.OpDead {
						a.Attempts = 1
					}
				})[0]
				a := b.answer(j)
				if want := map[bool]schemas.Kind{true: schemas.KindPoison}[op == streams.OpDead]; schemas.KindOf(a.Result.Err()) != want {
					t.Errorf("the tenant reads %v", a.Result.Err())
				}
				b.eventually("the queue is empty", func() bool { return b.queued() == 0 })
				if n := b.messages(streams.StreamOutcomes); n != 1 {
					t.Errorf("%d outcomes", n)
				}
				if f.Count(op) == 0 {
					t.Error("the fault was never met: this case tests nothing")
				}
			})
		}
	}
}
