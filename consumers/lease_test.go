package consumers

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeDelivery answers heartbeats as the test says.
type fakeDelivery struct {
	mu     sync.Mutex
	beats  int
	silent bool          // heartbeats fail
	slow   time.Duration // heartbeats take this long to be confirmed
}

func (d *fakeDelivery) Extend(ctx context.Context) error {
	d.mu.Lock()
	d.beats++
	silent, slow := d.silent, d.slow
	d.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if silent {
		return errors.New("no answer")
	}
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

// startKeeper runs a keeper with the default times for the length of the test.
func startKeeper(t *testing.T) (k *keeper, lost *int) {
	t.Helper()
	lost = new(int)
	k = newKeeper(DefaultAckWait, DefaultHeartbeat, func() { *lost++ })
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
		d := &fakeDelivery{}
		ctx, cancel := context.WithCancelCause(t.Context())
		l := k.hold(d, cancel)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if ctx.Err() != nil || !l.held() || *lost != 0 {
			t.Fatalf("a lease with confirmed heartbeats was lost after 10 minutes: %v", context.Cause(ctx))
		}
		if n := d.count(); n < 50 || n > 61 {
			t.Errorf("%d heartbeats in 10 minutes, want one every 10 s or little more", n)
		}
		l.release()
		before := d.count()
		time.Sleep(time.Minute)
		if d.count() != before || k.len() != 0 {
			t.Error("heartbeats go on after the release")
		}
	})
}

// TestLeaseLapses: without a confirmed heartbeat the worker gives up before the queue does.
func TestLeaseLapses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, lost := startKeeper(t)
		d := &fakeDelivery{silent: true}
		ctx, cancel := context.WithCancelCause(t.Context())
		start := time.Now()
		l := k.hold(d, cancel)
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), errLeaseLost) || l.held() {
			t.Errorf("cause %v, held %v", context.Cause(ctx), l.held())
		}
		if took := time.Since(start); took >= DefaultAckWait || took < DefaultAckWait*8/10 {
			t.Errorf("gave up after %v, want a little before %v", took, DefaultAckWait)
		}
		if *lost != 1 {
			t.Errorf("counted %d lost leases, want 1", *lost)
		}
	})
}

// TestLeaseSurvivesMissedHeartbeat: one unanswered heartbeat of three is nothing.
func TestLeaseSurvivesMissedHeartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, _ := startKeeper(t)
		d := &fakeDelivery{}
		ctx, cancel := context.WithCancelCause(t.Context())
		k.hold(d, cancel)
		for range 20 {
			d.set(true)
			time.Sleep(11 * time.Second)
			d.set(false)
			time.Sleep(11 * time.Second)
		}
		if ctx.Err() != nil {
			t.Errorf("lost: %v", context.Cause(ctx))
		}
	})
}

// TestLeaseFrozen is a worker stopped (SIGSTOP) past its lease: when it goes on, the lease is gone before anything
// else may happen, and an answer to an old heartbeat does not bring it back.
func TestLeaseFrozen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(DefaultAckWait, DefaultHeartbeat, func() {}) // its goroutine is frozen: it does not run
		d := &fakeDelivery{}
		ctx, cancel := context.WithCancelCause(t.Context())
		l := k.hold(d, cancel)
		time.Sleep(10 * time.Second)
		sent := time.Now()
		time.Sleep(40 * time.Second)
		if l.held() {
			t.Fatal("still held after 50 s without a heartbeat")
		}
		l.confirmed(sent) // the answer lay in the socket all the time
		if l.held() {
			t.Fatal("a late answer revived a lapsed lease")
		}
		k.sweep()
		if !errors.Is(context.Cause(ctx), errLeaseLost) {
			t.Errorf("cause %v", context.Cause(ctx))
		}
	})
}

// TestLeaseCountsFromSending: a heartbeat whose answer took long extends from when it was sent.
func TestLeaseCountsFromSending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(DefaultAckWait, DefaultHeartbeat, func() {})
		_, cancel := context.WithCancelCause(t.Context())
		l := k.hold(&fakeDelivery{}, cancel)
		time.Sleep(10 * time.Second)
		sent := time.Now()
		time.Sleep(9 * time.Second)
		l.confirmed(sent)
		time.Sleep(k.valid() - 9*time.Second - time.Nanosecond)
		if !l.held() {
			t.Error("lost before its time")
		}
		time.Sleep(2 * time.Nanosecond)
		if l.held() {
			t.Error("counted from the answer instead of the sending")
		}
	})
}

// TestLeaseIgnoresWallClock: times without a monotonic reading would follow a clock that somebody sets.
func TestLeaseIgnoresWallClock(t *testing.T) {
	t.Parallel()
	k := newKeeper(DefaultAckWait, DefaultHeartbeat, func() {})
	_, cancel := context.WithCancelCause(t.Context())
	l := k.hold(&fakeDelivery{}, cancel)
	if l.since == l.since.Round(0) {
		t.Error("the lease's time has no monotonic reading: setting the clock would move it")
	}
}
