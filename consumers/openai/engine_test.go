package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/enginetest"
	"github.com/cocoon-network/cocoon/schemas"
)

// TestMain is also the child that Supervise starts.
func TestMain(m *testing.M) {
	if how := os.Getenv(playServer); how != "" {
		serveChild(how, os.Args[1])
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	question = "Translate to French: the red cat sleeps"
	french   = "le chat rouge dort"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(t *testing.T) enginetest.Subject {
		return enginetest.Subject{Engine: newScripted(t).engine(t, Options{Slots: 8}), Question: question, Answer: french, Slots: 4}
	})
}

// submit runs a request of any endpoint.
func submit(t *testing.T, e *Engine, r *consumers.Request) (*enginetest.Answer, error) {
	t.Helper()
	s, err := e.Submit(t.Context(), r)
	if err != nil {
		return nil, err
	}
	return enginetest.Read(s)
}

// TestWhatTheServerGets: what has to be changed in a request is, and nothing else.
func TestWhatTheServerGets(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	e := s.engine(t, Options{})
	tools := []any{map[string]any{"type": "function", "function": map[string]any{"name": "f", "parameters": map[string]any{}}}}
	b := enginetest.Chat("tenant-name", question).With("tools", tools).With("tool_choice", "auto").With("logit_bias", map[string]any{"5": -100}).
		With("response_format", map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": "x"}}).With("seed", 9007199254740993)
	salts := map[string]bool{}
	for _, tenant := range []schemas.TenantID{"a", "a", "b", "", ""} {
		r := &consumers.Request{URL: consumers.PathChat, Body: b.JSON(t), Tenant: tenant}
		if _, err := submit(t, e, r); err != nil {
			t.Fatal(err)
		}
		got := s.last()
		salt, _ := got["cache_salt"].(string)
		if salts[salt] = true; salt == "" || strings.Contains(salt, "tenant") {
			t.Errorf("salt %q", salt)
		}
	}
	if len(salts) != 4 {
		t.Errorf("%d salts for tenants a, a, b and two without: want 4", len(salts))
	}
	got := s.last()
	options, _ := got["stream_options"].(map[string]any)
	if got["model"] != "scripted" || got["stream"] != true || options["include_usage"] != true || fmt.Sprint(got["tools"]) != fmt.Sprint(tools) || got["tool_choice"] != "auto" ||
		got["temperature"] != 0.0 || fmt.Sprint(got["logit_bias"]) != "map[5:-100]" {
		t.Errorf("%v", got)
	}
}

// event writes one event.
func event(w http.ResponseWriter, format string, args ...any) {
	fmt.Fprintf(w, "data: "+format+"\n\n", args...)
	http.NewResponseController(w).Flush()
}

// TestCollect: an answer with tool calls, reasoning and two choices comes out as the server would have given it whole.
func TestCollect(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.fault = func(w http.ResponseWriter, _ map[string]any) bool {
		for _, c := range []string{
			`{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":"hm"}}`,
			`{"index":1,"delta":{"role":"assistant","content":"hi"},"logprobs":{"content":[{"token":"hi","logprob":-0.5}]}}`,
			`{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"ci"}}]}}`,
			`{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"ty\":1}"}},{"index":1,"id":"call_2","function":{"name":"g","arguments":"{}"}}]}}`,
			`{"index":1,"delta":{"content":" you"},"logprobs":{"content":[{"token":" you","logprob":-1}]},"finish_reason":"stop"}`,
			`{"index":0,"delta":{},"finish_reason":"tool_calls"}`,
		} {
			event(w, `{"id":"x","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp_1","choices":[%s]}`, c)
		}
		event(w, `{"id":"x","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":12,"total_tokens":42,"prompt_tokens_details":{"cached_tokens":16},"completion_tokens_details":{"reasoning_tokens":5}}}`)
		event(w, "[DONE]")
		return true
	}
	a, err := submit(t, s.engine(t, Options{}), &consumers.Request{URL: consumers.PathChat, Body: enginetest.Chat("mine", question).With("n", 2).JSON(t)})
	if err != nil {
		t.Fatal(err)
	}
	if want := (schemas.Usage{Prompt: 14, Cached: 16, Completion: 7, Reasoning: 5}); a.Done.Usage != want || !a.UsageExact {
		t.Errorf("%+v", a.Done.Usage)
	}
	if a.FinishReason != "tool_calls" || a.Fingerprint != "fp_1" {
		t.Errorf("%+v", a.Done)
	}
	want := `{"choices":[{"finish_reason":"tool_calls","index":0,"logprobs":null,"message":{"content":null,"reasoning_content":"hm","role":"assistant","tool_calls":[{"function":{"arguments":"{\"city\":1}","name":"weather"},"id":"call_1","type":"function"},{"function":{"arguments":"{}","name":"g"},"id":"call_2","type":"function"}]}},` +
		`{"finish_reason":"stop","index":1,"logprobs":{"content":[{"token":"hi","logprob":-0.5},{"token":" you","logprob":-1}]},"message":{"content":"hi you","role":"assistant"}}],"created":7,"id":"x","model":"mine","object":"chat.completion","system_fingerprint":"fp_1",` +
		`"usage":{"completion_tokens":12,"completion_tokens_details":{"reasoning_tokens":5},"prompt_tokens":30,"prompt_tokens_details":{"cached_tokens":16},"total_tokens":42}}`
	if string(a.Body) != want {
		t.Errorf("%s\nwant\n%s", a.Body, want)
	}
}

// TestFaults: nothing but a complete answer counts as one, and every fault has the kind that says what to do.
func TestFaults(t *testing.T) {
	t.Parallel()
	const first = `{"id":"x","choices":[{"index":0,"delta":{"role":"assistant","content":"le "},"finish_reason":null}]}`
	const last = `{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	for name, c := range map[string]struct {
		fault func(w http.ResponseWriter, body map[string]any) bool
		kind  schemas.Kind
		field string
	}{
		"429":                {status(429, ``), schemas.KindBusy, ""},
		"503":                {status(503, ``), schemas.KindUnavailable, ""},
		"500":                {status(500, `boom`), schemas.KindEngine, ""},
		"502":                {status(502, ``), schemas.KindEngine, ""},
		"504":                {status(504, ``), schemas.KindEngine, ""},
		"401":                {status(401, ``), schemas.KindUnavailable, ""},
		"404":                {status(404, `{"error":{"message":"no","code":"model_not_found","param":"model"}}`), schemas.KindUnknownModel, "model"},
		"400 flat":           {status(400, `{"object":"error","message":"top_k must be","type":"BadRequestError","param":"top_k","code":400}`), schemas.KindInvalid, "top_k"},
		"400 no JSON":        {status(400, `<html>`), schemas.KindInvalid, ""},
		"422":                {status(422, `{"detail":[]}`), schemas.KindInvalid, ""},
		"413":                {status(413, ``), schemas.KindTooLarge, ""},
		"dies at once":       {play(), schemas.KindEngine, ""},
		"dies in the middle": {play(first), schemas.KindEngine, ""},
		"no finish":          {play(first, "[DONE]"), schemas.KindEngine, ""},
		"no DONE":            {play(first, last), schemas.KindEngine, ""},
		"error event":        {play(first, `{"error":{"message":"CUDA error","type":"internal"}}`), schemas.KindEngine, ""},
		"typed error":        {play(first, `{"error":{"message":"late","code":"expired"}}`), schemas.KindExpired, ""},
		"no JSON event":      {play(first, `{"choices":`), schemas.KindEngine, ""},
		"wild index":         {play(`{"choices":[{"index":1000000,"delta":{"content":"x"}}]}`), schemas.KindEngine, ""},
		"negative tool":      {play(`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":-1}]}}]}`), schemas.KindEngine, ""},
		"absurd usage":       {play(first, last, `{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":9}}}`, "[DONE]"), schemas.KindUnknown, ""},
		"endless line":       {flood("x"), schemas.KindEngine, ""},
		"connection reset":   {reset, schemas.KindUnavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t)
			e := s.engine(t, Options{Poll: time.Hour})
			s.set(func() { s.fault = c.fault })
			for _, stream := range []bool{false, true} {
				_, err := submit(t, e, &consumers.Request{URL: consumers.PathChat, Body: enginetest.Chat("m", question).With("stream", stream).JSON(t)})
				if c.kind == schemas.KindUnknown { // counted by the tokenizer instead
					if err != nil {
						t.Error(err)
					}
					continue
				}
				var x *schemas.Error
				if !errors.As(err, &x) || x.Kind != c.kind || x.Field != c.field {
					t.Errorf("stream %v: %v, want %v", stream, err, c.kind)
				}
			}
			if got := e.Capacity().Running; got != 0 {
				t.Errorf("%d in flight after the fault", got)
			}
		})
	}
}

