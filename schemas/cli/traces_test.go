package cli

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/tracing"
)

// TestTraces sends spans to a collector and reads what it gets as OTLP.
func TestTraces(t *testing.T) {
	bodies := make(chan []byte, 8)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Key") != "a b" {
			t.Errorf("%s %v: %v", r.URL.Path, r.Header, err)
		}
		bodies <- b
	}))
	defer collector.Close()
	t.Setenv(envOTLPTraces, "")
	t.Setenv(envOTLP, collector.URL+"/")
	t.Setenv(envHeaders, "x-key=a%20b")
	tracer, stop, err := Traces(t.Context(), "cocoon-test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	job := schemas.NewJobID()
	ctx, parent := tracer.Start(t.Context(), "cocoon.submit")
	_, child := tracer.Start(ctx, "cocoon.job")
	child.Sent(job)
	child.Attempt(3)
	child.End(schemas.KindBusy)
	parent.End(nil)
	stop()
	var got otlpSpans
	if err := json.Unmarshal(<-bodies, &got); err != nil {
		t.Fatal(err)
	}
	about, spans := got.ResourceSpans[0].Resource.Attributes, got.ResourceSpans[0].Scopes[0].Spans
	if len(about) == 0 || about[0].Key != "service.name" || about[0].Value["stringValue"] != "cocoon-test" {
		t.Errorf("about %v", about)
	}
	if len(spans) != 2 {
		t.Fatalf("%d spans", len(spans))
	}
	s := spans[0]
	if s.Name != "cocoon.job" || s.Trace != spans[1].Trace || s.Parent != spans[1].Span || spans[1].Parent != "" || len(s.Trace) != 32 || len(s.Span) != 16 || len(s.Start) != 19 {
		t.Errorf("%+v below %+v", s, spans[1])
	}
	if len(s.Links) != 1 || s.Links[0].Trace != tracing.TraceID(job).String() || s.Status == nil || s.Status.Code != otlpError || spans[1].Status != nil {
		t.Errorf("links %v, status %v and %v", s.Links, s.Status, spans[1].Status)
	}
	if a := s.Attributes; a[0].Value["stringValue"] != string(job) || a[1].Value["intValue"] != "3" {
		t.Errorf("attributes %v", a)
	}
}

// TestTracesOff: nothing is traced unless somebody says where to, and nonsense is refused.
func TestTracesOff(t *testing.T) {
	t.Setenv(envOTLP, "")
	t.Setenv(envOTLPTraces, "")
	tracer, stop, err := Traces(t.Context(), "x", slog.New(slog.DiscardHandler))
	if err != nil || tracer != nil {
		t.Fatalf("%v %v", tracer, err)
	}
	stop()
	for _, url := range []string{"collector:4317", "ftp://x", "http://"} {
		t.Setenv(envOTLPTraces, url)
		if _, _, err := Traces(t.Context(), "x", slog.New(slog.DiscardHandler)); ExitCode(err) != ExitUsage {
			t.Errorf("%s: %v", url, err)
		}
	}
	t.Setenv(envOTLPTraces, "http://127.0.0.1:1")
	t.Setenv(envHeaders, "nonsense")
	if _, _, err := Traces(t.Context(), "x", slog.New(slog.DiscardHandler)); ExitCode(err) != ExitUsage {
		t.Errorf("headers: %v", err)
	}
}

// TestTracesLost: a collector that refuses or is away costs spans and a line in the log, and no error.
func TestTracesLost(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer refusing.Close()
	var log strings.Builder
	t.Setenv(envHeaders, "")
	t.Setenv(envOTLPTraces, refusing.URL)
	tracer, stop, err := Traces(t.Context(), "x", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	tracer.Job(t.Context(), "x", schemas.NewJobID(), time.Time{}).End(nil)
	stop()
	if !strings.Contains(log.String(), "403") {
		t.Errorf("log: %s", log.String())
	}
}
