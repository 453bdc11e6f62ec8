package consumers

import (
	"context"
	"time"
)

// drainGrace is how long jobs may take to go back to the queue after their time to finish is over.
const drainGrace = 15 * time.Second

// drainNow shuts the gate for good and makes Run end.
func (w *Worker) drainNow(reason string) {
	w.draining.Do(func() {
		w.log.Info("the worker drains", "reason", reason, "held", w.keeper.count())
		w.gate.set(gateDrain, reason)
		close(w.drained)
	})
}

// finish is the end of a worker that pulls no more: running jobs end within DrainTimeout, the others go back to the
// queue, and the engines wipe what the jobs left behind. It returns when no job is held; jobs that an engine does not let
// go are left to their leases.
func (w *Worker) finish() {
	ended := make(chan struct{})
	go func() {
		w.tasks.Wait()
		close(ended)
	}()
	timer := time.NewTimer(w.c.DrainTimeout)
	defer timer.Stop()
	select {
	case <-ended:
	case <-w.base.Done(): // killed: every task ends by itself, without a word
		<-ended
		return
	case <-timer.C:
		w.log.Warn("jobs go back to the queue", "held", w.keeper.count())
		w.each(func(t *task) { t.stop(errDraining) })
		timer.Reset(drainGrace)
		select {
		case <-ended:
		case <-timer.C:
			w.log.Error("an engine does not let jobs go; their leases lapse", "held", w.keeper.count())
			w.each(func(t *task) { t.lease.release() })
		}
	}
	ctx, cancel := context.WithTimeout(w.base, drainGrace)
	defer cancel()
	w.renewer.report(ctx)
	for _, l := range w.lines {
		if err := l.engine.Drain(ctx); err != nil {
			l.log.Warn("the engine did not drain", "error", err)
		}
	}
}

// each calls f for every job that the worker holds.
func (w *Worker) each(f func(*task)) {
	for _, l := range w.lines {
		l.each(f)
	}
}