// status answers with a status and a body.
func status(code int, text string) func(http.ResponseWriter, map[string]any) bool {
	return func(w http.ResponseWriter, _ map[string]any) bool {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(code)
		io.WriteString(w, text)
		return true
	}
}

// play sends events and ends.
func play(events ...string) func(http.ResponseWriter, map[string]any) bool {
	return func(w http.ResponseWriter, _ map[string]any) bool {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, e := range events {
			event(w, "%s", e)
		}
		return true
	}
}

// flood sends one line that does not end.
func flood(text string) func(http.ResponseWriter, map[string]any) bool {
	return func(w http.ResponseWriter, _ map[string]any) bool {
		io.WriteString(w, "data: ")
		block := strings.Repeat(text, 1<<16)
		for range maxEvent>>16 + 2 {
			if _, err := io.WriteString(w, block); err != nil {
				return true
			}
		}
		return true
	}
}

// reset breaks the connection before an answer.
func reset(w http.ResponseWriter, _ map[string]any) bool {
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		c.Close()
	}
	return true
}

// TestRefusedText: what a server says may quote the prompt. It is there for who unwraps it, and nowhere else.
func TestRefusedText(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	e := s.engine(t, Options{})
	s.set(func() { s.fault = status(400, `{"error":{"message":"cannot read `+question+`","param":"messages"}}`) })
	_, err := submit(t, e, &consumers.Request{URL: consumers.PathChat, Body: enginetest.Chat("m", question).JSON(t)})
	var r *Refused
	if !errors.As(err, &r) || r.Status != 400 || !strings.Contains(string(r.Body), question) {
		t.Errorf("%v", err)
	}
	if strings.Contains(err.Error(), question) {
		t.Errorf("the error repeats the prompt: %v", err)
	}
	s.set(func() { s.fault = status(429, ``) })
	_, err = submit(t, e, &consumers.Request{URL: consumers.PathChat, Body: enginetest.Chat("m", question).JSON(t)})
	var x *schemas.Error
	if !errors.As(err, &x) || x.RetryAfter != 7*time.Second {
		t.Errorf("%v", err)
	}
}

