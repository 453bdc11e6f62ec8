package consumers_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/stub"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// TestWorkerAnswers: jobs go in sealed and come out answered, with a receipt for what the engine counted and a price.
func TestWorkerAnswers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	engine := newStub(8, nil)
	b.worker(engine)
	for i, j := range b.submit(40) {
		a := b.answer(j)
		if err := a.Result.Err(); err != nil {
			t.Fatalf("job %d: %v", i, err)
		}
		if a.Receipt == nil || a.Receipt.Usage != stub.DefaultUsage() || a.Result.Usage != stub.DefaultUsage() {
			t.Fatalf("job %d: receipt %+v, result's usage %+v", i, a.Receipt, a.Result.Usage)
		}
		catalogue, err := b.net.Catalogue.Current()
		if err != nil {
			t.Fatal(err)
		}
		want, err := catalogue.Cost(j.Attributes.Model, a.Receipt.Usage, a.Grant.Multiplier)
		if err != nil || a.Result.Charge != want || want.Total == 0 {
			t.Fatalf("job %d: charge %+v, want %+v (%v)", i, a.Result.Charge, want, err)
		}
		if a.Result.Status != 200 || len(a.Result.Body) == 0 || a.Result.FinishReason != "stop" || a.Result.Fingerprint != "stub" {
			t.Fatalf("job %d: result %+v", i, a.Result)
		}
	}
	b.eventually("the queue is empty", func() bool { return b.queued() == 0 })
	if n := engine.Runs(); n != 40 {
		t.Errorf("%d runs of 40 jobs", n)
	}
}

// TestWorkerStreams: what the tenant hears live is what the engine said, in order, and ends.
func TestWorkerStreams(t *testing.T) {
	t.Parallel()
	b := setup(t)
	j := b.seal(request("stream", true))
	feed, err := b.bus.Chunks(t.Context(), b.tenant.ID(), j.Attributes.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	opener := b.tenant.ChunkOpener(j.Attributes.ID, j.Hash)
	b.worker(newStub(2, nil))
	b.publish(j)
	events := 0
	for {
		frame, err := feed.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c, err := opener.Open(frame)
		if err != nil {
			t.Fatal(err)
		}
		events += len(c.Events)
		if c.Last {
			break
		}
	}
	if events != stub.DefaultChunks {
		t.Errorf("heard %d events, want %d", events, stub.DefaultChunks)
	}
	if a := b.answer(j); a.Result.Err() != nil {
		t.Error(a.Result.Err())
	}
}

// TestWorkerHoldsNoMoreThanItsSlots: a job that waits in a worker could have been another worker's.
func TestWorkerHoldsNoMoreThanItsSlots(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	engine := newStub(3, func(*consumers.Request) stub.Act { <-release; return stub.Act{} })
	var count tally
	w := b.prepare(engine)
	w.SetProbe(count.probe(nil))
	w.start()
	jobs := b.submit(10)
	taken := func() (n int) {
		for _, j := range jobs {
			n += count.at(consumers.PointTaken, j.Attributes.ID)
		}
		return n
	}
	b.eventually("three jobs are taken", func() bool { return taken() == 3 })
	second := newStub(7, nil) // a second worker finds all the others at once
	b.worker(second)
	b.eventually("the second worker has run the rest", func() bool { return second.Finished() == 7 })
	if n := taken(); n != 3 {
		t.Errorf("a worker with 3 slots took %d jobs", n)
	}
	close(release)
	for _, j := range jobs {
		b.answer(j)
	}
}

// TestWorkerTakesUrgentFirst: priority before standard before batch.
func TestWorkerTakesUrgentFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	class := func(c schemas.Class) func(*schemas.Attributes) {
		return func(a *schemas.Attributes) { a.Class = c }
	}
	byID := map[string]schemas.Class{}
	for _, c := range []schemas.Class{schemas.Batch, schemas.Standard, schemas.Priority} {
		for _, j := range b.submit(5, class(c)) {
			byID[string(j.Attributes.ID)] = c
		}
	}
	var order []schemas.Class
	engine := newStub(1, func(r *consumers.Request) stub.Act {
		order = append(order, byID[r.ID]) // one slot: one request at a time
		return stub.Act{}
	})
	w := b.worker(engine)
	b.eventually("all jobs are done", func() bool { return b.queued() == 0 })
	w.end()
	var want []schemas.Class
	for _, c := range schemas.Classes() {
		for range 5 {
			want = append(want, c)
		}
	}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("order of classes (-want +got):\n%s", diff)
	}
}

// TestWorkerAsks: classes that pay less than the ask stay where they are.
func TestWorkerAsks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cheap := b.submit(3, func(a *schemas.Attributes) { a.Class = schemas.Batch })
	fair := b.submit(3)
	b.worker(newStub(8, nil), func(c *consumers.Config, _ *streams.Config) { c.Ask = schemas.One })
	for _, j := range fair {
		b.answer(j)
	}
	b.eventually("only the cheap jobs are left", func() bool { return b.queued() == uint64(len(cheap)) })
	b.worker(newStub(8, nil))
	for _, j := range cheap {
		b.answer(j)
	}
}

