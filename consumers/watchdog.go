package consumers

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Times of the watchdog.
const (
	probeEvery    = 10 * time.Second
	probeTimeout  = 10 * time.Second
	maxProbeFails = 3
	minRevive     = time.Second
	maxRevive     = time.Minute
)

// firstPatience is how many times Config.StallTimeout a job may take to give its first sign of life: it may wait for its turn
// inside the engine, and a long prompt takes its time.
const firstPatience = 5

// watchdog notices an engine that hangs. There are two signs: it does not answer three probes in a row, or jobs stand still
// while nothing else moves either. A job moves when its stream says something and, as one that does not stream says nothing
// before its answer, when what it has used grows.
type watchdog struct {
	line *line
	// last is when any job of the line last moved, in nanoseconds since the worker's start.
	last  atomic.Int64
	fails int
}

// pulse is what the watchdog knows of a job. Times are nanoseconds since the worker's start.
type pulse struct {
	// entered is when the job entered the engine, 0 outside of it; moved is when it last moved, 0 before it did.
	entered, moved atomic.Int64
	// used tells what the job has used so far; nil when its stream does not tell. It is set before entered.
	used usageTeller
	// seen is what it had used at the last look; only the watchdog's goroutine reads it.
	seen uint64
}

// now is the time of a pulse.
func (d *watchdog) now() int64 { return int64(time.Since(d.line.w.started)) }

// enter notes that a job is inside the engine.
func (d *watchdog) enter(t *task, s Stream) {
	t.pulse.used, _ = s.(usageTeller)
	t.pulse.entered.Store(d.now())
}

// leave notes that it is not any more.
func (d *watchdog) leave(t *task) { t.pulse.entered.Store(0) }

// moved notes that a job's engine said something.
func (d *watchdog) moved(t *task) {
	now := d.now()
	t.pulse.moved.Store(now)
	d.last.Store(now)
}

// look notes which jobs have used more than at the last look.
func (d *watchdog) look() {
	d.line.each(func(t *task) {
		p := &t.pulse
		if p.entered.Load() == 0 || p.used == nil {
			return
		}
		if u, _ := p.used.Usage(); u.Total() != p.seen {
			p.seen = u.Total()
			d.moved(t)
		}
	})
}

// run watches until ctx ends.
func (d *watchdog) run(ctx context.Context) {
	tick := time.NewTicker(min(probeEvery, d.line.w.c.StallTimeout/4))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if d.probe(ctx) {
			d.fails = 0
		} else if d.fails++; ctx.Err() != nil {
			return
		}
		d.look()
		switch {
		case d.fails >= maxProbeFails:
			d.revive(ctx, "does not answer")
		case d.stalled():
			d.revive(ctx, "stands still")
		}
	}
}

// probe asks the engine for the cheapest sign of life there is.
func (d *watchdog) probe(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := d.line.engine.Info(ctx)
	return err == nil
}

// stalled reports whether a job, and with it everything else in the engine, has stood still for too long.
func (d *watchdog) stalled() (stalled bool) {
	now, patience := d.now(), int64(d.line.w.c.StallTimeout)
	if now-d.last.Load() < patience {
		return false
	}
	d.line.each(func(t *task) {
		entered, moved := t.pulse.entered.Load(), t.pulse.moved.Load()
		switch {
		case entered == 0:
		case moved == 0:
			stalled = stalled || now-entered >= firstPatience*patience
		default:
			stalled = stalled || now-moved >= patience
		}
	})
	return stalled
}

// revive gives the jobs of a hung engine back, restarts it and waits until it answers again.
func (d *watchdog) revive(ctx context.Context, reason string) {
	l := d.line
	l.log.Error("the engine hangs: its jobs go back", "reason", reason)
	l.gate.set(gateEngine, "engine "+reason)
	l.each(func(t *task) { t.stop(errHung) })
	for backoff := minRevive; ctx.Err() == nil; backoff = min(2*backoff, maxRevive) {
		if err := d.restart(ctx); err != nil {
			l.log.Warn("the engine could not be restarted", "error", err, "after", backoff)
		} else if d.probe(ctx) {
			d.fails = 0
			l.log.Info("the engine answers again")
			l.gate.set(gateEngine, "")
			return
		}
		sleep(ctx, backoff)
	}
}

// restart calls the owner of the engine's process, if there is one.
func (d *watchdog) restart(ctx context.Context) error {
	if d.line.w.c.Restart == nil {
		return nil
	}
	return d.line.w.c.Restart(ctx, d.line.model)
}

// Kinds of engines that a worker must not start with.
func checkEngine(info Info) error {
	if !info.ExactCounts {
		return &schemas.Error{Kind: schemas.KindUnsupported, Field: "engine", Message: "does not count tokens exactly, so it could sign no receipt"}
	}
	return nil
}
