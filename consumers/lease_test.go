package consumers

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/streams"
)

// Times of the tests of this file.
const (
	testAckWait   = streams.AckWait
	testHeartbeat = streams.Heartbeat
)

// fakeDelivery keeps a lease as streams.Delivery does and answers heartbeats as the test says.
type fakeDelivery struct {
	mu     sync.Mutex
	since  time.Time
	beats  int
	silent bool // heartbeats fail
}

func newFakeDelivery() *fakeDelivery { return &fakeDelivery{since: time.Now()} }

func (d *fakeDelivery) Lease() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(testAckWait-time.Since(d.since), 0)
}

func (d *fakeDelivery) Extend(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.beats++
	if d.silent {
		return errors.New("no answer")
	}
	d.since = time.Now()
	return nil
}

func (d *fakeDelivery) set(silent bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.silent = silent
}

func (d *fakeDelivery) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.beats
}

// startKeeper runs a keeper for the length of the test.
func startKeeper(t *testing.T) (k *keeper, lost *int) {
	t.Helper()
	lost = new(int)
	k = newKeeper(func() { *lost++ })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return k, lost
}

func TestLeaseIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, lost := startKeeper(t)
		d := newFakeDelivery()
		ctx, cancel := context.WithCancelCause(t.Context())
		l := k.hold(d, cancel)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if ctx.Err() != nil || !l.held() || *lost != 0 {
			t.Fatalf("a lease with confirmed heartbeats was lost: %v", context.Cause(ctx))
		}
		if n := d.count(); n < 50 || n > 61 {
			t.Errorf("%d heartbeats in 10 minutes, want one every 10 s or little more", n)
		}
		l.release()
		before := d.count()
		time.Sleep(time.Minute)
		if d.count() != before || k.count() != 0 {
			t.Error("heartbeats go on after the release")
		}
		if ctx.Err() != nil {
			t.Error("a released lease was reported as lost")
		}
	})
}

// TestLeaseLapses: without a confirmed heartbeat the job's context ends when the lease does, once.
func TestLeaseLapses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, lost := startKeeper(t)
		d := newFakeDelivery()
		d.set(true)
		ctx, cancel := context.WithCancelCause(t.Context())
		start := time.Now()
		l := k.hold(d, cancel)
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), errLeaseLost) || l.held() {
			t.Errorf("cause %v, held %v", context.Cause(ctx), l.held())
		}
		if took := time.Since(start); took > testAckWait+testHeartbeat/leaseLooks {
			t.Errorf("noticed after %v, the lease was %v", took, testAckWait)
		}
		time.Sleep(time.Minute)
		if *lost != 1 {
			t.Errorf("counted %d lost leases, want 1", *lost)
		}
	})
}

// TestLeaseSurvivesOutage: heartbeats that fail for less than a lease are nothing, because they are repeated soon.
func TestLeaseSurvivesOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, _ := startKeeper(t)
		d := newFakeDelivery()
		ctx, cancel := context.WithCancelCause(t.Context())
		k.hold(d, cancel)
		for range 20 {
			d.set(true)
			time.Sleep(testAckWait - testHeartbeat - 2*testHeartbeat/leaseLooks)
			d.set(false)
			time.Sleep(testHeartbeat)
		}
		if ctx.Err() != nil {
			t.Errorf("lost: %v", context.Cause(ctx))
		}
	})
}

// TestLeaseFrozen is a worker stopped (SIGSTOP) past its lease: when it goes on, the first look finds the lease gone,
// and a heartbeat that is confirmed afterwards does not bring it back.
func TestLeaseFrozen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(func() {}) // its goroutine is frozen: it does not run
		d := newFakeDelivery()
		ctx, cancel := context.WithCancelCause(t.Context())
		l := k.hold(d, cancel)
		time.Sleep(testAckWait + time.Second)
		if l.held() {
			t.Fatal("still held after the lease")
		}
		if err := d.Extend(t.Context()); err != nil || d.Lease() <= 0 {
			t.Fatal("the fake does not play the late heartbeat")
		}
		if l.held() {
			t.Error("a late heartbeat revived a lapsed lease")
		}
		if !errors.Is(context.Cause(ctx), errLeaseLost) {
			t.Errorf("cause %v", context.Cause(ctx))
		}
	})
}
