package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/cocoon-network/cocoon/producers/gateway"
	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/schemas"
)

// bundle is a gateway over a whole network.
type bundle struct {
	net    *producerstest.Network
	worker *producerstest.Worker
	g      *gateway.Gateway
	server *httptest.Server
	client openai.Client
	dir    string
}

// setup starts a network, a worker with an engine and a gateway. adjust may change its options.
func setup(t *testing.T, engine producerstest.Engine, adjust ...func(*gateway.Options)) *bundle {
	t.Helper()
	b := &bundle{net: producerstest.New(t), dir: t.TempDir()}
	b.worker, _ = b.net.Work(t, engine)
	o := gateway.Options{Client: b.net.Client(t), Dir: b.dir, KeepAlive: 50 * time.Millisecond}
	for _, f := range adjust {
		f(&o)
	}
	var err error
	if b.g, err = gateway.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.g.Run(ctx) }()
	b.server = httptest.NewUnstartedServer(nil)
	b.server.Config = b.g.Server()
	b.server.Start()
	t.Cleanup(func() {
		b.server.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	b.client = b.as("none")
	return b
}

// as is a client with an API key. It does not retry: a test sees every answer.
func (b *bundle) as(key string) openai.Client {
	return openai.NewClient(option.WithBaseURL(b.server.URL+"/v1"), option.WithAPIKey(key), option.WithMaxRetries(0))
}

// post makes a plain request.
func (b *bundle) post(t *testing.T, path, body string, header ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(patience(t), http.MethodPost, b.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Body.Close() })
	return w
}

// patience bounds a test's waits.
func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), producerstest.Wait)
	t.Cleanup(cancel)
	return ctx
}

// read reads a body.
func read(t *testing.T, w *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// chat is a chat request.
func chat(message string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model: producerstest.ModelName, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(message)}, MaxCompletionTokens: openai.Int(16),
	}
}

func TestChat(t *testing.T) {
	t.Parallel()
	b := setup(t, producerstest.Echo)
	var raw *http.Response
	a, err := b.client.Chat.Completions.New(patience(t), chat("hello"), option.WithResponseInto(&raw))
	if err != nil {
		t.Fatal(err)
	}
	if a.Choices[0].Message.Content != producerstest.Say("hello") || a.Choices[0].FinishReason != "stop" || a.Usage.TotalTokens != 15 {
		t.Errorf("answer = %+v", a)
	}
	charge, err := b.net.Catalogue.Cost(producerstest.Model, producerstest.Usage, schemas.One)
	if err != nil {
		t.Fatal(err)
	}
	var costs struct {
		Prompt     schemas.NanoTON `json:"-"`
		PromptCost int64           `json:"prompt_total_cost"`
		Completion int64           `json:"completion_total_cost"`
		Total      int64           `json:"total_cost"`
	}
	if err := json.Unmarshal([]byte(a.Usage.RawJSON()), &costs); err != nil {
		t.Fatal(err)
	}
	if costs.Total != int64(charge.Total) || costs.PromptCost != int64(charge.PromptCost) || costs.Completion != int64(charge.CompletionCost) || costs.Total == 0 {
		t.Errorf("costs = %+v, want %+v", costs, charge)
	}
	for _, name := range []string{"X-Request-Id", "X-Cocoon-Job", "X-Cocoon-Client-Start", "X-Cocoon-Worker-End"} {
		if raw.Header.Get(name) == "" {
			t.Errorf("no header %s", name)
		}
	}
	if raw.Header.Get("X-Cocoon-Environment") != "simulated" {
		t.Error("the answer does not say that the environment is simulated")
	}
	// The receipt of the job can be fetched from the record only when it was recorded; an ephemeral job's from the network.
	receipt := struct {
		Job     string `json:"job"`
		Receipt string `json:"receipt"`
		Charge  struct {
			Total string `json:"total"`
		} `json:"charge"`
	}{}
	if err := b.client.Get(patience(t), "receipts/"+raw.Header.Get("X-Cocoon-Job"), nil, &receipt); err != nil {
		t.Fatal(err)
	}
	if strings.Count(receipt.Receipt, ".") != 2 || receipt.Charge.Total == "" {
		t.Errorf("receipt = %+v", receipt)
	}
}