// TestWorkerEndsWhatCannotRun: every failure that nobody can help against has its outcome, typed, without a receipt.
func TestWorkerEndsWhatCannotRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	refuse := func(k schemas.Kind) stub.Act {
		return stub.Act{Refuse: &schemas.Error{Kind: k, Field: "messages[0]", Message: "is wrong"}}
	}
	engine := newStub(8, func(r *consumers.Request) stub.Act {
		switch {
		case prompted(r, "invalid"):
			return refuse(schemas.KindInvalid)
		case prompted(r, "too large"):
			return refuse(schemas.KindTooLarge)
		case prompted(r, "unsupported"):
			return refuse(schemas.KindUnsupported)
		}
		return stub.Act{}
	})
	b.worker(engine)
	for text, kind := range map[string]schemas.Kind{
		"invalid": schemas.KindInvalid, "too large": schemas.KindTooLarge, "unsupported": schemas.KindUnsupported,
	} {
		j := b.seal(request(text, false))
		b.publish(j)
		o := b.outcome(j)
		if o.Status != schemas.Failed || o.Kind != kind || o.Receipt != "" {
			t.Errorf("%s: outcome %s, %v, receipt %q", text, o.Status, o.Kind, o.Receipt)
		}
		a := b.answer(j)
		var e *schemas.Error
		if !errors.As(a.Result.Err(), &e) || e.Kind != kind || e.Field != "messages[0]" {
			t.Errorf("%s: the tenant reads %v", text, a.Result.Err())
		}
	}
	b.eventually("the queue is empty", func() bool { return b.queued() == 0 })
}

// TestWorkerRefusedByBroker: refusals that end a job end it before it was opened.
func TestWorkerRefusedByBroker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	poor := b.net.Tenant(t)
	b.net.Credit.Set(poor.ID(), schemas.Credit{V: 1, Available: 1, Key: poor.Public(), Updated: b.net.World.Now()})
	engine := newStub(8, nil)
	b.worker(engine)
	b.tenant, b.seals = poor, enclave.NewSubmission(poor, b.net.Key(t))
	j := b.submit(1)[0]
	o := b.outcome(j)
	if o.Status != schemas.Failed || o.Kind != schemas.KindCredit || len(o.Body) != 0 || o.Grant != "" {
		t.Errorf("outcome %+v", o)
	}
	if a := b.answer(j); !errors.Is(a.Result.Err(), schemas.KindCredit) {
		t.Errorf("the tenant reads %v", a.Result.Err())
	}
	if n := engine.Runs(); n != 0 {
		t.Errorf("ran %d times", n)
	}
}

// TestWorkerCountsOrRefuses: an answer whose tokens nobody counted is not charged and not delivered.
func TestWorkerCountsOrRefuses(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]stub.Act{
		"estimated": {Uncounted: true},
		"nothing":   {Usage: &schemas.Usage{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.worker(newStub(2, func(*consumers.Request) stub.Act { return act }))
			j := b.submit(1, func(a *schemas.Attributes) { a.Attempts = 1 })[0]
			o := b.outcome(j)
			if o.Status != schemas.Failed || o.Kind != schemas.KindPoison || o.Receipt != "" {
				t.Errorf("outcome %s, %v, receipt %q", o.Status, o.Kind, o.Receipt)
			}
		})
	}
}

// TestWorkerRefusesEngines: an engine that cannot count is no use.
func TestWorkerRefusesModels(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ref, err := schemas.ParseModelID(string(b.seal(request("", false)).Attributes.Model))
	if err != nil {
		t.Fatal(err)
	}
	ref.Revision = "other"
	w := b.prepare(newStub(1, nil), func(c *consumers.Config, _ *streams.Config) {
		c.Engines = map[schemas.ModelID]consumers.Engine{ref.ID(): newStub(1, nil)}
	})
	if err := w.Run(t.Context()); !errors.Is(err, schemas.KindUnknownModel) {
		t.Errorf("a model outside the catalogue: %v", err)
	}
	if err := w.Run(t.Context()); !errors.Is(err, schemas.KindConflict) {
		t.Errorf("a second Run: %v", err)
	}
}

// TestWorkerLargeAnswer: an answer that does not fit a message travels by the object store.
func TestWorkerLargeAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	body := fmt.Appendf(nil, `{"text":%q}`, make([]byte, 700<<10))
	b.worker(newStub(2, func(*consumers.Request) stub.Act { return stub.Act{Body: body} }))
	if a := b.answer(b.submit(1)[0]); a.Result.Err() != nil || string(a.Result.Body) != string(body) {
		t.Errorf("%v, %d bytes, want %d", a.Result.Err(), len(a.Result.Body), len(body))
	}
}
