package tracing

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/cocoon-network/cocoon/schemas"
)

// scope names this instrumentation.
const scope = "github.com/cocoon-network/cocoon"

// Tracer opens spans. nil opens none.
type Tracer struct {
	t trace.Tracer
}

// New returns a tracer of a provider; nil for nil.
func New(p trace.TracerProvider) *Tracer {
	if p == nil {
		return nil
	}
	return &Tracer{p.Tracer(scope)}
}

// Start opens a span of the tenant's own below the one in ctx, and returns a context with it.
func (t *Tracer) Start(ctx context.Context, name string) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	ctx, s := t.t.Start(ctx, name)
	return ctx, &Span{s}
}

// Job opens a span in the trace that the network has of a job. Whatever trace ctx belongs to is left out of it. A zero
// time is now.
func (t *Tracer) Job(ctx context.Context, name string, job schemas.JobID, began time.Time) *Span {
	if t == nil {
		return nil
	}
	options := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithAttributes(attribute.String(keyJob, string(job)))}
	if !began.IsZero() {
		options = append(options, trace.WithTimestamp(began))
	}
	_, s := t.t.Start(context.WithValue(ctx, jobKey{}, job), name, options...)
	return &Span{s}
}

// Keys of all attributes that a span can have: what is not here does not leave a process.
const (
	keyJob     = "cocoon.job"
	keyModel   = "cocoon.model"
	keyClass   = "cocoon.class"
	keyAttempt = "cocoon.attempt"
	keyTokens  = "cocoon.tokens"
	keyKind    = "cocoon.error.kind"
	keyStatus  = "http.response.status_code"
	keyRoute   = "http.route"
)

// Span is an open span; nil is none. It is for one goroutine.
type Span struct {
	s trace.Span
}

// Sent says as which job a request of the tenant went out, with a link to what the network has of it.
func (s *Span) Sent(job schemas.JobID) {
	if s != nil {
		s.s.SetAttributes(attribute.String(keyJob, string(job)))
		s.s.AddLink(trace.Link{SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceID: TraceID(job), SpanID: spanID(job)})})
	}
}

// Model says for which model and class of queue.
func (s *Span) Model(id schemas.ModelID, class schemas.Class) {
	if s != nil {
		s.s.SetAttributes(attribute.String(keyModel, string(id)), attribute.String(keyClass, string(class)))
	}
}

// Attempt says which try of a job this is.
func (s *Span) Attempt(n int) {
	if s != nil {
		s.s.SetAttributes(attribute.Int(keyAttempt, n))
	}
}

// Tokens says how many tokens were billed.
func (s *Span) Tokens(n uint64) {
	if s != nil {
		s.s.SetAttributes(attribute.Int64(keyTokens, int64(min(n, 1<<62)))) //nolint:gosec // bounded
	}
}

// Route says which path of the API a request took, as the program spells it, and the status of its answer.
func (s *Span) Route(pattern string, status int) {
	if s != nil {
		s.s.SetAttributes(attribute.String(keyRoute, pattern), attribute.Int(keyStatus, status))
	}
}

// End closes the span. Of an error it keeps the kind: a message could hold anything.
func (s *Span) End(err error) {
	if s == nil {
		return
	}
	if err != nil {
		kind := schemas.KindOf(err).String()
		s.s.SetAttributes(attribute.String(keyKind, kind))
		s.s.SetStatus(codes.Error, kind)
	}
	s.s.End()
}

// TraceID is the id of the trace that the network has of a job.
func TraceID(job schemas.JobID) trace.TraceID {
	sum := sha256.Sum256([]byte("cocoon/trace/v1" + string(job)))
	return trace.TraceID(sum[:16])
}

// spanID makes a link to that trace valid; there is no span of this id.
func spanID(job schemas.JobID) trace.SpanID {
	sum := sha256.Sum256([]byte("cocoon/trace/v1" + string(job)))
	return trace.SpanID(sum[16:24])
}

// Incoming is ctx with the trace that an application of the tenant's began, as it stands in the headers of its request.
func (t *Tracer) Incoming(ctx context.Context, h http.Header) context.Context {
	if t == nil {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(h))
}

// jobKey is the key of the job in the context of a root span.
type jobKey struct{}

// IDs gives the spans of [Tracer.Job] the trace of their job, and others random ones. It is the IDGenerator of the
// OpenTelemetry SDK that a provider of a network's role must have.
type IDs struct{}

// NewIDs returns the ids of a span that begins a trace.
func (IDs) NewIDs(ctx context.Context) (id trace.TraceID, span trace.SpanID) {
	if job, ok := ctx.Value(jobKey{}).(schemas.JobID); ok {
		id = TraceID(job)
	} else {
		for !id.IsValid() {
			binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
			binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
		}
	}
	return id, IDs{}.NewSpanID(ctx, id)
}

// NewSpanID returns the id of a further span. Ids are no secrets and may be guessed.
func (IDs) NewSpanID(context.Context, trace.TraceID) (span trace.SpanID) {
	for !span.IsValid() {
		binary.LittleEndian.PutUint64(span[:], rand.Uint64())
	}
	return span
}
