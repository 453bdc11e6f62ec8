package consumers

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// maxFinishing bounds the jobs of one model that have left the engine and whose outcome is still being stored. They take
// no slot, so that the engine is full while the network is slow, but only so many.
const maxFinishing = 64

// line is everything of one model in a worker: its engine, its queue and its jobs.
type line struct {
	w      *Worker
	model  schemas.ModelID
	route  streams.Route
	engine Engine
	m      *lineMetrics
	log    *slog.Logger
	gate   gate          // reasons against this model alone
	wake   chan struct{} // capacity or gates may have changed; holds at most one
	watch  watchdog
	speed  speed // of generated tokens

	// mu guards the fields below, so that the number of free slots is decided on one picture of them.
	mu sync.Mutex
	// fresh counts the jobs that were taken and that the engine does not count yet.
	fresh int
	tasks map[*task]struct{}
	// resume is until when nothing is pulled, because the engine had no room it had promised.
	resume time.Time
	// interrupt ends a pull that waits; nil when none does.
	interrupt context.CancelFunc
	// done and failed count outcomes of this life.
	done, failed uint64
}

// newLine prepares a model.
func newLine(w *Worker, model schemas.ModelID, route streams.Route, engine Engine) *line {
	l := &line{
		w: w, model: model, route: route, engine: engine, m: w.c.Metrics.of(route.Slug),
		log: w.log.With("model", route.Slug), wake: make(chan struct{}, 1), tasks: map[*task]struct{}{},
	}
	l.gate.changed = l.gateChanged
	l.watch.line = l
	return l
}

// poke makes the pull loop look again.
func (l *line) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// gateChanged ends a waiting pull when no job may be taken any more, and begins one when it may.
func (l *line) gateChanged() {
	if !l.open() {
		l.pullAnew()
	}
	l.poke()
}

// pullAnew ends a waiting pull; the loop looks at everything again.
func (l *line) pullAnew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.interrupt != nil {
		l.interrupt()
	}
}

// open reports whether jobs may be taken.
func (l *line) open() bool { return l.gate.open() && l.w.gate.open() }

// free is the number of jobs to ask for now: what the engine has room for, less what was taken and has not reached it.
func (l *line) free() int {
	c := l.engine.Capacity()
	if c.Draining || !c.Healthy {
		return 0
	}
	slots := c.Slots
	if slots <= 0 { // Unknown
		slots = max(c.Running, 0) + c.Free
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.m.slots.Set(float64(slots))
	if time.Now().Before(l.resume) {
		return 0
	}
	return max(0, min(c.Free-l.fresh, slots+maxFinishing-len(l.tasks), MaxWorkerJobs-len(l.tasks)))
}

// pause keeps the line from pulling for a moment.
func (l *line) pause(d time.Duration) {
	l.mu.Lock()
	l.resume = time.Now().Add(d)
	l.mu.Unlock()
}

// enter counts a job that was taken.
func (l *line) enter(t *task) {
	l.mu.Lock()
	l.tasks[t] = struct{}{}
	l.fresh++
	l.mu.Unlock()
	l.m.running.Inc()
}

// submitted says that the engine counts the job from now on, or never will. It may be called more than once.
func (l *line) submitted(t *task) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !t.counted {
		t.counted = true
		l.fresh--
	}
}

// leave forgets a job.
func (l *line) leave(t *task) {
	l.submitted(t)
	l.mu.Lock()
	delete(l.tasks, t)
	l.mu.Unlock()
	l.m.running.Dec()
	l.poke()
}

// each calls f for every job that the line holds.
func (l *line) each(f func(*task)) {
	l.mu.Lock()
	all := make([]*task, 0, len(l.tasks))
	for t := range l.tasks {
		all = append(all, t)
	}
	l.mu.Unlock()
	for _, t := range all {
		f(t)
	}
}

// stop cancels a job for its tenant and reports whether this worker has it.
func (l *line) stop(tenant schemas.TenantID, job schemas.JobID) (found bool) {
	l.each(func(t *task) {
		if a := &t.delivery.Attributes; a.ID == job && a.Tenant == tenant {
			found = true
			t.stop(errStopped)
		}
	})
	return found
}

// ended counts an outcome that stands.
func (l *line) ended(o *schemas.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.Status == schemas.Failed {
		l.failed++
	} else {
		l.done++
	}
}

// totals are the outcomes of this life.
func (l *line) totals() (done, failed uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done, l.failed
}
