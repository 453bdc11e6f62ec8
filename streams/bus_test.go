package streams_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestJobToOutcome walks one job through everything: published, pulled, extended, chunked, settled, acknowledged, heard live,
// read back, and read by settlement.
func TestJobToOutcome(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	tenant := schemas.NewTenantID()
	job := streamstest.Job(tenant, []byte("sealed"), nil)
	job.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

	outcomes, err := bus.Outcomes(ctx, tenant)
	if err != nil {
		t.Fatal(err)
	}
	defer outcomes.Close()
	chunks, err := bus.Chunks(ctx, tenant, job.Attributes.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer chunks.Close()

	ack, err := bus.PublishJob(ctx, job)
	if err != nil || ack.Stream != "JOBS_0" || ack.Seq != 1 || ack.Duplicate {
		t.Fatalf("publish: %+v %v", ack, err)
	}
	if again, err := bus.PublishJob(ctx, job); err != nil || !again.Duplicate || again.Seq != ack.Seq {
		t.Fatalf("publish again: %+v %v", again, err)
	}

	puller, err := bus.NewPuller(ctx, streams.PullerOptions{Route: streamstest.Route})
	if err != nil {
		t.Fatal(err)
	}
	defer puller.Close()
	got, err := puller.Next(ctx, 4)
	if err != nil || len(got) != 1 {
		t.Fatalf("next: %d deliveries, %v", len(got), err)
	}
	d := got[0]
	if d.Attributes != job.Attributes || string(d.Envelope) != "sealed" || d.Delivered != 1 || d.Ack.Seq != ack.Seq || d.TraceParent != job.TraceParent {
		t.Errorf("delivery %+v", d)
	}
	if err := d.Extend(ctx); err != nil {
		t.Errorf("extend: %v", err)
	}
	if err := bus.PublishChunk(tenant, job.Attributes.ID, []byte("chunk")); err != nil {
		t.Error(err)
	}
	if frame, err := chunks.Next(ctx); err != nil || string(frame) != "chunk" {
		t.Errorf("chunk %q %v", frame, err)
	}
	if _, err := bus.Outcome(ctx, tenant, job.Attributes.ID); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("outcome before there is one: %v", err)
	}
	want := streamstest.Outcome(job.Attributes, []byte("result"))
	for try := range 2 {
		if first, err := bus.PublishOutcome(ctx, want); err != nil || !first {
			t.Errorf("outcome, try %d: first %v, %v", try, first, err)
		}
	}
	rival := streamstest.Outcome(job.Attributes, []byte("another result"))
	if first, err := bus.PublishOutcome(ctx, rival); err != nil || first {
		t.Errorf("rival outcome: first %v, %v", first, err)
	}
	if err := d.Done(ctx); err != nil {
		t.Errorf("done: %v", err)
	}
	live, err := outcomes.Next(ctx)
	if err != nil || string(live.Body) != "result" || live.Job != job.Attributes.ID {
		t.Errorf("live outcome %+v %v", live, err)
	}
	if o, err := bus.AwaitOutcome(ctx, tenant, job.Attributes.ID); err != nil || string(o.Body) != "result" || o.Receipt != want.Receipt {
		t.Errorf("outcome %+v %v", o, err)
	}
	list, err := bus.Receipts().Read(ctx, 0, 10)
	if err != nil || len(list) != 1 {
		t.Fatalf("receipts: %d %v", len(list), err)
	}
	if o, err := schemas.ParseOutcome(list[0].Header, nil); err != nil || o.Receipt != want.Receipt || o.Job != job.Attributes.ID {
		t.Errorf("receipt %+v %v", o, err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if got, err := puller.Next(short, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the queue is not empty: %d, %v", len(got), err)
	}
}

// TestLargeBodies sends an envelope and a result that do not fit into a message.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	tenant := schemas.NewTenantID()
	for _, size := range []int{schemas.MaxInlineBody, schemas.MaxInlineBody + 1, 2 * schemas.MaxInlineBody, 3 << 20} {
		envelope := bytes.Repeat([]byte{byte(size), 2, 3}, size/3+1)[:size]
		job := streamstest.Job(tenant, envelope, nil)
		if _, err := bus.PublishJob(ctx, job); err != nil {
			t.Fatal(err)
		}
		puller, err := bus.NewPuller(ctx, streams.PullerOptions{Route: streamstest.Route})
		if err != nil {
			t.Fatal(err)
		}
		got, err := puller.Next(ctx, 1)
		puller.Close()
		if err != nil || !bytes.Equal(got[0].Envelope, envelope) {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if _, err := bus.PublishOutcome(ctx, streamstest.Outcome(job.Attributes, envelope)); err != nil {
			t.Fatal(err)
		}
		if o, err := bus.Outcome(ctx, tenant, job.Attributes.ID); err != nil || !bytes.Equal(o.Body, envelope) {
			t.Errorf("%d bytes: outcome of %d bytes, %v", size, len(o.Body), err)
		}
		if err := got[0].Done(ctx); err != nil {
			t.Error(err)
		}
	}
}

// TestPublishJobs submits in bulk: results in order, one per job, duplicates and refusals told apart.
func TestPublishJobs(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	tenant := schemas.NewTenantID()
	var jobs []streams.Job
	for i := range 1000 {
		jobs = append(jobs, streamstest.Job(tenant, fmt.Appendf(nil, "sealed %d", i), nil))
	}
	jobs[500].Envelope = nil
	jobs[700] = jobs[3]
	sequence := func(yield func(streams.Job) bool) {
		for _, j := range jobs {
			if !yield(j) {
				return
			}
		}
	}
	n := 0
	for p := range bus.PublishJobs(ctx, sequence, streams.BulkOptions{Window: 64}) {
		if p.Index != n || p.Job != jobs[n].Attributes.ID {
			t.Fatalf("result %d is of job %d", n, p.Index)
		}
		switch n {
		case 500:
			if !errors.Is(p.Err, schemas.KindInvalid) {
				t.Errorf("an empty envelope: %v", p.Err)
			}
		case 700:
			if p.Err != nil || !p.Ack.Duplicate || p.Ack.Seq != 4 {
				t.Errorf("a duplicate: %+v", p)
			}
		default:
			if p.Err != nil || p.Ack.Duplicate {
				t.Errorf("job %d: %+v", n, p)
			}
		}
		n++
	}
	if n != len(jobs) {
		t.Errorf("%d results for %d jobs", n, len(jobs))
	}
}

// TestCall carries answers and typed errors over the wire.
func TestCall(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	serving, stop := context.WithCancel(ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- bus.Serve(serving, streams.ServeOptions{Subject: "test.*", Queue: "q", MaxBody: 100, Ready: func() { close(ready) }},
			func(_ context.Context, r streams.Request) ([]byte, error) {
				switch r.Tokens[1] {
				case "echo":
					return r.Body, nil
				case "typed":
					return nil, &schemas.Error{Kind: schemas.KindCredit, Field: "budget", Message: "too little", RetryAfter: 3 * time.Second}
				case "panic":
					panic("boom")
				}
				return nil, errors.New("secret detail")
			})
	}()
	<-ready
	if answer, err := bus.Call(ctx, "test.echo", []byte("hello")); err != nil || string(answer) != "hello" {
		t.Errorf("echo: %q %v", answer, err)
	}
	_, err := bus.Call(ctx, "test.typed", nil)
	var typed *schemas.Error
	if !errors.As(err, &typed) || typed.Kind != schemas.KindCredit || typed.Field != "budget" || typed.RetryAfter != 3*time.Second {
		t.Errorf("typed: %v", err)
	}
	for _, verb := range []string{"panic", "other"} {
		if _, err := bus.Call(ctx, "test."+verb, nil); !errors.Is(err, schemas.KindInternal) || bytes.Contains([]byte(err.Error()), []byte("secret")) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if _, err := bus.Call(ctx, "test.echo", make([]byte, 101)); !errors.Is(err, schemas.KindTooLarge) {
		t.Errorf("a large request: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("serve ended with %v", err)
	}
	if _, err := bus.Call(ctx, "test.echo", nil); !errors.Is(err, schemas.KindUnavailable) {
		t.Errorf("nobody serves: %v", err)
	}
}
