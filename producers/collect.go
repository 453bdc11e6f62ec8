package producers

import (
	"context"
	"runtime"
	"sync"

	"github.com/cocoon-network/cocoon/schemas"
)

// Settled is one job's end: an answer, an error, or both for a job that was cancelled after it cost something.
type Settled struct {
	Job    schemas.JobID
	Answer *Answer
	Err    error
}

// Collector verifies the outcomes of many jobs as they come. Its queue is bounded by the jobs it was given.
type Collector struct {
	c       *Client
	opened  chan Settled
	life    context.Context
	stop    context.CancelFunc
	workers sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	pending map[schemas.JobID]*expected
	arrived []arrival
	more    chan struct{} // wakes a worker; holds one value
}

// expected is a job that a collector waits for.
type expected struct {
	attributes schemas.Attributes
	in         *expectation
}

// arrival is an outcome that waits to be opened.
type arrival struct {
	outcome    schemas.Outcome
	attributes schemas.Attributes
}

// Collect returns a collector.
func (c *Client) Collect() *Collector {
	k := &Collector{c: c, opened: make(chan Settled), pending: map[schemas.JobID]*expected{}, more: make(chan struct{}, 1)}
	k.life, k.stop = context.WithCancel(c.life)
	for range runtime.GOMAXPROCS(0) {
		k.workers.Add(1)
		c.wg.Go(func() {
			defer k.workers.Done()
			k.work()
		})
	}
	return k
}

// Add expects outcomes for jobs. Call it before they are published. For jobs that may have been published before, set
// ask: outcomes that are there already are looked up before Add returns, and [Collector.Open] tells which jobs have none.
// A job is expected once, however often it is added.
func (k *Collector) Add(ctx context.Context, jobs []Sealed, ask bool) error {
	if err := k.c.hub.listen(ctx); err != nil {
		return err
	}
	ids := make([]schemas.JobID, 0, len(jobs))
	for i := range jobs {
		a := jobs[i].Attributes
		k.mu.Lock()
		if k.pending[a.ID] == nil {
			e := &expected{attributes: a}
			k.pending[a.ID] = e
			e.in = k.c.hub.expect(a.ID, false, func(o schemas.Outcome) { k.arrive(o, a) })
			ids = append(ids, a.ID)
		}
		k.mu.Unlock()
	}
	if ask {
		k.c.hub.ask(k.c.hub.lookUp(ids)...) // what had no answer is asked for again
	}
	return ctx.Err()
}

// Open reports whether a job that was added has no outcome yet.
func (k *Collector) Open(job schemas.JobID) bool { return k.c.hub.expected(job) }

// Len is the number of jobs without an outcome.
func (k *Collector) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.pending)
}

// arrive queues an outcome. It never blocks the hub.
func (k *Collector) arrive(o schemas.Outcome, a schemas.Attributes) {
	k.mu.Lock()
	k.arrived = append(k.arrived, arrival{o, a})
	k.mu.Unlock()
	k.wake()
}

// wake wakes one worker.
func (k *Collector) wake() {
	select {
	case k.more <- struct{}{}:
	default:
	}
}

// work opens outcomes until the collector is closed.
func (k *Collector) work() {
	for {
		next, ok := k.take()
		if !ok {
			select {
			case <-k.more:
				continue
			case <-k.life.Done():
				return
			}
		}
		answer, err := k.c.open(k.life, next.outcome, &next.attributes)
		select {
		case k.opened <- Settled{Job: next.outcome.Job, Answer: answer, Err: err}:
		case <-k.life.Done():
			return
		}
	}
}

// take removes the oldest arrival; when more are left it wakes another worker.
func (k *Collector) take() (arrival, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.arrived) == 0 {
		return arrival{}, false
	}
	next := k.arrived[0]
	k.arrived[0] = arrival{} // the body is not kept for the sake of the slice
	if k.arrived = k.arrived[1:]; len(k.arrived) > 0 {
		k.wake()
	}
	return next, true
}

// Next waits for the next end of a job. It is for one goroutine.
func (k *Collector) Next(ctx context.Context) (Settled, error) {
	select {
	case s := <-k.opened:
		k.mu.Lock()
		delete(k.pending, s.Job)
		k.mu.Unlock()
		return s, nil
	case <-ctx.Done():
		return Settled{}, ended(ctx)
	case <-k.c.life.Done():
		return Settled{}, errClosed
	}
}

// Close forgets the jobs that have no outcome yet.
func (k *Collector) Close() {
	k.stop()
	k.workers.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.pending {
		k.c.hub.forget(e.in)
	}
}
