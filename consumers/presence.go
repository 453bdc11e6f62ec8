package consumers

import (
	"context"
	"encoding/json"
	"time"

	"github.com/cocoon-network/cocoon/streams"
)

// announce keeps the worker's entry in the WORKERS bucket until ctx ends: every streams.WorkerBeat and at every change of
// state. The entry lapses by itself when the worker dies; one that ends takes it away.
func (w *Worker) announce(ctx context.Context) {
	bucket, key := w.c.Bus.Bucket(streams.BucketWorkers), streams.PrefixWorker+string(w.ID())
	tick := time.NewTicker(streams.WorkerBeat)
	defer tick.Stop()
	for {
		w.put(ctx, bucket, key)
		select {
		case <-ctx.Done():
			if w.base.Err() == nil { // not killed
				last, cancel := context.WithTimeout(w.base, giveBackTimeout)
				_ = bucket.Delete(last, key)
				cancel()
			}
			return
		case <-tick.C:
		case <-w.presence:
		}
	}
}

// put writes the entry once.
func (w *Worker) put(ctx context.Context, bucket *streams.Bucket, key string) {
	value, err := json.Marshal(w.entry())
	if err != nil {
		w.log.Error("the worker's entry cannot be written", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, streams.WorkerBeat)
	defer cancel()
	if _, err := bucket.Put(ctx, key, value); err != nil && ctx.Err() == nil {
		w.log.Debug("the worker's entry was not stored", "error", err)
	}
}

// entry is what the worker says about itself.
func (w *Worker) entry() streams.WorkerEntry {
	e := streams.WorkerEntry{
		Worker: w.ID(), Owner: w.c.Owner, Host: w.c.Host, Version: w.c.Version, Environment: w.c.Environment,
		Ask: w.ask(), Started: w.started, AttestedUntil: w.c.Session.Expires(), GPUs: w.guard.gpus(),
	}
	e.State, e.Reason = w.state()
	for _, l := range w.lines {
		c := l.engine.Capacity()
		done, failed := l.totals()
		e.Done, e.Failed = e.Done+done, e.Failed+failed
		e.Models = append(e.Models, streams.WorkerModel{
			Model: l.model, Route: l.route, Slots: max(c.Slots, 0), Busy: max(c.Running, 0), TokensPerSecond: l.speed.rate(),
		})
	}
	return e
}

// state is what the worker does, and why if it does not serve.
func (w *Worker) state() (streams.WorkerState, string) {
	source, reason := w.gate.why()
	if source == "" && len(w.lines) > 0 {
		for _, l := range w.lines {
			if source, reason = l.gate.why(); source == "" {
				return streams.WorkerServing, "" // at least one model is served
			}
		}
	}
	switch source {
	case gateDrain:
		return streams.WorkerDraining, reason
	case gateOrder:
		return streams.WorkerDisabled, reason
	case gateSession:
		if w.c.Session.Expires().IsZero() {
			return streams.WorkerStarting, reason
		}
		return streams.WorkerRefused, reason
	case "":
		return streams.WorkerServing, ""
	}
	return streams.WorkerPaused, reason
}