func TestChatStream(t *testing.T) {
	t.Parallel()
	b := setup(t, producerstest.Echo)
	p := chat("a b c d e")
	p.StreamOptions.IncludeUsage = openai.Bool(true)
	s := b.client.Chat.Completions.NewStreaming(patience(t), p)
	var acc openai.ChatCompletionAccumulator
	chunks, cost := 0, ""
	for s.Next() {
		acc.AddChunk(s.Current())
		chunks++
		if u := s.Current().Usage; u.TotalTokens > 0 {
			cost = u.RawJSON()
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if acc.Choices[0].Message.Content != producerstest.Say("a b c d e") || acc.Choices[0].FinishReason != "stop" || acc.Usage.TotalTokens != 15 || chunks < 3 {
		t.Errorf("%d chunks: %+v", chunks, acc.ChatCompletion)
	}
	if !strings.Contains(cost, `"total_cost":`) {
		t.Errorf("usage without cost: %s", cost)
	}
}

func TestStreamIsHonest(t *testing.T) {
	t.Parallel()
	b := setup(t, func(_ context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
		emit(producerstest.Chunk("tiny", "half an ", ""))
		return schemas.Failure(&schemas.Error{Kind: schemas.KindPoison, Message: "broke on every attempt"})
	})
	w := b.post(t, "/v1/chat/completions", string(producerstest.Ask("x", `,"stream":true`)))
	body := read(t, w)
	if w.StatusCode != 200 && w.StatusCode != 500 {
		t.Fatalf("status %d", w.StatusCode)
	}
	if strings.Contains(body, "[DONE]") || !strings.Contains(body, `"code":"poison"`) {
		t.Errorf("a broken stream looks whole: %s", body)
	}
	s := b.client.Chat.Completions.NewStreaming(patience(t), chat("y"))
	for s.Next() {
	}
	if s.Err() == nil {
		t.Error("openai-go takes a broken stream for a whole one")
	}
}

func TestStreamKeepsAlive(t *testing.T) {
	t.Parallel()
	b := setup(t, func(ctx context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
		}
		return producerstest.Echo(ctx, r, emit)
	})
	body := read(t, b.post(t, "/v1/chat/completions", string(producerstest.Ask("x", `,"stream":true`))))
	if !strings.Contains(body, ": keep-alive\n\n") || !strings.HasSuffix(body, "data: [DONE]\n\n") {
		t.Errorf("stream = %s", body)
	}
}

func TestErrorsNameTheField(t *testing.T) {
	t.Parallel()
	b := setup(t, producerstest.Echo)
	for _, tt := range []struct {
		name, path, body, contentType string
		status                        int
		param, code                   string
	}{
		{"no JSON", "/v1/chat/completions", `{`, "", 400, "", "invalid_value"},
		{"no model", "/v1/chat/completions", `{"messages":[]}`, "", 400, "model", "invalid_value"},
		{"wildcard", "/v1/chat/completions", `{"model":"*"}`, "", 400, "model", "invalid_value"},
		{"unknown model", "/v1/chat/completions", `{"model":"nobody"}`, "", 404, "model", "model_not_found"},
		{"duplicate key", "/v1/chat/completions", `{"model":"tiny","model":"tiny"}`, "", 400, "model", "invalid_value"},
		{"deep", "/v1/chat/completions", `{"model":"tiny","messages":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`, "", 400, "messages", "context_length_exceeded"},
		{"infinite", "/v1/chat/completions", `{"model":"tiny","temperature":1e999}`, "", 400, "temperature", "invalid_value"},
		{"surrogate", "/v1/chat/completions", `{"model":"tiny","messages":[{"role":"user","content":"\ud800"}]}`, "", 400, "messages[0].content", "invalid_value"},
		{"tier", "/v1/chat/completions", `{"model":"tiny","service_tier":"gold"}`, "", 400, "service_tier", "invalid_value"},
		{"coefficient", "/v1/chat/completions", `{"model":"tiny","max_coefficient":1}`, "", 400, "max_coefficient", "price_too_low"},
		{"content type", "/v1/chat/completions", `model=tiny`, "text/plain", 400, "Content-Type", "invalid_value"},
		{"engine's refusal", "/v1/chat/completions", `{"model":"tiny","messages":[]}`, "", 400, "messages", "invalid_value"},
		{"no such path", "/v1/images", `{}`, "", 404, "url", "not_found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			header := []string{}
			if tt.contentType != "" {
				header = append(header, "Content-Type", tt.contentType)
			}
			w := b.post(t, tt.path, tt.body, header...)
			var got struct {
				Error struct {
					Message, Type string
					Param         *string
					Code          string
				}
			}
			body := read(t, w)
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
			param := ""
			if got.Error.Param != nil {
				param = *got.Error.Param
			}
			if w.StatusCode != tt.status || param != tt.param || got.Error.Code != tt.code || got.Error.Message == "" || got.Error.Type == "" {
				t.Errorf("%d %s, want %d, param %q, code %q", w.StatusCode, body, tt.status, tt.param, tt.code)
			}
			if w.Header.Get("X-Should-Retry") != "false" {
				t.Error("a client would retry")
			}
		})
	}
}

