package producers

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

const (
	// sweepers is how many outcomes are looked up at a time when live ones may have been missed.
	sweepers = 32
	// sweepPause is the pause before a lookup that failed is tried again.
	sweepPause = time.Second
)

// hub hears the outcomes of the tenant's jobs and hands each to who expects it. Live messages can be lost; whenever
// that may have happened, and whenever a job might have had an outcome before it was expected, the hub asks the
// network for it. So an expected outcome is delivered as soon as it exists and the network can be reached.
type hub struct {
	bus    *streams.Bus
	tenant schemas.TenantID
	log    *slog.Logger
	life   context.Context // of the client
	wg     *sync.WaitGroup

	mu      sync.Mutex // guards the fields below; never held while f of an expectation runs
	feed    *streams.Feed[schemas.Outcome]
	waiting map[schemas.JobID][]*expectation
	asking  []schemas.JobID // jobs to look up
	asked   chan struct{}   // wakes the sweeper; holds one value
}

// expectation is somebody who waits for an outcome. deliver is called once, must not block, and is not called after
// forget has returned.
type expectation struct {
	job     schemas.JobID
	deliver func(schemas.Outcome)
}

// newHub returns a hub that listens from the first expectation on.
func newHub(life context.Context, wg *sync.WaitGroup, bus *streams.Bus, tenant schemas.TenantID, log *slog.Logger) *hub {
	return &hub{
		bus: bus, tenant: tenant, log: log, life: life, wg: wg, waiting: map[schemas.JobID][]*expectation{}, asked: make(chan struct{}, 1),
	}
}

// listen subscribes, once. Everything published after it has returned is heard.
func (h *hub) listen(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.feed != nil {
		return nil
	}
	feed, err := h.bus.Outcomes(ctx, h.tenant)
	if err != nil {
		return err
	}
	h.feed = feed
	h.wg.Go(func() { h.hear(feed) })
	h.wg.Go(h.sweep)
	return nil
}

// hear delivers live outcomes until the client closes.
func (h *hub) hear(feed *streams.Feed[schemas.Outcome]) {
	defer feed.Close()
	for {
		o, err := feed.Next(h.life)
		switch {
		case err == nil:
			h.deliver(o)
		case errors.Is(err, streams.ErrMissed):
			h.askAll()
		case h.life.Err() != nil:
			return
		default:
			h.log.Warn("outcomes are not heard", "error", err)
			if !pause(h.life, sweepPause) {
				return
			}
		}
	}
}

// pause waits and reports whether the context still lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// deliver hands an outcome to everybody who expects it.
func (h *hub) deliver(o schemas.Outcome) {
	h.mu.Lock()
	list := h.waiting[o.Job]
	delete(h.waiting, o.Job)
	h.mu.Unlock()
	for _, e := range list {
		e.deliver(o)
	}
}

// expect registers somebody who waits. ask also looks for an outcome that may exist already.
func (h *hub) expect(job schemas.JobID, ask bool, deliver func(schemas.Outcome)) *expectation {
	e := &expectation{job, deliver}
	h.mu.Lock()
	h.waiting[job] = append(h.waiting[job], e)
	h.mu.Unlock()
	if ask {
		h.ask(job)
	}
	return e
}

// forget removes an expectation. One whose delivery has begun is delivered all the same.
func (h *hub) forget(e *expectation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.waiting[e.job]
	for i := range list {
		if list[i] == e {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(h.waiting, e.job)
		return
	}
	h.waiting[e.job] = list
}

// ask has the sweeper look for the outcomes of jobs.
func (h *hub) ask(jobs ...schemas.JobID) {
	if len(jobs) == 0 {
		return
	}
	h.mu.Lock()
	h.asking = append(h.asking, jobs...)
	h.mu.Unlock()
	h.wake()
}

// askAll has the sweeper look for everything that is expected.
func (h *hub) askAll() {
	h.mu.Lock()
	h.asking = h.asking[:0]
	for job := range h.waiting {
		h.asking = append(h.asking, job)
	}
	h.mu.Unlock()
	h.wake()
}

// wake wakes the sweeper.
func (h *hub) wake() {
	select {
	case h.asked <- struct{}{}:
	default:
	}
}

// sweep looks up what was asked for, until the client closes.
func (h *hub) sweep() {
	for {
		select {
		case <-h.life.Done():
			return
		case <-h.asked:
		}
		h.mu.Lock()
		jobs := h.asking
		h.asking = nil
		h.mu.Unlock()
		if failed := h.lookUp(jobs); len(failed) > 0 {
			if !pause(h.life, sweepPause) {
				return
			}
			h.ask(failed...)
		}
	}
}

// lookUp asks for outcomes, several at a time, and returns the jobs for which there was no answer.
func (h *hub) lookUp(jobs []schemas.JobID) (failed []schemas.JobID) {
	var mu sync.Mutex // guards failed
	var wg sync.WaitGroup
	workers := min(sweepers, len(jobs))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(jobs); i += workers {
				if h.life.Err() != nil || !h.expected(jobs[i]) {
					continue
				}
				o, err := h.bus.Outcome(h.life, h.tenant, jobs[i])
				switch {
				case err == nil:
					h.deliver(o)
				case errors.Is(err, schemas.KindNotFound):
				default:
					h.log.Warn("outcome not looked up", "job", jobs[i], "error", err)
					mu.Lock()
					failed = append(failed, jobs[i])
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return failed
}

// expected reports whether somebody still waits for a job.
func (h *hub) expected(job schemas.JobID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waiting[job]) > 0
}
