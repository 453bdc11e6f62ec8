package consumers

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Limits of leases.
const (
	// DefaultAckWait is how long the queue leaves a job with a worker that says nothing.
	DefaultAckWait = 30 * time.Second
	// DefaultHeartbeat is how often a worker says that it still runs a job.
	DefaultHeartbeat = 10 * time.Second
	// leaseMargin is the share of AckWait, as 1/leaseMargin, that the worker gives away: the queue's clock started
	// before the worker's, by the time the message was under way.
	leaseMargin = 10
	// maxExtending bounds the heartbeats that are under way at one time.
	maxExtending = 64
)

// errLeaseLost is why a job is dropped without a word: another worker may have it by now, and everything this worker
// could still say to the queue (Ack, Nak, Term) would hit the other one's delivery, because acks do not fence.
var errLeaseLost = errors.New("consumers: the lease of the job has lapsed")

// extender is what a lease needs of a delivery.
type extender interface {
	// Extend restarts the queue's clock. It returns nil only after the queue has answered.
	Extend(ctx context.Context) error
}

// lease is the worker's own account of how long a delivery is surely its own. It runs on the monotonic clock: setting
// the machine's clock neither extends nor ends it. It is pessimistic: time counts from the moment before the last
// heartbeat that the queue has confirmed was sent.
type lease struct {
	job    extender
	lose   context.CancelCauseFunc
	keeper *keeper

	// mu guards the three below, which the keeper and the job's own goroutine read.
	mu    sync.Mutex
	since time.Time // the queue's clock was restarted at or after this
	beat  time.Time // the last heartbeat was sent at
	over  bool      // released or lost
}

// held reports whether the delivery is surely still this worker's.
func (l *lease) held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.over && time.Since(l.since) < l.keeper.valid()
}

// release ends the account: the job was acknowledged, given back or dropped.
func (l *lease) release() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.keeper.forget(l)
}

// confirmed moves the lease forward after a heartbeat that was sent at the given time. A lease that lapsed while the
// heartbeat was under way stays lapsed: another worker may have been given the job in between.
func (l *lease) confirmed(sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over && time.Since(l.since) < l.keeper.valid() && sent.After(l.since) {
		l.since = sent
	}
}

// due reports whether a heartbeat is due and marks it as sent.
func (l *lease) due(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || now.Sub(l.beat) < l.keeper.every {
		return false
	}
	l.beat = now
	return true
}

// keeper keeps the leases of all jobs that a worker holds: one goroutine, whatever their number.
type keeper struct {
	wait  time.Duration // AckWait of the queue
	every time.Duration // heartbeats
	lost  func()        // counts lost leases

	// mu guards held. It is never taken while a lease's own mutex is held.
	mu   sync.Mutex
	held map[*lease]struct{}
}

// newKeeper returns a keeper for the given times.
func newKeeper(wait, every time.Duration, lost func()) *keeper {
	return &keeper{wait: wait, every: every, lost: lost, held: map[*lease]struct{}{}}
}

// valid is how long a lease is trusted without a confirmed heartbeat.
func (k *keeper) valid() time.Duration { return k.wait - k.wait/leaseMargin }

// hold starts the account of a delivery that arrived just now. lose is called with errLeaseLost, once, if it lapses.
func (k *keeper) hold(job extender, lose context.CancelCauseFunc) *lease {
	now := time.Now()
	l := &lease{job: job, lose: lose, keeper: k, since: now, beat: now}
	k.mu.Lock()
	k.held[l] = struct{}{}
	k.mu.Unlock()
	return l
}

// forget removes a lease.
func (k *keeper) forget(l *lease) {
	k.mu.Lock()
	delete(k.held, l)
	k.mu.Unlock()
}

// len is the number of jobs held.
func (k *keeper) len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.held)
}

// run sends heartbeats and ends lapsed leases until ctx ends. It looks several times per heartbeat interval, so that
// jobs which began at different times do not all beat at once and a lapse is seen early.
func (k *keeper) run(ctx context.Context) {
	const looks = 8
	tick := time.NewTicker(max(k.every/looks, time.Millisecond))
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, maxExtending)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, l := range k.sweep() {
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return
			}
			wg.Go(func() {
				defer func() { <-room }()
				k.extend(ctx, l)
			})
		}
	}
}

// sweep ends what has lapsed and returns the leases whose heartbeat is due.
func (k *keeper) sweep() []*lease {
	now := time.Now()
	k.mu.Lock()
	all := make([]*lease, 0, len(k.held))
	for l := range k.held {
		all = append(all, l)
	}
	k.mu.Unlock()
	due := all[:0]
	for _, l := range all {
		if !l.held() {
			k.end(l)
		} else if l.due(now) {
			due = append(due, l)
		}
	}
	return due
}

// end tells the owner of a lapsed lease, once.
func (k *keeper) end(l *lease) {
	l.mu.Lock()
	over := l.over
	l.over = true
	l.mu.Unlock()
	k.forget(l)
	if !over {
		k.lost()
		l.lose(errLeaseLost)
	}
}

// extend sends one heartbeat. A heartbeat that fails is not repeated before the next is due: the lease simply goes on
// running down.
func (k *keeper) extend(ctx context.Context, l *lease) {
	ctx, cancel := context.WithTimeout(ctx, k.every)
	defer cancel()
	sent := time.Now()
	if l.job.Extend(ctx) == nil {
		l.confirmed(sent)
	}
}