func TestBodyLimits(t *testing.T) {
	t.Parallel()
	b := setup(t, producerstest.Echo, func(o *gateway.Options) { o.BodyTimeout = 100 * time.Millisecond })
	big := io.LimitReader(neverEnding('x'), 1<<30)
	r, err := http.NewRequestWithContext(patience(t), http.MethodPost, b.server.URL+"/v1/chat/completions", big)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 1 << 30
	if w, err := http.DefaultClient.Do(r); err == nil {
		if w.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("1 GiB: status %d", w.StatusCode)
		}
		w.Body.Close()
	}
	// A client that stops in the middle of its body is told so, or cut off; it does not hold the gateway.
	slow, wr := io.Pipe()
	defer wr.Close()
	go io.WriteString(wr, `{"model":`)
	r, err = http.NewRequestWithContext(patience(t), http.MethodPost, b.server.URL+"/v1/chat/completions", slow)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if w, err := http.DefaultClient.Do(r); err == nil {
		if w.StatusCode != http.StatusRequestTimeout {
			t.Errorf("slow client: status %d", w.StatusCode)
		}
		w.Body.Close()
	}
	if time.Since(start) > 10*time.Second {
		t.Error("a slow client was waited for")
	}
}

// neverEnding is an endless reader.
type neverEnding byte

func (n neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(n)
	}
	return len(p), nil
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	b := setup(t, producerstest.Echo)
	body := string(producerstest.Ask("once", ""))
	first := read(t, b.post(t, "/v1/chat/completions", body, "Idempotency-Key", "k1"))
	for range 3 {
		w := b.post(t, "/v1/chat/completions", body, "Idempotency-Key", "k1")
		if again := read(t, w); w.StatusCode != 200 || again != first {
			t.Errorf("again: %d %s, first %s", w.StatusCode, again, first)
		}
	}
	stream := read(t, b.post(t, "/v1/chat/completions", string(producerstest.Ask("once", `,"stream":true`)), "Idempotency-Key", "k2"))
	if again := read(t, b.post(t, "/v1/chat/completions", string(producerstest.Ask("once", `,"stream":true`)), "Idempotency-Key", "k2")); !strings.HasSuffix(again, "[DONE]\n\n") || !strings.HasSuffix(stream, "[DONE]\n\n") {
		t.Errorf("streamed again: %s", again)
	}
	w := b.post(t, "/v1/chat/completions", string(producerstest.Ask("other", "")), "Idempotency-Key", "k1")
	if got := read(t, w); w.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(got, "idempotency_conflict") {
		t.Errorf("another body: %d %s", w.StatusCode, got)
	}
	if b.worker.Runs() != 2 {
		t.Errorf("%d runs, want 2", b.worker.Runs())
	}
}

