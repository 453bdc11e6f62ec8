package producers_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/tracing"
)

// patience bounds a test's waits.
func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), producerstest.Wait)
	t.Cleanup(cancel)
	return ctx
}

func TestDo(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	w, _ := n.Work(t, producerstest.Echo)
	c := n.Client(t)
	a, err := c.Do(patience(t), producers.Job{Body: producerstest.Ask("hello", "")})
	if err != nil {
		t.Fatal(err)
	}
	if a.Text() != producerstest.Say("hello") || a.Status != schemas.Succeeded || a.HTTP != 200 || a.Usage != producerstest.Usage {
		t.Errorf("answer = %+v", a)
	}
	charge, err := n.Catalogue.Cost(producerstest.Model, producerstest.Usage, schemas.One)
	if err != nil || a.Charge != charge || charge.Total == 0 {
		t.Errorf("charge = %+v, want %+v, %v", a.Charge, charge, err)
	}
	if !a.GrantVerified || a.Environment != schemas.Simulated || a.Attempt != 1 || a.Receipt == "" || a.Submitted.IsZero() {
		t.Errorf("answer = %+v", a)
	}
	if w.Runs() != 1 {
		t.Errorf("ran %d times", w.Runs())
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	n.Work(t, producerstest.Echo)
	c := n.Client(t)
	text, events := "", 0
	var answer *producers.Answer
	for e, err := range c.Stream(patience(t), producers.Job{Body: producerstest.Ask("a b c d", `,"stream":true`)}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Answer != nil {
			answer = e.Answer
			continue
		}
		events++
		text += delta(t, e.Data)
	}
	if answer == nil || text != answer.Text() || text != producerstest.Say("a b c d") || events < 2 {
		t.Errorf("text %q in %d events, answer %+v", text, events, answer)
	}
}

func TestFailuresAreTyped(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	n.Work(t, func(context.Context, *schemas.Request, func([]byte)) schemas.Result {
		return schemas.Failure(schemas.FieldError("messages[0].content", "is not to my taste"))
	})
	c := n.Client(t)
	_, err := c.Do(patience(t), producers.Job{Body: producerstest.Ask("hello", "")})
	var e *schemas.Error
	if !errors.As(err, &e) || e.Kind != schemas.KindInvalid || e.Field != "messages[0].content" || schemas.Retriable(err) {
		t.Errorf("Do = %v", err)
	}
	start := time.Now()
	_, err = c.Do(patience(t), producers.Job{Body: []byte(`{"model":"nobody"}`)})
	if !errors.Is(err, schemas.KindUnknownModel) || time.Since(start) > 5*time.Second {
		t.Errorf("Do with an unknown model = %v after %v", err, time.Since(start))
	}
}

// TestTracesStayHome: the client's spans go on from the caller's, and nothing of that trace is in any message, neither
// as text nor as bytes.
func TestTracesStayHome(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	n.Work(t, producerstest.Echo)
	told := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(told))
	tracer := tracing.New(provider)
	c := n.Client(t, func(o *producers.Options) { o.Tracer = tracer })
	listening, stop := context.WithCancel(t.Context())
	heard := make(chan string, 10_000)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- n.Bus.Tap(listening, func() { close(ready) }, func(subject string, header map[string][]string, body []byte) error {
			heard <- fmt.Sprintf("%s %v %s", subject, header, body)
			return nil
		})
	}()
	<-ready
	ctx, root := tracer.Start(patience(t), "app")
	answer, err := c.Do(ctx, producers.Job{Body: producerstest.Ask("hello", "")})
	if err != nil {
		t.Fatal(err)
	}
	root.End(nil)
	spans := told.GetSpans()
	trace := spans[0].SpanContext.TraceID()
	names := map[string]bool{}
	for _, s := range spans {
		names[s.Name] = true
		if s.SpanContext.TraceID() != trace {
			t.Errorf("%s is in a trace of its own", s.Name)
		}
		if s.Name == "cocoon.job" && (len(s.Links) != 1 || s.Links[0].SpanContext.TraceID() != tracing.TraceID(answer.Job)) {
			t.Errorf("links of the job: %v", s.Links)
		}
	}
	if !names["cocoon.submit"] || !names["cocoon.job"] {
		t.Errorf("spans %v", names)
	}
	for out := false; !out; { // the outcome is the last message
		select {
		case m := <-heard:
			out = strings.HasPrefix(m, "res.")
			if strings.Contains(m, trace.String()) || strings.Contains(m, string(trace[:])) || strings.Contains(strings.ToLower(m), "traceparent") {
				t.Errorf("the tenant's trace travels: %q", m)
			}
		case <-ctx.Done():
			t.Fatal("the outcome was not heard")
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
