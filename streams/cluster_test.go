package streams_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestMain serves as a node of a cluster, or runs the tests and fails when they leave something running.
func TestMain(m *testing.M) {
	code := streamstest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// TestLeaderKill kills the leader of the job stream twice, with SIGKILL, while jobs go through: none is lost, each has one
// outcome, and no caller sees an error, because writes are repeated for longer than an election takes.
func TestLeaderKill(t *testing.T) {
	c := streamstest.NewCluster(t, streams.Topology{Lease: streams.Duration(3 * time.Second)})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	watcher := c.Connect(t, streams.Config{})
	if err := watcher.CreateConsumer(ctx, streamstest.Route, schemas.Standard); err != nil {
		t.Fatal(err)
	}
	var accepted sync.Map
	var jobs, executions, refused atomic.Int64
	producing, stopProducing := context.WithCancel(ctx)
	working, stopWorking := context.WithCancel(ctx)
	var producers, workers sync.WaitGroup
	for range 3 {
		bus, tenant := c.Connect(t, streams.Config{}), schemas.NewTenantID()
		producers.Go(func() {
			for producing.Err() == nil {
				j := streamstest.Job(tenant, []byte("sealed "+schemas.NewJobID()), nil)
				if _, err := bus.PublishJob(ctx, j); err != nil {
					t.Errorf("publish: %v", err)
					return
				}
				accepted.Store(j.Attributes.ID, tenant)
				jobs.Add(1)
				time.Sleep(3 * time.Millisecond)
			}
		})
	}
	for range 3 {
		bus := c.Connect(t, streams.Config{})
		workers.Go(func() {
			p, err := bus.NewPuller(working, streams.PullerOptions{Route: streamstest.Route, Classes: []schemas.Class{schemas.Standard}})
			if err != nil {
				t.Errorf("puller: %v", err)
				return
			}
			defer p.Close()
			for working.Err() == nil {
				ds, err := p.Next(working, 16)
				if err != nil {
					continue // away; the next call waits for it
				}
				for _, d := range ds {
					executions.Add(1)
					first, err := bus.PublishOutcome(ctx, streamstest.Outcome(d.Attributes, []byte("result of one worker")))
					if err != nil {
						t.Errorf("outcome: %v", err)
						continue
					}
					if !first {
						refused.Add(1)
					}
					if err := d.Done(ctx); err != nil {
						t.Errorf("done: %v", err)
					}
				}
			}
		})
	}
	for kill := range 2 {
		time.Sleep(time.Second)
		c.AwaitWhole(t, watcher, streams.StreamJobs(0))
		c.AwaitWhole(t, watcher, streams.StreamOutcomes)
		leader := c.Leader(t, watcher, streams.StreamJobs(0))
		if leader == nil {
			t.Fatal("no leader")
		}
		began := time.Now()
		leader.Kill()
		probe := streamstest.Job(schemas.NewTenantID(), []byte("probe "+schemas.NewJobID()), nil)
		if _, err := watcher.PublishJob(ctx, probe); err != nil {
			t.Errorf("publish through the kill: %v", err)
		}
		accepted.Store(probe.Attributes.ID, probe.Attributes.Tenant)
		t.Logf("kill %d of %s: publishing back after %v", kill+1, leader.Name, time.Since(began).Round(10*time.Millisecond))
		leader.Start()
	}
	c.AwaitWhole(t, watcher, streams.StreamJobs(0))
	stopProducing()
	producers.Wait()
	for queued := 1; queued > 0 && ctx.Err() == nil; time.Sleep(200 * time.Millisecond) {
		n := 0
		if err := watcher.ScanQueued(ctx, 0, "", 1, func(streams.Queued) (bool, error) { n++; return true, nil }); err == nil {
			queued = n
		}
	}
	stopWorking()
	workers.Wait()
	c.AwaitWhole(t, watcher, streams.StreamOutcomes) // any replica may answer below, also one that is behind
	lost := 0
	accepted.Range(func(id, tenant any) bool {
		if _, err := watcher.Outcome(ctx, tenant.(schemas.TenantID), id.(schemas.JobID)); errors.Is(err, schemas.KindNotFound) {
			lost++
		} else if err != nil {
			t.Error(err)
		}
		return true
	})
	if lost > 0 {
		t.Errorf("%d of %d accepted jobs have no outcome", lost, jobs.Load())
	}
	t.Logf("%d jobs, %d executions, %d outcomes refused as second", jobs.Load(), executions.Load(), refused.Load())
}

// TestRivals: two workers publish the outcome of one job at the same moment on a replicated stream. Exactly one is told that
// its outcome stands, and it does.
func TestRivals(t *testing.T) {
	c := streamstest.NewCluster(t, streams.Topology{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	rivals := [2]*streams.Bus{c.Connect(t, streams.Config{}), c.Connect(t, streams.Config{})}
	tenant := schemas.NewTenantID()
	for i := range 200 {
		job := streamstest.Job(tenant, []byte("sealed"), nil)
		var firsts [2]bool
		var wg sync.WaitGroup
		for r, bus := range rivals {
			wg.Go(func() {
				var err error
				if firsts[r], err = bus.PublishOutcome(ctx, streamstest.Outcome(job.Attributes, []byte{byte(r)})); err != nil {
					t.Errorf("job %d, rival %d: %v", i, r, err)
				}
			})
		}
		wg.Wait()
		if firsts[0] == firsts[1] {
			t.Fatalf("job %d: told first: %v", i, firsts)
		}
		winner := byte(0)
		if firsts[1] {
			winner = 1
		}
		// Any replica may answer, also one that does not have it yet.
		if o, err := rivals[0].AwaitOutcome(ctx, tenant, job.Attributes.ID); err != nil || o.Body[0] != winner {
			t.Fatalf("job %d: rival %d was told first, but %v stands (%v)", i, winner, o.Body, err)
		}
	}
}