func TestClientGone(t *testing.T) {
	t.Parallel()
	for name, detach := range map[string]bool{"cancel": false, "detach": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "keys.json")
			secret, _, err := gateway.CreateKey(path, "app", 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := gateway.OpenKeys(path)
			if err != nil {
				t.Fatal(err)
			}
			defer keys.Close()
			produced := schemas.Usage{Prompt: 8, Completion: 1} // by the time the client goes
			started, ended := make(chan struct{}), make(chan bool, 1)
			b := setup(t, func(ctx context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
				close(started)
				emit(producerstest.Chunk("tiny", "first ", ""))
				select {
				case <-ctx.Done():
					ended <- true
					partial := producerstest.Chat("tiny", "first ")
					partial.Usage = produced
					return partial
				case <-time.After(2 * time.Second):
					ended <- false
				}
				return producerstest.Chat("tiny", "first second")
			}, func(o *gateway.Options) { o.Detach, o.Keys = detach, keys })
			b.net.Control(t)
			ctx, cancel := context.WithCancel(patience(t))
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.server.URL+"/v1/chat/completions", bytes.NewReader(producerstest.Ask("x", `,"stream":true`)))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+secret)
			w, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			<-started
			cancel()
			w.Body.Close()
			if stopped := <-ended; stopped == detach {
				t.Errorf("the job was stopped: %v, with Detach %v", stopped, detach)
			}
			usage := produced
			if detach {
				usage = producerstest.Usage
			}
			charge, err := b.net.Catalogue.Cost(producerstest.Model, usage, schemas.One)
			if err != nil {
				t.Fatal(err)
			}
			poll(t, func() bool { // what was produced is charged, though nobody hears of it any more
				list, err := gateway.ListKeys(path)
				return err == nil && list[0].Spent == charge.Total
			})
		})
	}
}

