package control_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/control"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// bundle is a bus with a control service under fake time.
type bundle struct {
	bus    *streams.Bus
	ctx    context.Context
	tenant schemas.TenantID
}

// deliveries is how often a job is delivered in these tests: the least that a topology allows.
const deliveries = 16

// setup starts n control services. It must be called inside a bubble.
func setup(t *testing.T, n int, o control.Options) *bundle {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	bus, _ := streamstest.NewWith(t, streamstest.Options{Topology: streams.Topology{Deliveries: deliveries}})
	b := &bundle{bus: bus, ctx: ctx, tenant: schemas.NewTenantID()}
	ended := make(chan error, n)
	for range n {
		service := control.New(bus, o)
		go func() { ended <- service.Run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range n {
			if err := <-ended; err != nil {
				t.Errorf("control ended with %v", err)
			}
		}
	})
	time.Sleep(time.Second) // fake: until everything has started
	synctest.Wait()
	return b
}

// publish stores a job with the given deadline.
func (b *bundle) publish(t *testing.T, life time.Duration) (streams.Job, streams.Ack) {
	t.Helper()
	j := streamstest.Job(b.tenant, []byte("sealed "+schemas.NewJobID()), func(a *schemas.Attributes) { a.Expiry = a.Time.Add(life) })
	ack, err := b.bus.PublishJob(b.ctx, j)
	if err != nil {
		t.Fatal(err)
	}
	return j, ack
}

