package tracing_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/tracing"
)

// tracer returns a tracer and what it has told.
func tracer(t *testing.T) (*tracing.Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	told := tracetest.NewInMemoryExporter()
	p := sdk.NewTracerProvider(sdk.WithSyncer(told), sdk.WithIDGenerator(tracing.IDs{}))
	t.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return tracing.New(p), told
}

// all calls every method that says something.
func all(s *tracing.Span, job schemas.JobID) {
	s.Sent(job)
	s.Model("m@1:sha256-00", schemas.Batch)
	s.Attempt(2)
	s.Tokens(1 << 63)
	s.Route("POST /v1/chat/completions", 200)
}

// TestNetworkTrace: the spans of one job are in one trace, whoever opens them and whatever trace the caller is in; two jobs of
// one caller have nothing in common; and the tenant's own span links to the network's trace, not the other way.
func TestNetworkTrace(t *testing.T) {
	t.Parallel()
	tenant, own := tracer(t)
	broker, seen := tracer(t)
	worker, ran := tracer(t)
	one, two := schemas.NewJobID(), schemas.NewJobID()
	ctx, root := tenant.Start(t.Context(), "app")
	_, sent := tenant.Start(ctx, "cocoon.job")
	sent.Sent(one)
	sent.End(nil)
	began := time.Now().Add(-time.Hour)
	broker.Job(ctx, "broker.grant", one, began).End(nil)
	broker.Job(ctx, "broker.grant", two, time.Time{}).End(nil)
	worker.Job(t.Context(), "worker.run", one, time.Time{}).End(nil)
	root.End(nil)

	mine, granted := own.GetSpans(), seen.GetSpans()
	trace := mine[0].SpanContext.TraceID()
	if len(mine) != 2 || mine[0].Parent.TraceID() != trace || mine[1].SpanContext.TraceID() != trace {
		t.Fatalf("the tenant's spans are not one trace: %v", mine)
	}
	if l := mine[0].Links; len(l) != 1 || l[0].SpanContext.TraceID() != tracing.TraceID(one) || !l[0].SpanContext.IsValid() {
		t.Errorf("links %v", l)
	}
	for i, want := range []schemas.JobID{one, two} {
		s := granted[i]
		if s.SpanContext.TraceID() != tracing.TraceID(want) || s.Parent.IsValid() || len(s.Links) != 0 || s.SpanContext.TraceID() == trace {
			t.Errorf("span %d: trace %s, parent %v, links %v", i, s.SpanContext.TraceID(), s.Parent, s.Links)
		}
	}
	if !granted[0].StartTime.Equal(began) {
		t.Errorf("began %v, want %v", granted[0].StartTime, began)
	}
	if r := ran.GetSpans()[0]; r.SpanContext.TraceID() != granted[0].SpanContext.TraceID() || r.SpanContext.SpanID() == granted[0].SpanContext.SpanID() {
		t.Error("broker and worker do not share a job's trace")
	}
	if tracing.TraceID(one) == tracing.TraceID(two) {
		t.Error("two jobs share a trace")
	}
}

// TestClosedList: a span has the listed attributes and no others, and nothing of an error but its kind.
func TestClosedList(t *testing.T) {
	t.Parallel()
	tr, told := tracer(t)
	s := tr.Job(t.Context(), "worker.run", schemas.NewJobID(), time.Time{})
	all(s, schemas.NewJobID())
	s.End(schemas.Errorf(schemas.KindEngine, "the prompt was: %w", errors.New("my secret")))
	span := told.GetSpans()[0]
	var keys []string
	for _, a := range span.Attributes {
		keys = append(keys, string(a.Key))
		if strings.Contains(a.Value.String(), "secret") {
			t.Errorf("%s says %s", a.Key, a.Value.String())
		}
	}
	slices.Sort(keys)
	want := []string{
		"cocoon.attempt", "cocoon.class", "cocoon.error.kind", "cocoon.job", "cocoon.model", "cocoon.tokens", "http.response.status_code", "http.route",
	}
	if keys = slices.Compact(keys); !slices.Equal(keys, want) {
		t.Errorf("attributes %v, want %v", keys, want)
	}
	if span.Status.Code != codes.Error || span.Status.Description != schemas.KindEngine.String() || len(span.Events) != 0 {
		t.Errorf("status %+v, events %v", span.Status, span.Events)
	}
}

// TestIncoming: a trace that an application began goes on.
func TestIncoming(t *testing.T) {
	t.Parallel()
	tr, told := tracer(t)
	const trace = "0af7651916cd43dd8448eb211c80319c"
	ctx := tr.Incoming(t.Context(), http.Header{"Traceparent": {"00-" + trace + "-b7ad6b7169203331-01"}})
	_, s := tr.Start(ctx, "gateway.request")
	s.End(nil)
	if got := told.GetSpans()[0].SpanContext.TraceID().String(); got != trace {
		t.Errorf("trace %s, want %s", got, trace)
	}
}

// TestOff: without a tracer nothing happens and nothing is allocated.
func TestOff(t *testing.T) {
	if tracing.New(nil) != nil {
		t.Error("a tracer of no provider is not nil")
	}
	var tr *tracing.Tracer
	ctx, job, failed := t.Context(), schemas.NewJobID(), error(schemas.KindEngine)
	if n := testing.AllocsPerRun(100, func() {
		inner, s := tr.Start(tr.Incoming(ctx, nil), "x")
		all(s, job)
		s.End(failed)
		tr.Job(inner, "x", job, time.Time{}).End(nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkOff(b *testing.B) {
	var tr *tracing.Tracer
	ctx, job := b.Context(), schemas.NewJobID()
	for b.Loop() {
		s := tr.Job(ctx, "worker.run", job, time.Time{})
		all(s, job)
		s.End(nil)
	}
}
