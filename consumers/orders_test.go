package consumers_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// entry is what a worker says about itself; the zero value when it says nothing.
func (b *bundle) entry(w *running) (e streams.WorkerEntry) {
	b.t.Helper()
	got, err := b.bus.Bucket(streams.BucketWorkers).Get(b.t.Context(), streams.PrefixWorker+string(w.ID()))
	if errors.Is(err, schemas.KindNotFound) {
		return e
	}
	if err == nil {
		err = json.Unmarshal(got.Value, &e)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

// order tells a worker something.
func (b *bundle) order(w *running, o streams.FleetWorker) {
	b.t.Helper()
	value, err := json.Marshal(o)
	if err == nil {
		_, err = b.bus.Bucket(streams.BucketFleet).Put(b.t.Context(), streams.PrefixWorker+string(w.ID()), value)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// TestWorkerAnnounces: everybody can see what a worker is and does, and that it has gone.
func TestWorkerAnnounces(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.worker(newStub(5, nil), func(c *consumers.Config, _ *streams.Config) { c.Host, c.Version, c.Ask = "host-1", "v1", 7_000 })
	b.eventually("it serves", func() bool { return b.entry(w).State == streams.WorkerServing })
	e := b.entry(w)
	if e.Worker != w.ID() || e.Host != "host-1" || e.Version != "v1" || e.Ask != 7_000 || e.Environment != schemas.Simulated ||
		len(e.Models) != 1 || e.Models[0].Slots != 5 || e.AttestedUntil.Before(time.Now()) {
		t.Errorf("entry %+v", e)
	}
	b.answer(b.submit(1)[0])
	w.end()
	if e := b.entry(w); e.Worker != "" {
		t.Errorf("a worker that has ended says %+v", e)
	}
}

// TestWorkerObeys: disable, enable, set-ask and drain reach a running worker.
func TestWorkerObeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	engine := newStub(5, nil)
	w := b.worker(engine)
	b.answer(b.submit(1)[0])

	b.order(w, streams.FleetWorker{Disabled: true})
	b.eventually("it is disabled", func() bool { return b.entry(w).State == streams.WorkerDisabled })
	waiting := b.submit(1)[0]
	time.Sleep(300 * time.Millisecond) // nothing may happen
	if engine.Runs() != 1 {
		t.Error("a disabled worker took a job")
	}

	b.order(w, streams.FleetWorker{Ask: schemas.One})
	if a := b.answer(waiting); a.Result.Err() != nil {
		t.Error(a.Result.Err())
	}
	b.eventually("it asks more", func() bool { return b.entry(w).Ask == schemas.One })
	cheap := b.submit(1, func(a *schemas.Attributes) { a.Class = schemas.Batch })[0]
	b.answer(b.submit(1)[0])
	b.eventually("only the cheap job waits", func() bool { return b.queued() == 1 })

	b.order(w, streams.FleetWorker{})
	if a := b.answer(cheap); a.Result.Err() != nil {
		t.Error(a.Result.Err())
	}

	b.order(w, streams.FleetWorker{Drain: true})
	select {
	case <-w.done:
	case <-time.After(patience):
		t.Fatal("a drained worker does not end")
	}
	if w.err != nil {
		t.Error(w.err)
	}
}