// outcome returns the status and kind of a job's outcome.
func (b *bundle) outcome(t *testing.T, j streams.Job) (schemas.Status, schemas.Kind) {
	t.Helper()
	o, err := b.bus.Outcome(b.ctx, b.tenant, j.Attributes.ID)
	if errors.Is(err, schemas.KindNotFound) {
		return "", 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return o.Status, o.Kind
}

// puller opens a puller on the test's model.
func (b *bundle) puller(t *testing.T) *streams.Puller {
	t.Helper()
	p, err := b.bus.NewPuller(b.ctx, streams.PullerOptions{Route: streamstest.Route})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// queued is the number of jobs in the stream.
func (b *bundle) queued(t *testing.T) int {
	t.Helper()
	n := 0
	err := b.bus.ScanQueued(b.ctx, 0, "", 1, func(streams.Queued) (bool, error) { n++; return true, nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestExpiry: a job whose deadline passes in the queue gets the outcome expired, whether control heard it come or was
// started later, and one that is done in time does not.
func TestExpiry(t *testing.T) {
	t.Parallel()
	streamstest.Bubble(t, func(t *testing.T) {
		bus, _ := streamstest.NewWith(t, streamstest.Options{Topology: streams.Topology{Deliveries: deliveries}})
		before := streamstest.Job(schemas.NewTenantID(), []byte("before control"), func(a *schemas.Attributes) { a.Expiry = a.Time.Add(20 * time.Second) })
		if _, err := bus.PublishJob(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		for range 2 {
			go func() { ended <- control.New(bus, control.Options{}).Run(ctx) }()
		}
		time.Sleep(time.Second)
		b := &bundle{bus: bus, ctx: t.Context(), tenant: before.Attributes.Tenant}
		short, _ := b.publish(t, 10*time.Second)
		long, _ := b.publish(t, time.Hour)
		time.Sleep(9*time.Second + control.ExpirySlack)
		if status, _ := b.outcome(t, short); status != "" {
			t.Errorf("ended before deadline and slack: %s", status)
		}
		time.Sleep(3 * time.Second)
		if status, kind := b.outcome(t, short); status != schemas.Expired || kind != schemas.KindExpired {
			t.Errorf("after the deadline: %s %v", status, kind)
		}
		time.Sleep(20 * time.Second)
		if status, _ := b.outcome(t, before); status != schemas.Expired {
			t.Errorf("a job from before the start: %q", status)
		}
		if status, _ := b.outcome(t, long); status != "" {
			t.Errorf("a job with an hour left: %s", status)
		}
		if n := b.queued(t); n != 1 {
			t.Errorf("%d jobs queued, want 1", n)
		}
		cancel()
		for range 2 {
			<-ended
		}
	})
}

// TestCancel: a waiting job is ended at once, a running one by its worker, one whose worker breaks its word by control, a
// finished one not at all.
func TestCancel(t *testing.T) {
	t.Parallel()
	streamstest.Bubble(t, func(t *testing.T) {
		b := setup(t, 1, control.Options{})
		waiting, ack := b.publish(t, time.Hour)
		if state, err := b.bus.Cancel(b.ctx, b.tenant, waiting.Attributes.ID, ack); err != nil || state != streams.CancelDone {
			t.Errorf("waiting: %s %v", state, err)
		}
		if status, kind := b.outcome(t, waiting); status != schemas.Cancelled || kind != schemas.KindCancelled || b.queued(t) != 0 {
			t.Errorf("waiting: %s %v, %d queued", status, kind, b.queued(t))
		}
		if state, err := b.bus.Cancel(b.ctx, b.tenant, waiting.Attributes.ID, ack); err != nil || state != streams.CancelTooLate {
			t.Errorf("again: %s %v", state, err)
		}
		sought, _ := b.publish(t, time.Hour)
		if state, err := b.bus.Cancel(b.ctx, b.tenant, sought.Attributes.ID, streams.Ack{}); err != nil || state != streams.CancelDone {
			t.Errorf("without a place: %s %v", state, err)
		}
		if _, err := b.bus.Cancel(b.ctx, b.tenant, schemas.NewJobID(), streams.Ack{}); !errors.Is(err, schemas.KindNotFound) {
			t.Errorf("no such job: %v", err)
		}
		other, ack := b.publish(t, time.Hour)
		if _, err := b.bus.Cancel(b.ctx, schemas.NewTenantID(), other.Attributes.ID, ack); !errors.Is(err, schemas.KindNotFound) {
			t.Errorf("another tenant's job: %v", err)
		}

		stops, endStops := context.WithCancel(b.ctx)
		stopped := make(chan schemas.JobID, 10)
		ended := make(chan error, 1)
		go func() {
			ended <- b.bus.ServeStops(stops, streamstest.Route.Slug, func(_ schemas.TenantID, job schemas.JobID) bool {
				stopped <- job
				return job == other.Attributes.ID
			})
		}()
		time.Sleep(time.Second)
		if state, err := b.bus.Cancel(b.ctx, b.tenant, other.Attributes.ID, ack); err != nil || state != streams.CancelStopping {
			t.Errorf("running: %s %v", state, err)
		}
		if job := <-stopped; job != other.Attributes.ID {
			t.Errorf("stopped %s", job)
		}
		if status, _ := b.outcome(t, other); status != "" {
			t.Errorf("control ended a running job at once: %s", status)
		}
		time.Sleep(3 * streams.AckWait)
		if status, _ := b.outcome(t, other); status != schemas.Cancelled {
			t.Errorf("the worker broke its word: %q", status)
		}
		endStops()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestDeadLetter: a job that every worker drops ends in the dead letters with a typed outcome, and can be replayed.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	streamstest.Bubble(t, func(t *testing.T) {
		b := setup(t, 2, control.Options{})
		job, _ := b.publish(t, 24*time.Hour)
		p := b.puller(t)
		for i := range deliveries {
			d, err := p.Next(b.ctx, 1)
			if err != nil || d[0].Delivered != i+1 {
				t.Fatalf("delivery %d: %v", i+1, err)
			}
		}
		// The server tells of it when somebody pulls after the last lease.
		short, cancel := context.WithTimeout(b.ctx, 2*streams.AckWait)
		defer cancel()
		if d, err := p.Next(short, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("delivered once more: %d %v", len(d), err)
		}
		if status, kind := b.outcome(t, job); status != schemas.Failed || kind != schemas.KindPoison || b.queued(t) != 0 {
			t.Fatalf("%s %v, %d queued", status, kind, b.queued(t))
		}
		var letters []streams.DeadLetter
		for d, err := range b.bus.DeadLetters(b.ctx, streams.DeadSelector{Kind: schemas.KindPoison}) {
			if err != nil {
				t.Fatal(err)
			}
			letters = append(letters, d)
		}
		if len(letters) != 1 || letters[0].Job != job.Attributes.ID || letters[0].Deliveries != deliveries {
			t.Fatalf("dead letters %+v", letters)
		}
		if _, err := b.bus.Replay(b.ctx, letters[0].Seq); err != nil {
			t.Fatal(err)
		}
		d, err := p.Next(b.ctx, 1)
		if err != nil || d[0].Attributes != job.Attributes || string(d[0].Envelope) != string(job.Envelope) || d[0].Delivered != 1 {
			t.Fatalf("replayed: %v", err)
		}
		if first, err := b.bus.PublishOutcome(b.ctx, streamstest.Outcome(job.Attributes, []byte("result"))); err != nil || !first {
			t.Errorf("outcome of the replay: %v %v", first, err)
		}
		if err := d[0].Done(b.ctx); err != nil {
			t.Error(err)
		}
		if _, err := b.bus.DeadLetterAt(b.ctx, letters[0].Seq); !errors.Is(err, schemas.KindNotFound) {
			t.Errorf("the letter is still there: %v", err)
		}
	})
}

// TestBacklogAndLanes: what waits is counted, with its age; a flood splits the queue, and a tenant behind it is served at
// once; when it is empty the queue is one again.
func TestBacklogAndLanes(t *testing.T) {
	t.Parallel()
	streamstest.Bubble(t, func(t *testing.T) {
		b := setup(t, 1, control.Options{})
		for range 1000 {
			b.publish(t, 24*time.Hour)
		}
		time.Sleep(time.Minute)
		list, err := b.bus.Backlogs(b.ctx)
		if err != nil || len(list) != 1 {
			t.Fatalf("%+v %v", list, err)
		}
		l := list[0]
		if l.Pending != 1000 || l.InFlight != 0 || l.Oldest < 55*time.Second || l.Oldest > 62*time.Second || l.Lanes != 16 || l.Class != schemas.Standard {
			t.Errorf("backlog %+v", l)
		}
		flood := b.tenant
		for b.tenant = schemas.NewTenantID(); streams.Lane(b.tenant, 16) == streams.Lane(flood, 16); {
			b.tenant = schemas.NewTenantID()
		}
		lone, _ := b.publish(t, time.Hour)
		p := b.puller(t)
		served := 0
		for round := 1; round <= 3 && served == 0; round++ {
			ds, err := p.Next(b.ctx, 4)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range ds {
				if d.Attributes.ID == lone.Attributes.ID {
					served = round
				}
				if err := d.Done(b.ctx); err != nil {
					t.Error(err)
				}
			}
		}
		if served == 0 {
			t.Error("a tenant's only job waits behind another's flood")
		}
		for left := b.queued(t); left > 0; {
			ds, err := p.Next(b.ctx, 64)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range ds {
				if err := d.Done(b.ctx); err != nil {
					t.Error(err)
				}
				left--
			}
		}
		time.Sleep(2 * time.Minute)
		if list, err := b.bus.Backlogs(b.ctx); err != nil || list[0].Lanes != 1 || list[0].Pending != 0 {
			t.Errorf("after the flood: %+v %v", list, err)
		}
		after, _ := b.publish(t, time.Hour)
		if ds, err := p.Next(b.ctx, 1); err != nil || ds[0].Attributes.ID != after.Attributes.ID {
			t.Errorf("the puller has lost its queue: %v", err)
		}
	})
}
