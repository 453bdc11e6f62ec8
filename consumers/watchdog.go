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

// watchdog notices an engine that hangs. There are two signs: it does not answer three probes in a row, or jobs that
// stream stand still while nothing else moves either. A job that does not stream gives no sign of life before its
// answer; only its deadline and Config.JobTimeout bound it.
type watchdog struct {
	line *line
	// last is when any job of the line last moved, in nanoseconds since the worker's start.
	last  atomic.Int64
	fails int
}

// moved notes that a job's engine said something.
func (d *watchdog) moved(t *task) {
	now := int64(time.Since(d.line.w.started))
	t.moved.Store(now)
	d.last.Store(now)
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

// stalled reports whether a streaming job, and with it everything else in the engine, has stood still for too long.
func (d *watchdog) stalled() (stalled bool) {
	deadline := int64(time.Since(d.line.w.started) - d.line.w.c.StallTimeout)
	if d.last.Load() > deadline {
		return false
	}
	d.line.each(func(t *task) {
		if moved := t.moved.Load(); moved > 0 && moved <= deadline {
			stalled = true
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
