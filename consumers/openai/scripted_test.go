package openai

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
)

// scripted is an OpenAI-compatible server without a model: it answers word by word, refuses what OpenAI refuses, and can
// be told to misbehave. It plays vLLM unless told otherwise.
type scripted struct {
	t      testing.TB
	server *httptest.Server
	owner  string
	answer string        // what it says; a token is a word with the space before it
	step   time.Duration // between tokens

	mu      sync.Mutex
	running int
	seen    []map[string]any // bodies of requests
	fault   func(w http.ResponseWriter, body map[string]any) bool
	metrics string
	status  int // of /health, 0 for 200
	noUsage bool
}

const scriptedContext = 512

func newScripted(t testing.TB) *scripted {
	s := &scripted{t: t, owner: "vllm", answer: "le chat rouge dort"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		w.WriteHeader(max(s.status, 0) + map[bool]int{true: 200}[s.status == 0])
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		io.WriteString(w, s.metrics)
	})
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		fmt.Fprintf(w, `{"object":"list","data":[{"id":"scripted","object":"model","owned_by":%q,"max_model_len":%d}]}`, s.owner, scriptedContext)
	})
	mux.HandleFunc("POST /tokenize", s.tokenize)
	mux.HandleFunc("POST /v1/", s.complete)
	s.server = httptest.NewServer(mux)
	t.Cleanup(s.server.Close)
	return s
}

// engine connects to it.
func (s *scripted) engine(t testing.TB, o Options) *Engine {
	t.Helper()
	o.URL = s.server.URL
	if o.Poll == 0 {
		o.Poll = 20 * time.Millisecond
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	for !e.Capacity().Healthy {
		<-e.Watch()
	}
	return e
}

// set changes something under the lock.
func (s *scripted) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// last is the body of the last request.
func (s *scripted) last() map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[len(s.seen)-1]
}

// problemf answers as OpenAI does. Like vLLM it repeats the input.
func problemf(w http.ResponseWriter, status int, param, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": fmt.Sprintf(format, args...), "type": "BadRequestError", "param": param, "code": status}})
}

func words(text string) int { return len(strings.Fields(text)) }

func (s *scripted) tokenize(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	json.NewDecoder(r.Body).Decode(&body)
	text, _ := body["prompt"].(string)
	if m, ok := body["messages"].([]any); ok {
		text, _ = m[0].(map[string]any)["content"].(string)
	}
	fmt.Fprintf(w, `{"count":%d,"max_model_len":%d,"tokens":[]}`, words(text), scriptedContext)
}

// check refuses what OpenAI refuses; it returns the prompt.
func check(w http.ResponseWriter, body map[string]any, chat bool) (prompt string, ok bool) {
	fail := func(param, format string, args ...any) (string, bool) {
		problemf(w, http.StatusBadRequest, param, format, args...)
		return "", false
	}
	number := func(name string, low, high float64) bool {
		v, there := body[name]
		f, isNumber := v.(float64)
		return !there || isNumber && f >= low && f <= high
	}
	for _, f := range []struct {
		name      string
		low, high float64
	}{{"temperature", 0, 2}, {"top_p", 0, 1}, {"max_completion_tokens", 1, 1 << 40}, {"max_tokens", 1, 1 << 40}} {
		if !number(f.name, f.low, f.high) {
			return fail(f.name, "%v is out of range", body[f.name])
		}
	}
	switch body["stop"].(type) {
	case nil, string, []any:
	default:
		return fail("stop", "must be strings")
	}
	limit := 0.0
	field := "max_tokens"
	for _, name := range []string{"max_tokens", "max_completion_tokens"} {
		if v, there := body[name].(float64); there {
			limit, field = v, name
			if v != float64(int64(v)) {
				return fail(name, "%v is no integer", v)
			}
		}
	}
	if chat {
		list, isList := body["messages"].([]any)
		if !isList || len(list) == 0 {
			return fail("messages", "must be a list")
		}
		for i, m := range list {
			at := fmt.Sprintf("messages[%d]", i)
			o, isObject := m.(map[string]any)
			if !isObject {
				return fail(at, "must be an object")
			}
			if role, _ := o["role"].(string); role != "user" && role != "assistant" && role != "system" {
				return fail(at+".role", "unknown role %v", o["role"])
			}
			content, isText := o["content"].(string)
			if !isText {
				return fail(at+".content", "must be text")
			}
			prompt += content
		}
	} else {
		prompt, _ = body["prompt"].(string)
	}
	if n := words(prompt); n+1 > scriptedContext {
		return fail("messages", "This model's maximum context length is %d tokens. Your prompt %q has %d.", scriptedContext, prompt, n)
	} else if limit > 0 && n+int(limit) > scriptedContext {
		return fail(field, "This model's maximum context length is %d tokens. You asked for %v more.", scriptedContext, limit)
	}
	return prompt, true
}

