package streams_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// puller opens a puller on the test's model that ends with the test.
func puller(t testing.TB, bus *streams.Bus, o streams.PullerOptions) *streams.Puller {
	t.Helper()
	o.Route = streamstest.Route
	p, err := bus.NewPuller(streamstest.Context(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// publish stores n jobs and returns them.
func publish(t testing.TB, bus *streams.Bus, tenant schemas.TenantID, n int, change func(*schemas.Attributes)) []streams.Job {
	t.Helper()
	var jobs []streams.Job
	for range n {
		j := streamstest.Job(tenant, []byte("sealed "+schemas.NewJobID()), change)
		if _, err := bus.PublishJob(streamstest.Context(t), j); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, j)
	}
	return jobs
}

// class makes jobs of a class.
func class(c schemas.Class) func(*schemas.Attributes) {
	return func(a *schemas.Attributes) { a.Class = c }
}

// TestPullsExactly: never more than asked for, urgent classes first, nothing twice, nothing lost.
func TestPullsExactly(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	tenant := schemas.NewTenantID()
	publish(t, bus, tenant, 7, class(schemas.Batch))
	publish(t, bus, tenant, 5, class(schemas.Standard))
	publish(t, bus, tenant, 3, class(schemas.Priority))
	p := puller(t, bus, streams.PullerOptions{})
	var order []schemas.Class
	seen := map[schemas.JobID]bool{}
	for _, limit := range []int{1, 4, 2, 20} {
		ds, err := p.Next(ctx, limit)
		if err != nil || len(ds) == 0 || len(ds) > limit {
			t.Fatalf("asked for %d: %d deliveries, %v", limit, len(ds), err)
		}
		for _, d := range ds {
			if seen[d.Attributes.ID] {
				t.Errorf("job %s twice", d.Attributes.ID)
			}
			seen[d.Attributes.ID] = true
			order = append(order, d.Attributes.Class)
		}
	}
	want := "[priority priority priority standard standard standard standard standard batch batch batch batch batch batch batch]"
	if got := fmt.Sprint(order); got != want {
		t.Errorf("order %s", got)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if ds, err := p.Next(short, 8); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing is left: %d %v", len(ds), err)
	}
	if _, err := p.Next(ctx, 0); !errors.Is(err, schemas.KindInvalid) {
		t.Errorf("no free slot: %v", err)
	}
}

// TestWakesAtOnce: a job that arrives while a puller waits is there long before the next poll, job after job.
func TestWakesAtOnce(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	p := puller(t, bus, streams.PullerOptions{Poll: time.Hour})
	for i := range 300 {
		arrived := make(chan error, 1)
		go func() {
			short, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			ds, err := p.Next(short, 1+i%8)
			if err == nil {
				err = ds[0].Done(ctx)
			}
			arrived <- err
		}()
		publish(t, bus, schemas.NewTenantID(), 1, class(schemas.Classes()[i%3]))
		if err := <-arrived; err != nil {
			t.Fatalf("job %d: %v", i, err)
		}
	}
}

// TestWakesOneOfMany: bursts reach idle pullers without polls, although each wake-up goes to one of them and some are full.
func TestWakesOneOfMany(t *testing.T) {
	t.Parallel()
	bus, server := streamstest.NewWith(t, streamstest.Options{})
	ctx, cancel := context.WithCancel(streamstest.Context(t))
	var pulling sync.WaitGroup
	defer pulling.Wait() // a puller is closed by the goroutine that uses it, or after it
	defer cancel()
	const pullers, jobs = 8, 400
	done := make(chan error, jobs)
	for range pullers {
		other := streamstest.Connect(t, server, streams.Config{})
		p := puller(t, other, streams.PullerOptions{Poll: time.Hour})
		pulling.Go(func() {
			for {
				ds, err := p.Next(ctx, 1)
				if ctx.Err() != nil {
					return
				}
				if err == nil {
					err = ds[0].Done(ctx)
				}
				done <- err
			}
		})
	}
	tenant := schemas.NewTenantID()
	for range jobs / 20 {
		publish(t, bus, tenant, 20, nil)
		for range 20 {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(time.Minute):
				t.Fatal("a job waits although pullers are idle")
			}
		}
	}
}

// TestLease: a lease runs by the monotonic clock, is extended, lapses, and a lapsed delivery can harm nobody.
func TestLease(t *testing.T) {
	t.Parallel()
	streamstest.Bubble(t, func(t *testing.T) {
		bus, ctx := streamstest.New(t), t.Context()
		publish(t, bus, schemas.NewTenantID(), 1, func(a *schemas.Attributes) { a.Expiry = a.Time.Add(24 * time.Hour) })
		p := puller(t, bus, streams.PullerOptions{})
		ds, err := p.Next(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		first := ds[0]
		for range 10 {
			time.Sleep(streams.Heartbeat)
			if left := first.Lease(); left > streams.AckWait-streams.Heartbeat || left == 0 {
				t.Fatalf("%v left", left)
			}
			if err := first.Extend(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if first.Lease() != streams.AckWait || first.Beat() != streams.Heartbeat {
			t.Errorf("after extending: %v", first.Lease())
		}
		time.Sleep(streams.AckWait)
		if first.Lease() != 0 {
			t.Errorf("lapsed, but %v left", first.Lease())
		}
		if ds, err = p.Next(ctx, 1); err != nil || ds[0].Delivered != 2 || ds[0].Ack != first.Ack {
			t.Fatalf("second delivery: %v", err)
		}
		second := ds[0]
		for name, err := range map[string]error{
			"retry": first.Retry(ctx, 0), "terminate": first.Terminate(ctx, "late"), "extend": first.Extend(ctx),
		} {
			if !errors.Is(err, streams.ErrLeaseLost) {
				t.Errorf("%s after the lease: %v", name, err)
			}
		}
		if err := second.Retry(ctx, 5*time.Second); err != nil {
			t.Errorf("retry: %v", err)
		}
		before := time.Now()
		if ds, err = p.Next(ctx, 1); err != nil || ds[0].Delivered != 3 {
			t.Fatalf("third delivery: %v", err)
		}
		if waited := time.Since(before); waited < 5*time.Second || waited > 7*time.Second {
			t.Errorf("came back after %v, want 5 s", waited)
		}
		if err := ds[0].Terminate(ctx, "broken\nfor ever"); err != nil {
			t.Errorf("terminate: %v", err)
		}
		// Done is no harm after the end, by anybody.
		for _, d := range []*streams.Delivery{first, second, ds[0]} {
			if err := d.Done(ctx); err != nil {
				t.Errorf("done: %v", err)
			}
		}
	})
}

// TestMissingConsumer: a queue whose consumer is deleted, or lost by a restart, is there again for whoever pulls.
func TestMissingConsumer(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	p := puller(t, bus, streams.PullerOptions{Poll: 50 * time.Millisecond})
	for range 3 {
		jobs := publish(t, bus, schemas.NewTenantID(), 2, nil)
		if err := streams.DeleteConsumer(ctx, bus, streamstest.Route, schemas.Standard); err != nil {
			t.Fatal(err)
		}
		for range jobs {
			ds, err := p.Next(ctx, 1)
			if err != nil {
				t.Fatal(err)
			}
			if err := ds[0].Done(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestFairness: in a split queue a tenant's only job overtakes another's flood.
func TestFairness(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	q := streams.Queue{Route: streamstest.Route, Class: schemas.Standard}
	flood, lone := schemas.NewTenantID(), schemas.NewTenantID()
	for streams.Lane(lone, 16) == streams.Lane(flood, 16) {
		lone = schemas.NewTenantID()
	}
	p := puller(t, bus, streams.PullerOptions{Poll: 20 * time.Millisecond})
	publish(t, bus, flood, 500, nil)
	if err := bus.SplitQueue(ctx, q); err != nil {
		t.Fatal(err)
	}
	publish(t, bus, lone, 1, nil)
	served := 0
	for step := 1; served == 0 && step < 20; step++ {
		ds, err := p.Next(ctx, 4)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			if d.Attributes.Tenant == lone {
				served = step
			}
			if err := d.Done(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if served == 0 || served > 3 {
		t.Errorf("the lone job was served at step %d of 4 jobs each", served)
	}
}

// contextFor is a context with a deadline of its own.
func contextFor(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}