// TestMissingUsage: counted by the server's tokenizer where it has one, refused where not. Never zero.
func TestMissingUsage(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.noUsage = true
	a, err := submit(t, s.engine(t, Options{}), &consumers.Request{URL: consumers.PathChat, Body: enginetest.Chat("m", question).JSON(t)})
	if err != nil || !a.UsageExact || a.Done.Usage != (schemas.Usage{Prompt: 7, Completion: 4}) {
		t.Errorf("%+v %v", a, err)
	}
	_, err = submit(t, s.engine(t, Options{Flavour: "sglang"}), &consumers.Request{URL: consumers.PathChat, Body: enginetest.Chat("m", question).JSON(t)})
	var x *schemas.Error
	if !errors.As(err, &x) || x.Kind != schemas.KindEngine || x.Field != "usage" {
		t.Errorf("without a tokenizer: %v", err)
	}
}

// TestStall: a server that keeps silent is given up, and the request may run again.
func TestStall(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	e := s.engine(t, Options{Stall: 50 * time.Millisecond})
	s.set(func() {
		s.fault = func(w http.ResponseWriter, _ map[string]any) bool {
			event(w, `{"choices":[{"index":0,"delta":{"content":"le "}}]}`)
			time.Sleep(300 * time.Millisecond)
			return true
		}
	})
	if _, err := submit(t, e, &consumers.Request{URL: consumers.PathChat, Body: enginetest.Chat("m", question).JSON(t)}); schemas.KindOf(err) != schemas.KindEngine || !schemas.Retriable(err) {
		t.Errorf("%v", err)
	}
}