func TestModels(t *testing.T) {
	t.Parallel()
	b := setup(t, producerstest.Echo)
	list, err := b.client.Models.List(patience(t))
	if err != nil || len(list.Data) != 1 || list.Data[0].ID != producerstest.ModelName {
		t.Fatalf("models = %+v, %v", list, err)
	}
	m, err := b.client.Models.Get(patience(t), producerstest.ModelName)
	if err != nil || m.ID != producerstest.ModelName {
		t.Errorf("model = %+v, %v", m, err)
	}
	var apiErr *openai.Error
	if _, err := b.client.Models.Get(patience(t), "nobody"); !errors.As(err, &apiErr) || apiErr.StatusCode != 404 || apiErr.Code != "model_not_found" {
		t.Errorf("unknown model = %v", err)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	one := schemas.NanoTON(0)
	secret, key, err := gateway.CreateKey(path, "app", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := gateway.OpenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	b := setup(t, producerstest.Echo, func(o *gateway.Options) { o.Keys = keys })
	charge, err := b.net.Catalogue.Cost(producerstest.Model, producerstest.Usage, schemas.One)
	if err != nil {
		t.Fatal(err)
	}
	one = charge.Total
	var apiErr *openai.Error
	if _, err := b.client.Chat.Completions.New(patience(t), chat("x")); !errors.As(err, &apiErr) || apiErr.StatusCode != 401 || apiErr.Code != "invalid_api_key" {
		t.Errorf("a wrong key = %v", err)
	}
	good := b.as(secret)
	for range 3 {
		if _, err := good.Chat.Completions.New(patience(t), chat("x"), option.WithHeader("Idempotency-Key", "same")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := good.Chat.Completions.New(patience(t), chat("y")); err != nil {
		t.Fatal(err)
	}
	list, err := gateway.ListKeys(path)
	if err != nil || len(list) != 1 || list[0].Spent != 2*one {
		t.Errorf("keys = %+v, %v, want spent %v", list, err, 2*one)
	}
	// A key with a cap below the worst case of a request may not make it.
	small, _, err := gateway.CreateKey(path, "small", 0, one)
	if err != nil {
		t.Fatal(err)
	}
	limited, _, err := gateway.CreateKey(path, "limited", 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := gateway.RevokeKey(path, key.ID); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // the file is looked at once a second
	poor := b.as(small)
	if _, err := poor.Chat.Completions.New(patience(t), chat("x")); !errors.As(err, &apiErr) || apiErr.StatusCode != 429 || apiErr.Code != "budget_exceeded" || apiErr.Response.Header.Get("X-Should-Retry") != "false" {
		t.Errorf("a key without funds = %v", err)
	}
	busy := b.as(limited)
	if _, err := busy.Models.List(patience(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := busy.Models.List(patience(t)); !errors.As(err, &apiErr) || apiErr.StatusCode != 429 || apiErr.Response.Header.Get("Retry-After") == "" {
		t.Errorf("a busy key = %v", err)
	}
	if _, err := good.Models.List(patience(t)); !errors.As(err, &apiErr) || apiErr.StatusCode != 401 {
		t.Errorf("a revoked key = %v", err)
	}
}

// TestOtherEndpoints passes requests of every other endpoint to an engine that answers them, byte for byte.
func TestOtherEndpoints(t *testing.T) {
	t.Parallel()
	b := setup(t, func(_ context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
		result := schemas.Result{Status: 200, ContentType: "application/json", Usage: producerstest.Usage}
		switch r.URL {
		case "/v1/completions":
			result.Body = []byte(`{"id":"c","object":"text_completion","created":1,"model":"tiny","choices":[{"index":0,"text":"done","finish_reason":"stop"}]}`)
		case "/v1/embeddings":
			result.Body = []byte(`{"object":"list","model":"tiny","data":[{"object":"embedding","index":0,"embedding":[0.5,0.25]}],"usage":{"prompt_tokens":3,"total_tokens":3}}`)
		case "/v1/responses":
			result.Body = []byte(`{"id":"r","object":"response","status":"completed","model":"tiny","output":[{"type":"message","id":"m","role":"assistant","status":"completed","content":[{"type":"output_text","text":"a response","annotations":[]}]}]}`)
			if r.Stream {
				emit([]byte(`{"type":"response.output_text.delta","sequence_number":1,"output_index":0,"content_index":0,"item_id":"m","delta":"a "}`))
			}
		case "/v1/audio/speech":
			result.ContentType, result.Body = "audio/wav", []byte("RIFF\x00\xff")
		case "/v1/audio/transcriptions":
			if !strings.HasPrefix(r.ContentType, "multipart/form-data") || !bytes.Contains(r.Body, []byte("RIFF")) {
				return schemas.Failure(schemas.FieldError("file", "is missing"))
			}
			result.Body = []byte(`{"text":"what was said"}`)
		}
		return result
	})
	ctx := patience(t)
	completion, err := b.client.Completions.New(ctx, openai.CompletionNewParams{Model: "tiny", Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("x")}})
	if err != nil || completion.Choices[0].Text != "done" {
		t.Errorf("completions = %+v, %v", completion, err)
	}
	embedding, err := b.client.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: "tiny", Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("x")}})
	if err != nil || len(embedding.Data) != 1 || embedding.Data[0].Embedding[1] != 0.25 {
		t.Errorf("embeddings = %+v, %v", embedding, err)
	}
	body := read(t, b.post(t, "/v1/responses", `{"model":"tiny","input":"x"}`))
	if !strings.Contains(body, "a response") {
		t.Errorf("responses = %s", body)
	}
	stream := read(t, b.post(t, "/v1/responses", `{"model":"tiny","input":"x","stream":true}`))
	if !strings.Contains(stream, "event: response.output_text.delta\n") || !strings.Contains(stream, "event: response.completed\n") || strings.Contains(stream, "[DONE]") {
		t.Errorf("responses stream = %s", stream)
	}
	speech := b.post(t, "/v1/audio/speech", `{"model":"tiny","input":"x","voice":"alloy"}`)
	if got := read(t, speech); got != "RIFF\x00\xff" || speech.Header.Get("Content-Type") != "audio/wav" {
		t.Errorf("speech = %q", got)
	}
	said, err := b.client.Audio.Transcriptions.New(ctx, openai.AudioTranscriptionNewParams{Model: "tiny", File: openai.File(strings.NewReader("RIFF"), "a.wav", "audio/wav")})
	if err != nil || said.Text != "what was said" {
		t.Errorf("transcriptions = %+v, %v", said, err)
	}
}
