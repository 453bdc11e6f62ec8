package streams_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestFaults crosses every kind of write with the two ways to fail and sends a job through everything: each write is tried
// again, and in the end there is one job, one outcome, one of everything.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, op := range streams.Ops() {
		for _, fault := range []streamstest.Fault{streamstest.Lost, streamstest.DoneButError} {
			t.Run(fmt.Sprintf("%s %s", op, fault), func(t *testing.T) {
				t.Parallel()
				faults := &streamstest.Faults{}
				faults.Set(func(w streams.Write, n int) streamstest.Fault {
					if w.Op == op && n%2 == 0 { // every other try, the first included
						return fault
					}
					return streamstest.None
				})
				bus, server := streamstest.NewWith(t, streamstest.Options{Config: streams.Config{Intercept: faults.Intercept}})
				roundTrip(t, bus)
				if faults.Count(op) == 0 {
					t.Fatalf("nothing of the round trip is a write of kind %s", op)
				}
				audit(t, streamstest.Connect(t, server, streams.Config{}))
			})
		}
	}
}

// roundTrip makes every kind of write.
func roundTrip(t *testing.T, bus *streams.Bus) {
	t.Helper()
	ctx := streamstest.Context(t)
	tenant := schemas.NewTenantID()
	fail := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	p, err := bus.NewPuller(ctx, streams.PullerOptions{Route: streamstest.Route, Poll: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	next := func() *streams.Delivery {
		t.Helper()
		ds, err := p.Next(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		return ds[0]
	}
	large := bytes.Repeat([]byte("large "), 200_000)
	if _, err := bus.PublishJob(ctx, streamstest.Job(tenant, large, nil)); err != nil {
		t.Fatal(err)
	}
	d := next()
	if err := d.Extend(ctx); err != nil && !errors.Is(err, streamstest.ErrFault) {
		t.Errorf("extend: %v", err) // one try is one heartbeat: the next one comes soon enough
	}
	fail("retry", d.Retry(ctx, 10*time.Millisecond))
	d = next()
	first, err := bus.PublishOutcome(ctx, streamstest.Outcome(d.Attributes, []byte("result")))
	if err != nil || !first {
		t.Errorf("outcome: %v %v", first, err)
	}
	fail("done", d.Done(ctx))

	// A second job through bulk submission, ended by hand, and a third one that dies.
	two := []streams.Job{streamstest.Job(tenant, []byte("second"), nil), streamstest.Job(tenant, []byte("third"), nil)}
	for r := range bus.PublishJobs(ctx, func(yield func(streams.Job) bool) { _ = yield(two[0]) && yield(two[1]) }, streams.BulkOptions{}) {
		fail("bulk", r.Err)
	}
	d = next()
	_, err = bus.PublishOutcome(ctx, streamstest.Outcome(d.Attributes, []byte("result")))
	fail("outcome", err)
	fail("terminate", d.Terminate(ctx, "test"))
	fail("dead letter", next().DeadLetter(ctx, schemas.Errorf(schemas.KindPoison, "test")))

	// A fourth one is ended from outside.
	ack, err := bus.PublishJob(ctx, streamstest.Job(tenant, []byte("fourth"), nil))
	fail("publish", err)
	j, err := bus.QueuedAt(ctx, ack.Stream, ack.Seq)
	fail("queued", err)
	first, err = bus.End(ctx, j, schemas.Cancelled, schemas.KindCancelled)
	if err != nil || !first {
		t.Errorf("end: %v %v", first, err)
	}
	bucket := bus.Bucket(streams.BucketFleet)
	revision, err := bucket.Create(ctx, "a", []byte("1"))
	fail("create", err)
	_, err = bucket.Update(ctx, "a", []byte("2"), revision)
	fail("update", err)
	_, err = bucket.Put(ctx, "b", []byte("3"))
	fail("put", err)
	fail("delete", bucket.Delete(ctx, "b"))
	fail("audit", bus.PublishAudit(ctx, streams.AuditRecord{Broker: schemas.KeyIDOf(nil), Verb: streams.VerbGrant}))
	_, err = bus.Store(streams.StoreWeights).Put(ctx, "w", bytes.NewReader(large))
	fail("weights", err)
	_, err = bus.Apply(ctx, streams.Topology{Shards: 2})
	fail("apply", err)
}

// audit counts what a round trip must have left.
func audit(t *testing.T, bus *streams.Bus) {
	t.Helper()
	ctx := streamstest.Context(t)
	count := func(stream string) (n int) {
		t.Helper()
		if err := bus.Stored(ctx, stream, func(streams.StoredMessage) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for stream, want := range map[string]int{"JOBS_0": 0, "JOBS_1": 0, "OUT": 4, "DLQ": 1} {
		if n := count(stream); n != want {
			t.Errorf("%s holds %d messages, want %d", stream, n, want)
		}
	}
	if n := count("AUDIT"); n < 1 || n > 2 {
		t.Errorf("%d audit records, want 1, or 2 of the same", n)
	}
	if e, err := bus.Bucket(streams.BucketFleet).Get(ctx, "a"); err != nil || string(e.Value) != "2" {
		t.Errorf("key a: %q %v", e.Value, err)
	}
	if _, err := bus.Bucket(streams.BucketFleet).Get(ctx, "b"); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("key b: %v", err)
	}
	list, err := bus.Store(streams.StoreWeights).List(ctx)
	if err != nil || len(list) != 1 || list[0].Size != 1_200_000 {
		t.Errorf("weights: %+v %v", list, err)
	}
}

// TestPersistentFault gives up after RetryFor with a kind that says so, and the same call later succeeds.
func TestPersistentFault(t *testing.T) {
	t.Parallel()
	streamstest.Bubble(t, func(t *testing.T) {
		faults := &streamstest.Faults{}
		bus, _ := streamstest.NewWith(t, streamstest.Options{Config: streams.Config{Intercept: faults.Intercept}})
		ctx := t.Context()
		job := streamstest.Job(schemas.NewTenantID(), []byte("sealed"), nil)
		faults.Set(func(streams.Write, int) streamstest.Fault { return streamstest.Lost })
		began := time.Now()
		if _, err := bus.PublishJob(ctx, job); !errors.Is(err, schemas.KindUnavailable) || !schemas.Retriable(err) {
			t.Errorf("publish: %v", err)
		}
		if took := time.Since(began); took < 29*time.Second || took > 31*time.Second {
			t.Errorf("gave up after %v", took)
		}
		faults.Set(func(streams.Write, int) streamstest.Fault { return streamstest.DoneButError })
		if _, err := bus.PublishJob(ctx, job); !errors.Is(err, schemas.KindUnavailable) {
			t.Errorf("publish: %v", err)
		}
		faults.Set(nil)
		if ack, err := bus.PublishJob(ctx, job); err != nil || !ack.Duplicate || ack.Seq != 1 {
			t.Errorf("publish again: %+v %v", ack, err)
		}
	})
}