// TestOtherEndpoints: embeddings are whole, responses have typed events, speech is passed through as it is.
func TestOtherEndpoints(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.fault = func(w http.ResponseWriter, body map[string]any) bool {
		switch {
		case body["voice"] != nil:
			w.Header().Set("Content-Type", "audio/mpeg")
			io.WriteString(w, "ID3\x00\xff")
		case body["input"] == "stream me":
			event(w, `{"type":"response.created","response":{"id":"r"}}`)
			event(w, `{"type":"response.output_text.delta","delta":"hi"}`)
			event(w, `{"type":"response.completed","response":{"id":"r","model":"scripted","usage":{"input_tokens":9,"output_tokens":3,"total_tokens":12,"input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":1}}}}`)
		case body["input"] == "uncounted":
			io.WriteString(w, `{"object":"list","data":[]}`)
		default:
			io.WriteString(w, `{"object":"list","model":"scripted","data":[{"embedding":[0.1,1e-3]}],"usage":{"prompt_tokens":5,"total_tokens":5}}`)
		}
		return true
	}
	e := s.engine(t, Options{})
	a, err := submit(t, e, &consumers.Request{URL: consumers.PathEmbeddings, Body: []byte(`{"model":"m","input":"x"}`)})
	if err != nil || a.Done.Usage != (schemas.Usage{Prompt: 5}) || !a.UsageExact || !strings.Contains(string(a.Body), `[0.1,1e-3]`) || a.Response.Model != "m" {
		t.Errorf("embeddings: %+v %v", a, err)
	}
	if _, err := submit(t, e, &consumers.Request{URL: consumers.PathEmbeddings, Body: []byte(`{"model":"m","input":"uncounted"}`)}); schemas.KindOf(err) != schemas.KindEngine {
		t.Errorf("uncounted: %v", err)
	}
	a, err = submit(t, e, &consumers.Request{URL: consumers.PathResponses, Body: []byte(`{"model":"m","input":"stream me","stream":true}`)})
	if err != nil || len(a.Chunks) != 3 || a.Done.Usage != (schemas.Usage{Prompt: 5, Cached: 4, Completion: 2, Reasoning: 1}) || a.Response.Model != "m" {
		t.Errorf("responses: %+v %v", a, err)
	}
	stream, err := e.Submit(t.Context(), &consumers.Request{URL: consumers.PathSpeech, Body: []byte(`{"model":"m","voice":"v","input":"x"}`)})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	ev, err := stream.Next()
	if err != nil || string(ev.Done.Body) != "ID3\x00\xff" || ev.Done.ContentType != "audio/mpeg" || ev.Done.UsageExact {
		t.Errorf("speech: %+v %v", ev, err)
	}
	if s.last()["model"] != "scripted" {
		t.Errorf("speech: %v", s.last())
	}
	form := "multipart/form-data; boundary=b"
	if _, err := e.Submit(t.Context(), &consumers.Request{URL: consumers.PathChat, ContentType: form, Body: []byte("--b--")}); schemas.KindOf(err) != schemas.KindUnsupported {
		t.Errorf("a chat as a form: %v", err)
	}
}

