package consumers

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/streams"
)

// Limits of leases.
const (
	// leaseBeats is how many heartbeats are sent per lease, and leaseLooks how many times per heartbeat the keeper looks at
	// its leases, so that jobs which began at different times do not all beat at once and a lapse is seen early.
	leaseBeats = 3
	leaseLooks = 8
	// maxExtending bounds the heartbeats that are under way at one time.
	maxExtending = 64
)

// errLeaseLost is why a job is dropped without a word: another worker may have it by now, and everything this worker
// could still say to the queue would hit the other one's delivery, because acks do not fence.
var errLeaseLost = errors.New("consumers: the lease of the job has lapsed")

// leased is what a lease needs of a delivery; *streams.Delivery has it. Its account of the time is pessimistic and
// monotonic: counted from before the last confirmed heartbeat was sent, untouched by who sets the machine's clock.
type leased interface {
	// Lease is how long the job is surely still ours.
	Lease() time.Duration
	// Extend restarts the queue's clock. It returns nil only after the queue has answered.
	Extend(ctx context.Context) error
}

// lease is one job in the keeper's care.
type lease struct {
	job    leased
	lose   context.CancelCauseFunc
	keeper *keeper
	every  time.Duration // between two heartbeats

	// mu guards the two below. It is held for no call.
	mu   sync.Mutex
	beat time.Time // the last heartbeat was sent at
	over bool      // released or lost
}

// held reports whether the delivery is surely still this worker's. A lease that lapsed once stays lost, even if a
// heartbeat that was under way is confirmed later: another worker may have been given the job in between.
func (l *lease) held() bool {
	if l.job.Lease() <= 0 {
		l.keeper.end(l)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.over
}

// release ends the keeper's care: the job was acknowledged, given back or dropped.
func (l *lease) release() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.keeper.forget(l)
}

// due reports whether a heartbeat is due and marks it as sent.
func (l *lease) due(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || now.Sub(l.beat) < l.every {
		return false
	}
	l.beat = now
	return true
}

// keeper keeps the leases of all jobs that a worker holds: one goroutine, whatever their number.
type keeper struct {
	lost  func()        // counts lost leases
	hurry chan struct{} // a lease shorter than all before was taken; holds at most one

	// mu guards the two below. It is never taken while a lease's own mutex is held.
	mu     sync.Mutex
	leases map[*lease]struct{}
	// beat is the shortest time between two heartbeats of any lease so far.
	beat time.Duration
}

// newKeeper returns a keeper; run makes it work.
func newKeeper(lost func()) *keeper {
	return &keeper{lost: lost, hurry: make(chan struct{}, 1), leases: map[*lease]struct{}{}, beat: streams.Heartbeat}
}

// hold begins to care for a delivery that arrived just now. lose is called with errLeaseLost, once, if it lapses.
func (k *keeper) hold(job leased, lose context.CancelCauseFunc) *lease {
	l := &lease{job: job, lose: lose, keeper: k, beat: time.Now(), every: max(job.Lease()/leaseBeats, time.Millisecond)}
	k.mu.Lock()
	k.leases[l] = struct{}{}
	if l.every < k.beat {
		k.beat = l.every
		poke(k.hurry)
	}
	k.mu.Unlock()
	return l
}

// forget removes a lease.
func (k *keeper) forget(l *lease) {
	k.mu.Lock()
	delete(k.leases, l)
	k.mu.Unlock()
}

// count is the number of jobs held.
func (k *keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.leases)
}

// run sends heartbeats and ends lapsed leases until ctx ends.
func (k *keeper) run(ctx context.Context) {
	tick := time.NewTicker(k.look())
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, maxExtending)
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.hurry:
			tick.Reset(k.look())
			continue
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

// look is the time between two looks.
func (k *keeper) look() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return max(k.beat/leaseLooks, time.Millisecond)
}

// sweep ends what has lapsed and returns the leases whose heartbeat is due.
func (k *keeper) sweep() []*lease {
	now := time.Now()
	k.mu.Lock()
	due := make([]*lease, 0, len(k.leases))
	for l := range k.leases {
		due = append(due, l)
	}
	k.mu.Unlock()
	return slices.DeleteFunc(due, func(l *lease) bool { return !l.held() || !l.due(now) })
}

// end tells the owner of a lapsed lease, once.
func (k *keeper) end(l *lease) {
	l.mu.Lock()
	over := l.over
	l.over = true
	l.mu.Unlock()
	if over {
		return
	}
	k.forget(l)
	k.lost()
	l.lose(errLeaseLost)
}

// extend sends one heartbeat. One that was not confirmed is repeated at the next look; the delivery keeps the account,
// and its lease goes on running down meanwhile.
func (k *keeper) extend(ctx context.Context, l *lease) {
	ctx, cancel := context.WithTimeout(ctx, l.every)
	defer cancel()
	if l.job.Extend(ctx) != nil {
		l.mu.Lock()
		l.beat = time.Time{}
		l.mu.Unlock()
	}
}
