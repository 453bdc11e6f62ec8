package consumers_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/stub"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/control"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// poisoned is a network with a control service and brokers that can restart.
type poisoned struct {
	*bundle
	kept func(*broker.Config)
}

// setupPoisoned makes it.
func setupPoisoned(t *testing.T, o streamstest.Options) *poisoned {
	t.Helper()
	dir := t.TempDir()
	sealer, err := broker.NewFileSealer(filepath.Join(dir, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	b := &poisoned{kept: func(c *broker.Config) {
		c.LeaseTerm, c.Store, c.Sealer = brokerLease, broker.NewFileStore(filepath.Join(dir, "state")), sealer
	}}
	b.bundle = setupOn(t, o, b.kept)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- control.New(b.bus, control.Options{}).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("control: %v", err)
		}
	})
	return b
}

// restart puts brokers into place that know the group's keys and nothing else.
func (b *poisoned) restart() { b.broker.Store(b.net.NewBroker(b.t, b.kept)) }

// dead demands the end of a job as poison, with one letter for the operator.
func (b *poisoned) dead(j enclave.SealedJob) {
	b.t.Helper()
	if o := b.outcome(j); o.Status != schemas.Failed || o.Kind != schemas.KindPoison {
		b.t.Errorf("outcome %s, %v", o.Status, o.Kind)
	}
	if a := b.answer(j); !errors.Is(a.Result.Err(), schemas.KindPoison) {
		b.t.Errorf("the tenant reads %v", a.Result.Err())
	}
	b.eventually("the queue is empty", func() bool { return b.queued() == 0 })
	if n := b.messages(streams.StreamDead); n != 1 {
		b.t.Errorf("%d dead letters", n)
	}
}

// TestPoisonOutlivesBrokers: attempts are counted in the brokers' memory, and brokers that have restarted take the word of the
// grants that workers bring back: a job that breaks every engine runs as often as it may, no more.
func TestPoisonOutlivesBrokers(t *testing.T) {
	t.Parallel()
	b := setupPoisoned(t, streamstest.Options{})
	const attempts = 4
	var runs atomic.Int64
	b.worker(newStub(1, func(*consumers.Request) stub.Act {
		runs.Add(1)
		b.restart()
		return stub.Act{Break: &schemas.Error{Kind: schemas.KindEngine, RetryAfter: 10 * time.Millisecond}}
	}))
	b.dead(b.submit(1, func(a *schemas.Attributes) { a.Attempts = attempts })[0])
	if n := runs.Load(); n != attempts {
		t.Errorf("ran %d times, want %d", n, attempts)
	}
}

// TestPoisonOutlivesEverybody: a job that kills every worker, while all brokers restart each time, so that nobody is left who
// has counted. The queue has: it ends after its deliveries.
func TestPoisonOutlivesEverybody(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for the leases of all deliveries")
	}
	const deliveries = schemas.MaxAttempts + 6
	b := setupPoisoned(t, streamstest.Options{Topology: streams.Topology{Lease: streams.Duration(time.Second), Deliveries: deliveries}})
	j := b.submit(1, func(a *schemas.Attributes) { a.Attempts = schemas.MaxAttempts })[0]
	runs := 0
	for ; runs <= deliveries; runs++ {
		w := b.prepare(newStub(1, nil))
		dead := make(chan struct{})
		w.SetProbe(func(p consumers.Point, _ schemas.JobID, _ int) {
			if p == consumers.PointRunning {
				w.crash()
				close(dead)
			}
		})
		w.start()
		ended := make(chan struct{})
		waiting, stop := context.WithCancel(t.Context())
		go func() {
			defer close(ended)
			if _, err := b.bus.AwaitOutcome(waiting, j.Attributes.Tenant, j.Attributes.ID); err != nil {
				<-waiting.Done()
			}
		}()
		over := false
		select {
		case <-dead:
		case <-ended:
			over = true
		}
		stop()
		<-ended
		w.end()
		if over {
			break
		}
		b.restart()
	}
	if runs <= schemas.MaxAttempts || runs > deliveries {
		t.Errorf("ran %d times: somebody has counted after all, or the queue does not", runs)
	}
	b.dead(j)
}