// TestDown: a server that is away makes the engine unhealthy, and its return is noticed and signalled.
func TestDown(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	e := s.engine(t, Options{})
	s.set(func() { s.status = 503 })
	for e.Capacity().Healthy {
		time.Sleep(time.Millisecond) // until the next look
	}
	if c := e.Capacity(); c.Free != 0 {
		t.Errorf("%+v", c)
	}
	for len(e.Watch()) > 0 {
		<-e.Watch()
	}
	s.set(func() { s.status = 0 })
	<-e.Watch()
	if c := e.Capacity(); !c.Healthy || c.Free == 0 {
		t.Errorf("%+v", c)
	}
	gone, err := New(Options{URL: "unix:/nonexistent/socket", Poll: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	if _, err := gone.Submit(t.Context(), &consumers.Request{URL: consumers.PathChat, Body: []byte(`{}`)}); schemas.KindOf(err) != schemas.KindUnavailable {
		t.Errorf("%v", err)
	}
	for _, o := range []Options{{}, {URL: "ftp://x"}, {URL: "http://x", Slots: -1}} {
		if _, err := New(o); schemas.KindOf(err) != schemas.KindInvalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
	wrong := s.engine(t, Options{})
	wrong.down()
	wrong.o.Model = "another"
	if _, err := wrong.Info(t.Context()); schemas.KindOf(err) != schemas.KindUnknownModel {
		t.Errorf("%v", err)
	}
}

// TestCapacityFromMetrics: memory in tokens where the server tells, unknown where not.
func TestCapacityFromMetrics(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	e := s.engine(t, Options{})
	if c := e.Capacity(); c.KVTotal != consumers.Unknown || c.Waiting != consumers.Unknown || c.FreeTokens != consumers.Unknown || c.Free <= 0 {
		t.Errorf("%+v", c)
	}
	s.set(func() {
		s.metrics = "# HELP x\nvllm:num_requests_running{model_name=\"scripted\"} 3\nvllm:num_requests_running{model_name=\"other\"} 70\nvllm:num_requests_waiting{model_name=\"scripted\"} 2.0\n" +
			"vllm:gpu_cache_usage_perc 0.25\nvllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"1000\",x=\"a\\\"b\"} 1\n"
	})
	for e.Capacity().KVTotal == consumers.Unknown {
		time.Sleep(time.Millisecond) // until the next look
	}
	if c := e.Capacity(); c.KVTotal != 16000 || c.KVUsed != 4000 || c.FreeTokens != 12000 || c.Waiting != 2 {
		t.Errorf("%+v", c)
	}
}

// TestBusy: no more than Slots requests are in flight, whatever the limit says.
func TestBusy(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	e := s.engine(t, Options{Slots: 2})
	long := enginetest.Chat("m", question).With("ignore_eos", true).JSON(t)
	for range 2 {
		stream, err := e.Submit(t.Context(), &consumers.Request{URL: consumers.PathChat, Body: long})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
	}
	if _, err := e.Submit(t.Context(), &consumers.Request{URL: consumers.PathChat, Body: long}); schemas.KindOf(err) != schemas.KindBusy {
		t.Errorf("%v", err)
	}
	if c := e.Capacity(); c.Running != 2 || c.Free != 0 {
		t.Errorf("%+v", c)
	}
}

// TestDrainGivesUp: a drain that takes too long leaves the requests alone.
func TestDrainGivesUp(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	e := s.engine(t, Options{})
	stream, err := e.Submit(t.Context(), &consumers.Request{URL: consumers.PathChat, Body: enginetest.Chat("m", question).With("ignore_eos", true).With("max_tokens", 300).With("stream", true).JSON(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := e.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := stream.Next(); err != nil {
		t.Errorf("%v", err)
	}
}

func FuzzMetrics(f *testing.F) {
	f.Add("a{b=\"c\\\"\",d=\"e\"} 1 2\n# x\nb 3\n_info{x=\"1\"} 1")
	f.Add("a{")
	f.Fuzz(func(t *testing.T, text string) {
		for k := range parseMetrics(strings.NewReader(text), "m") {
			if k == "" {
				t.Error("a series without a name")
			}
		}
	})
}

// FuzzEvents: events are cut the same way wherever the network cuts the bytes, and every line of data comes out.
func FuzzEvents(f *testing.F) {
	f.Add("data: a\n\ndata:b\r\ndata: c\r\n\r\n: comment\nevent: x\ndata: d")
	f.Fuzz(func(t *testing.T, text string) {
		read := func(r io.Reader) (out []string) {
			e := newEvents(r, func() {})
			for {
				b, err := e.next()
				if err != nil {
					return out
				}
				out = append(out, string(b))
			}
		}
		a, b := read(strings.NewReader(text)), read(oneByte{strings.NewReader(text)})
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		if string(x) != string(y) {
			t.Errorf("%s, byte by byte %s", x, y)
		}
	})
}

type oneByte struct{ r io.Reader }

func (o oneByte) Read(b []byte) (int, error) { return o.r.Read(b[:min(1, len(b))]) }
