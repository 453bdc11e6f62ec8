package batcher

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Batcher serves requests with one model. [Batcher.Run] is its only goroutine and the only one that touches the model.
type Batcher struct {
	cfg   Config
	wake  chan struct{} // an arrival or a drain, for a loop that rests
	grown chan struct{} // something ended, for Watch

	// mu guards everything below. It is held while a step is planned and while its result is applied, not while the
	// model computes, so Submit and Load never wait for the model.
	mu       sync.Mutex
	queue    queue
	running  []*sequence // in the order of admission
	kept     []*kept     // in the order of last use
	pool     pool
	slots    []int // free sequence numbers
	arrivals uint64
	admitted uint64
	share    float64 // share of the token limit that a request is expected to use
	dirty    bool    // free memory holds what a departed tenant left
	wiped    time.Time
	stepping time.Time // start of the step that runs now
	draining bool
	drained  chan struct{} // closed when a drain is complete
	closed   error         // why Submit is refused for good
	count    Counters
}

// Counters only grow.
type Counters struct {
	// Steps is the number of passes, Tokens those in them.
	Steps, Tokens uint64
	// Prompt and Generated tokens of all requests; Shared is the part of Prompt that was not computed.
	Prompt, Generated, Shared uint64
	// Finished, Failed and Cancelled requests (Cancelled includes those whose deadline passed).
	Finished, Failed, Cancelled uint64
	// Preempted sequences, Wipes of memory, failed Steps.
	Preempted, Wipes, StepFailures uint64
}

// Load is what goes on now.
type Load struct {
	Running, Waiting, Slots int
	// CellsUsed counts the cells that running and waiting requests have or are expected to need; it may exceed Cells.
	CellsUsed, Cells int
	// Stepping is since when the model has been computing, zero while it rests.
	Stepping time.Time
	Draining bool
	// Err is why the batcher has stopped for good.
	Err error
	Counters
}

// New makes a batcher. It does nothing before Run.
func New(c Config) (*Batcher, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Batcher{
		cfg:     c,
		wake:    make(chan struct{}, 1),
		grown:   make(chan struct{}, 1),
		queue:   queue{served: map[string]uint64{}, active: map[string]int{}},
		pool:    pool{total: c.Cells},
		share:   firstShare,
		drained: make(chan struct{}),
	}
	for i := c.Slots + c.Keep - 1; i >= 0; i-- {
		b.slots = append(b.slots, i)
	}
	return b, nil
}

// Submit queues requests that belong together: all of them are admitted to the queue or none, and one that fails ends the
// others. Their pieces come through one ticket, numbered in the order of the requests, each with its N answers in a row.
// It fails with KindInvalid or KindTooLarge when a request can never run, KindBusy when the queue has no room (an empty one
// takes any call), KindUnavailable when the batcher drains or has stopped. Cancelling ctx cancels all at the next step.
func (b *Batcher) Submit(ctx context.Context, rs ...Request) (*Ticket, error) {
	n := 0
	for i := range rs {
		if err := b.cfg.check(&rs[i]); err != nil {
			return nil, err
		}
		n += max(1, rs[i].N)
	}
	if n < 1 || n > MaxSequences {
		return nil, &schemas.Error{Kind: schemas.KindTooLarge, Message: "a call must have 1 to 2048 sequences"}
	}
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed != nil:
		return nil, &schemas.Error{Kind: schemas.KindUnavailable, Message: "the engine has stopped", Err: b.closed}
	case b.draining:
		return nil, &schemas.Error{Kind: schemas.KindUnavailable, Message: "the engine is draining"}
	case len(b.queue.waiting) > 0 && len(b.queue.waiting)+n > b.cfg.Queue:
		return nil, &schemas.Error{Kind: schemas.KindBusy, Message: "the engine's queue is full"}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	ticket := newTicket(cancel, n)
	var all []*sequence
	for _, r := range rs {
		all = append(all, newSequences(ctx, ticket, r, len(all), now)...)
	}
	for _, s := range all {
		if err := s.stale(now); err != nil {
			cancel(nil)
			return nil, err
		}
	}
	for _, s := range all {
		s.arrival = b.arrivals
		b.arrivals++
		b.count.Prompt += uint64(s.stats.Prompt)
		ticket.note(s)
		b.queue.enter(s)
	}
	notify(b.wake)
	return ticket, nil
}

// Run serves until ctx ends, which cancels all requests, or until the model is broken beyond repair: the error then.
func (b *Batcher) Run(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return b.stop(err)
		}
		p := b.plan()
		if p.empty() {
			if err := b.rest(ctx); err != nil {
				return b.stop(err)
			}
			continue
		}
		logits, err := b.step(p.Batch)
		if err := b.apply(p, logits, err); err != nil {
			return b.stop(err)
		}
	}
}

// step computes outside the lock.
func (b *Batcher) step(batch Batch) ([]float32, error) {
	logits, err := guard(func() ([]float32, error) { return b.cfg.Model.Step(batch) })
	if err == nil && len(logits) != len(batch.Out)*b.cfg.row() {
		err = schemas.Errorf(schemas.KindEngine, "the model returned %d numbers for %d rows", len(logits), len(batch.Out))
	}
	return logits, err
}

// Load is what goes on now. It costs a walk over the requests inside.
func (b *Batcher) Load() Load {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := Load{
		Running: len(b.running), Waiting: len(b.queue.waiting), Slots: b.cfg.Slots,
		Cells: b.cfg.Cells, Stepping: b.stepping, Draining: b.draining, Err: b.closed, Counters: b.count,
	}
	for _, s := range b.running {
		l.CellsUsed += len(s.cells) + s.promised()
	}
	for _, s := range b.queue.waiting {
		l.CellsUsed += b.need(s)
	}
	return l
}

// Watch receives a value after a request has ended. At most one waits in it.
func (b *Batcher) Watch() <-chan struct{} { return b.grown }

// Drain refuses new requests, waits for the others and wipes the memory. It needs Run to be running.
func (b *Batcher) Drain(ctx context.Context) error {
	b.mu.Lock()
	b.draining = true
	stopped := b.closed != nil
	b.mu.Unlock()
	if stopped {
		return nil // stop has wiped
	}
	notify(b.wake)
	select {
	case <-b.drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop ends all requests and wipes the memory.
func (b *Batcher) stop(cause error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	err := &schemas.Error{Kind: schemas.KindUnavailable, Message: "the engine has stopped", Err: cause}
	b.closed = cause
	for _, s := range slices.Concat(b.running, b.queue.waiting) {
		s.fail(err, now)
		b.count.Failed++
	}
	for _, s := range slices.Clone(b.running) {
		b.vacate(s)
	}
	b.running, b.queue.waiting = nil, nil
	b.dropAllKept()
	b.wipe(now)
	b.finishDrain()
	notify(b.grown)
	return cause
}

// finishDrain lets Drain return.
func (b *Batcher) finishDrain() {
	select {
	case <-b.drained:
	default:
		close(b.drained)
	}
}

// notify puts a value into a channel that holds one, unless it is there already.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