// complete answers a chat or a completion.
func (s *scripted) complete(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	body := map[string]any{}
	if err := json.Unmarshal(raw, &body); err != nil {
		if strings.Contains(string(raw), "1e999") { // a number that no float holds; OpenAI names the field
			problemf(w, http.StatusBadRequest, "temperature", "is out of range")
			return
		}
		problemf(w, http.StatusBadRequest, "", "%v", err)
		return
	}
	s.mu.Lock()
	s.seen = append(s.seen, body)
	fault, answer, step, noUsage := s.fault, s.answer, s.step, s.noUsage
	s.mu.Unlock()
	if fault != nil && fault(w, body) {
		return
	}
	chat := r.URL.Path == consumers.PathChat
	if !chat && r.URL.Path != consumers.PathCompletions {
		problemf(w, http.StatusNotFound, "", "no such path")
		return
	}
	prompt, ok := check(w, body, chat)
	if !ok {
		return
	}
	s.set(func() { s.running++ })
	defer s.set(func() { s.running-- })
	s.stream(w, r, body, chat, answer, step, words(prompt), noUsage)
}

// stream writes the events.
func (s *scripted) stream(w http.ResponseWriter, r *http.Request, body map[string]any, chat bool, answer string, step time.Duration, prompt int, noUsage bool) {
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	send := func(choices []any, extra map[string]any) {
		o := map[string]any{"id": "cmpl-1", "object": map[bool]string{true: "chat.completion.chunk", false: "text_completion"}[chat], "created": 1, "model": "scripted", "choices": choices}
		for k, v := range extra {
			o[k] = v
		}
		b, _ := json.Marshal(o)
		fmt.Fprintf(w, "data: %s\n\n", b)
		out.Flush()
	}
	choices := 1
	if n, ok := body["n"].(float64); ok {
		choices = int(n)
	}
	choice := func(text string, finish any) (all []any) { // all of them say the same
		for i := range choices {
			c := map[string]any{"index": i, "finish_reason": finish, "logprobs": nil}
			if chat {
				c["delta"] = map[string]any{"content": text}
			} else {
				c["text"] = text
			}
			all = append(all, c)
		}
		return all
	}
	usage := func(n int) map[string]any {
		if noUsage {
			return nil
		}
		return map[string]any{"usage": map[string]any{"prompt_tokens": prompt, "completion_tokens": choices * n, "total_tokens": prompt + choices*n}}
	}
	if chat {
		send([]any{map[string]any{"index": 0, "delta": map[string]any{"role": "assistant", "content": ""}, "finish_reason": nil}}, usage(0))
	}
	limit := 1 << 30
	for _, name := range []string{"max_tokens", "max_completion_tokens"} {
		if v, ok := body[name].(float64); ok {
			limit = int(v)
		}
	}
	text, finish, n := "", "length", 0
	tokens := strings.SplitAfter(answer, " ")
	for ; n < limit; n++ {
		if n >= len(tokens) && body["ignore_eos"] != true {
			finish = "stop"
			break
		}
		token := tokens[n%len(tokens)]
		if stop := stops(body, text+token); stop != "" {
			before, _, _ := strings.Cut(text+token, stop)
			send(choice(strings.TrimPrefix(before, text), nil), usage(n+1))
			finish = "stop"
			n++
			break
		}
		text += token
		send(choice(token, nil), usage(n+1))
		if body["ignore_eos"] == true {
			step = max(step, time.Millisecond)
		}
		select {
		case <-time.After(step):
		case <-r.Context().Done():
			return
		}
	}
	send(choice("", finish), usage(n))
	if o, ok := body["stream_options"].(map[string]any); ok && o["include_usage"] == true && !noUsage {
		send([]any{}, usage(n))
	}
	io.WriteString(w, "data: [DONE]\n\n")
}

// stops is the stop string that a text contains. This server has no tokens that a stop string could be hidden in, but it
// holds nothing back either: a stop string that spans tokens must not have been sent in part, so tests use whole words.
func stops(body map[string]any, text string) string {
	var list []any
	switch v := body["stop"].(type) {
	case string:
		list = []any{v}
	case []any:
		list = v
	}
	for _, s := range list {
		if s, _ := s.(string); s != "" && strings.Contains(text, s) {
			return s
		}
	}
	return ""
}
