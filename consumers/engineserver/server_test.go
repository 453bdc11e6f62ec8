package engineserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/enginetest"
	"github.com/cocoon-network/cocoon/consumers/ggml"
	"github.com/cocoon-network/cocoon/consumers/ggml/gguf"
	"github.com/cocoon-network/cocoon/consumers/ggml/tiny"
	"github.com/cocoon-network/cocoon/consumers/openai"
	"github.com/cocoon-network/cocoon/schemas"
)

func TestMain(m *testing.M) {
	slog.SetLogLoggerLevel(slog.LevelError) // ollama's packages log to the default logger
	goleak.VerifyTestMain(m)
}

const (
	question = "Translate to French: the red cat sleeps"
	french   = "le chat rouge dort"
)

// embedded opens the tiny model.
func embedded(t testing.TB) *ggml.Engine {
	t.Helper()
	b, err := fs.ReadFile(tiny.FS(), tiny.File)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ggml.OpenBytes(t.Context(), b, ggml.Options{Slots: 4, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// bundle is a running server.
type bundle struct {
	t      testing.TB
	server *Server
	socket string
	http   *http.Client
	stop   context.CancelFunc
	done   chan error
}

// setup serves the tiny model under the name "tiny".
func setup(t testing.TB, o Options) *bundle {
	t.Helper()
	dir, err := os.MkdirTemp("", "es") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{t: t, server: New(o), socket: filepath.Join(dir, "s"), done: make(chan error, 1)}
	if err := b.server.Add("tiny", embedded(t)); err != nil {
		t.Fatal(err)
	}
	l, err := Listen("unix:" + b.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	go func() { b.done <- b.server.Run(ctx, l) }()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", b.socket)
	}}
	b.http = &http.Client{Transport: tr}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		cancel()
		if err := <-b.done; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return b
}

// TestConformance: the embedded engine behind HTTP keeps the engine's whole contract.
func TestConformance(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(t *testing.T) enginetest.Subject {
		b := setup(t, Options{Trusted: true, DrainTimeout: time.Second})
		e, err := openai.New(openai.Options{URL: "unix:" + b.socket, Poll: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		for !e.Capacity().Healthy {
			<-e.Watch()
		}
		return enginetest.Subject{Engine: e, Question: question, Answer: french, Slots: 4}
	})
}

// post sends a body and returns status, header and answer.
func (b *bundle) post(path, body string, header ...string) (int, http.Header, string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, "http://engine"+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return b.do(r)
}

func (b *bundle) get(path string) (int, string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, "http://engine"+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	status, _, text := b.do(r)
	return status, text
}

func (b *bundle) do(r *http.Request) (int, http.Header, string) {
	b.t.Helper()
	resp, err := b.http.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func chat(extra string) string {
	return `{"model":"tiny","temperature":0,"messages":[{"role":"user","content":"` + question + `"}]` + extra + `}`
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	if status, text := b.get("/health"); status != 200 || !strings.Contains(text, `"ok"`) {
		t.Errorf("%d %s", status, text)
	}
	if status, text := b.get("/v1/models"); status != 200 || !strings.Contains(text, `"max_model_len":512`) || !strings.Contains(text, `"owned_by":"cocoon"`) {
		t.Errorf("%d %s", status, text)
	}
	if status, text := b.get("/v1/models/tiny"); status != 200 || !strings.Contains(text, `"architecture":"llama"`) {
		t.Errorf("%d %s", status, text)
	}
	if status, text := b.get("/v1/models/other"); status != 404 || !strings.Contains(text, `"unknown_model"`) {
		t.Errorf("%d %s", status, text)
	}
	if status, _, text := b.post("/tokenize", chat("")); status != 200 || !strings.Contains(text, `"exact":true`) {
		t.Errorf("%d %s", status, text)
	}
	status, header, text := b.post("/v1/chat/completions", chat(""))
	if status != 200 || header.Get("Content-Type") != "application/json" || !strings.Contains(text, french) {
		t.Errorf("%d %s", status, text)
	}
	status, metrics := b.get("/metrics")
	for _, want := range []string{`cocoon:num_requests_running{model_name="tiny"} 0`, `cocoon:request_success_total{model_name="tiny"} 1`, `cocoon:kv_cache_usage_perc{model_name="tiny"} 0`, `cocoon:prompt_tokens_total{model_name="tiny"}`} {
		if status != 200 || !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// TestEmbeddings: a model that gives vectors serves them over HTTP, through the engine for such servers.
func TestEmbeddings(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	var model bytes.Buffer
	if err := gguf.Random(&model, gguf.Shape{Architecture: "qwen3", Pooled: true}); err != nil {
		t.Fatal(err)
	}
	vectors, err := ggml.OpenBytes(t.Context(), model.Bytes(), ggml.Options{Slots: 2, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.server.Add("vectors", vectors); err != nil {
		t.Fatal(err)
	}
	e, err := openai.New(openai.Options{URL: "unix:" + b.socket, Model: "vectors", Poll: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for !e.Capacity().Healthy {
		<-e.Watch()
	}
	body := []byte(`{"model":"vectors","input":["one","two words"]}`)
	stream, err := e.Submit(t.Context(), &consumers.Request{URL: consumers.PathEmbeddings, Body: body})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	ev, err := stream.Next()
	if err != nil || ev.Done == nil {
		t.Fatal(ev, err)
	}
	var o struct {
		Data []struct{ Embedding []float32 }
	}
	if err := json.Unmarshal(ev.Done.Body, &o); err != nil || len(o.Data) != 2 || len(o.Data[1].Embedding) != 64 {
		t.Errorf("%v %.200s", err, ev.Done.Body)
	}
	n, exact, err := e.Count(t.Context(), &consumers.Request{URL: consumers.PathEmbeddings, Body: body})
	if u := ev.Done.Usage; err != nil || !exact || !ev.Done.UsageExact || uint64(n) != u.Prompt || u.Completion != 0 {
		t.Errorf("counted %d (%v), used %+v, %v", n, exact, u, err)
	}
}

// TestEvents: the wire form of a stream, byte by byte where it matters.
func TestEvents(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	_, header, text := b.post("/v1/chat/completions", chat(`,"stream":true,"stream_options":{"include_usage":true}`))
	if header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%v", header)
	}
	var content strings.Builder
	events := 0
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		line := s.Text()
		if line == "" || line == "data: [DONE]" {
			continue
		}
		var c enginetest.Response
		if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &c); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		events++
		for _, x := range c.Choices {
			content.WriteString(x.Delta.Content)
		}
	}
	if content.String() != french || !strings.HasSuffix(text, "data: [DONE]\n\n") || events < 4 {
		t.Errorf("%d events, %q, end %q", events, content.String(), text[max(0, len(text)-40):])
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{MaxBody: 4096, Key: "secret"})
	auth := []string{"Authorization", "Bearer secret"}
	for name, c := range map[string]struct {
		path, body string
		header     []string
		status     int
		want       string
	}{
		"no key":        {"/v1/chat/completions", chat(""), nil, 401, `"denied"`},
		"wrong key":     {"/v1/chat/completions", chat(""), []string{"Authorization", "Bearer x"}, 401, `"denied"`},
		"unknown model": {"/v1/chat/completions", `{"model":"gpt","messages":[]}`, auth, 404, `"unknown_model"`},
		"model number":  {"/v1/chat/completions", `{"model":1}`, auth, 400, `"param":"model"`},
		"no JSON":       {"/v1/chat/completions", `{`, auth, 400, `"invalid"`},
		"bad field":     {"/v1/chat/completions", chat(`,"top_p":7`), auth, 400, `"param":"top_p"`},
		"unsupported":   {"/v1/embeddings", `{"model":"tiny","input":"x"}`, auth, 400, `"unsupported"`},
		"tools":         {"/v1/chat/completions", chat(`,"tools":[{"type":"function"}]`), auth, 400, `"param":"tools"`},
		"schema":        {"/v1/chat/completions", chat(`,"response_format":{"type":"json_object"}`), auth, 400, `"param":"response_format"`},
		"long body":     {"/v1/chat/completions", chat(`,"user":"` + strings.Repeat("x", 5000) + `"`), auth, 400, `"too_large"`},
		"too long":      {"/v1/chat/completions", chat(`,"max_tokens":9999`), auth, 400, `"too_large"`},
		"no such path":  {"/v1/nothing", `{}`, auth, 404, ""},
	} {
		status, _, text := b.post(c.path, c.body, c.header...)
		if status != c.status || !strings.Contains(text, c.want) || strings.Contains(text, question) {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if status, _ := b.get("/health"); status != 200 {
		t.Errorf("health wants a key: %d", status)
	}
}

// TestClientGone: a client that goes away frees its slot.
func TestClientGone(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine/v1/chat/completions", strings.NewReader(chat(`,"stream":true,"ignore_eos":true,"max_tokens":400`)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := b.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resp.Body.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel()
	resp.Body.Close()
	e, err := b.server.engine("tiny")
	if err != nil {
		t.Fatal(err)
	}
	for e.Capacity().Running > 0 {
		<-e.Watch()
	}
	if c := e.(*ggml.Engine).Counts(); c["cancelled"] != 1 || c["finished"] != 0 {
		t.Errorf("%v", c)
	}
}

// TestLoad: models come and go while the server runs.
func TestLoad(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Load: func(_ context.Context, model string) (consumers.Engine, error) {
		if model != "second" {
			return nil, &schemas.Error{Kind: schemas.KindNotFound, Field: "model", Message: "no such model"}
		}
		return embedded(t), nil
	}})
	for _, c := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/models/load", `{"model":"second"}`, 200, `"id":"second"`},
		{"/models/load", `{"model":"second"}`, 200, `"id":"second"`},
		{"/models/load", `{"model":"third"}`, 404, `"not_found"`},
		{"/models/load", `{}`, 400, `"param":"model"`},
		{"/v1/chat/completions", strings.Replace(chat(""), "tiny", "second", 1), 200, french},
		{"/models/unload", `{"model":"second"}`, 200, "second"},
		{"/models/unload", `{"model":"second"}`, 404, `"unknown_model"`},
		{"/v1/chat/completions", strings.Replace(chat(""), "tiny", "second", 1), 404, `"unknown_model"`},
	} {
		if status, _, text := b.post(c.path, c.body); status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s %s: %d %s", c.path, c.body, status, text)
		}
	}
}

// TestTrust: only a trusted server believes who the tenant is. Prefixes are shared within one tenant only.
func TestTrust(t *testing.T) {
	t.Parallel()
	long := strings.Replace(chat(""), question, "Translate to French: the red cat sleeps and the red cat sleeps and the red cat sleeps", 1)
	cached := func(b *bundle, tenant string) bool {
		_, _, text := b.post("/v1/chat/completions", long, HeaderTenant, tenant)
		return !strings.Contains(text, `"cached_tokens":0`)
	}
	trusted, open := setup(t, Options{Trusted: true}), setup(t, Options{})
	first, again, other := cached(trusted, "a"), cached(trusted, "a"), cached(trusted, "b")
	if first || !again || other {
		t.Errorf("a trusted server shares within a tenant only: first %v, again %v, other tenant %v", first, again, other)
	}
	first, again = cached(open, "a"), cached(open, "a")
	if first || again {
		t.Errorf("an open server believes a header: first %v, again %v", first, again)
	}
	for _, h := range [][]string{{HeaderPriority, "x"}, {HeaderDeadline, "soon"}, {HeaderTenant, strings.Repeat("x", 200)}} {
		if status, _, text := trusted.post("/v1/chat/completions", long, h...); status != 400 {
			t.Errorf("%v: %d %s", h, status, text)
		}
	}
	if status, _, text := trusted.post("/v1/chat/completions", long, HeaderDeadline, "1000"); status != 504 || !strings.Contains(text, `"expired"`) {
		t.Errorf("%d %s", status, text)
	}
}

// TestDraining: a server that stops lets running requests end and refuses new ones with 503.
func TestDraining(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	running := make(chan string, 1)
	go func() {
		_, _, text := b.post("/v1/chat/completions", chat(`,"ignore_eos":true,"max_tokens":300`))
		running <- text
	}()
	e, err := b.server.engine("tiny")
	if err != nil {
		t.Fatal(err)
	}
	for e.Capacity().Running == 0 {
		time.Sleep(time.Millisecond) // until it runs
	}
	b.stop()
	for !e.Capacity().Draining {
		time.Sleep(time.Millisecond) // until the drain has begun
	}
	if h := b.server.state(); h.Status != "draining" {
		t.Errorf("%+v", h)
	}
	if text := <-running; !strings.Contains(text, `"finish_reason":"length"`) {
		t.Errorf("a running request was cut off: %s", text)
	}
	if err := b.server.Add("late", e); schemas.KindOf(err) != schemas.KindUnavailable {
		t.Errorf("%v", err)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "es")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if _, err := Listen("unix:" + path); schemas.KindOf(err) != schemas.KindConflict {
		t.Errorf("a socket in use: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as after a crash
	l.Close()
	again, err := Listen("unix:" + path)
	if err != nil {
		t.Fatalf("a socket that a dead process left: %v", err)
	}
	again.Close()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:" + path); err == nil {
		t.Error("a file that is no socket was replaced")
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, []byte("mine")) {
		t.Errorf("%q %v", b, err)
	}
}

// stuck is an engine whose step does not end.
type stuck struct {
	consumers.Engine
	since  time.Time
	health bool
}

func (s *stuck) Stepping() time.Time { return s.since }
func (s *stuck) Capacity() consumers.Capacity {
	return consumers.Capacity{Healthy: s.health, Running: consumers.Unknown}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := New(Options{StuckAfter: time.Minute})
	if h := s.state(); h.Status != "empty" {
		t.Errorf("%+v", h)
	}
	e := &stuck{health: true}
	if err := errors.Join(s.Add("m", e)); err != nil {
		t.Fatal(err)
	}
	if err := s.Add("m", e); schemas.KindOf(err) != schemas.KindConflict {
		t.Errorf("a name twice: %v", err)
	}
	for want, change := range map[string]func(){
		"ok":     func() { *e = stuck{health: true, since: time.Now().Add(-30 * time.Second)} },
		"stuck":  func() { *e = stuck{health: true, since: time.Now().Add(-2 * time.Minute)} },
		"failed": func() { *e = stuck{} },
	} {
		change()
		if h := s.state(); h.Status != want {
			t.Errorf("%+v, want %s", h, want)
		}
	}
}
