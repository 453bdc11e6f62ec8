package producerstest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Engine answers one request. emit sends an event of a streamed answer. ctx ends when the job is cancelled or the
// worker stops.
type Engine func(ctx context.Context, r *schemas.Request, emit func(event []byte)) schemas.Result

// Worker is a running worker.
type Worker struct {
	n       *Network
	engine  Engine
	session *enclave.Session
	runs    atomic.Int64
	slots   chan struct{}
	wg      sync.WaitGroup

	mu      sync.Mutex // guards running and ran
	running map[schemas.JobID]context.CancelCauseFunc
	ran     map[schemas.JobID]int
}

// slots is how many jobs a worker runs at a time.
const slots = 32

// Work starts a worker that ends with the test, or with stop.
func (n *Network) Work(t testing.TB, engine Engine) (w *Worker, stop func()) {
	t.Helper()
	w = &Worker{
		n: n, engine: engine, session: n.Net.Session(t), slots: make(chan struct{}, slots),
		running: map[schemas.JobID]context.CancelCauseFunc{}, ran: map[schemas.JobID]int{},
	}
	route := streams.RouteOf(&n.Catalogue.Models[0])
	ctx, cancel := context.WithCancel(context.Background())
	puller, err := n.Bus.NewPuller(ctx, streams.PullerOptions{Route: route, Poll: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	w.wg.Go(func() { w.pull(ctx, puller) })
	w.wg.Go(func() {
		_ = n.Bus.ServeStops(ctx, route.Slug, func(_ schemas.TenantID, id schemas.JobID) bool { return w.Stop(id) })
	})
	stop = sync.OnceFunc(func() {
		cancel()
		w.wg.Wait()
		puller.Close()
	})
	t.Cleanup(stop)
	return w, stop
}

// Runs is how many jobs were run, each time counted.
func (w *Worker) Runs() int { return int(w.runs.Load()) }

// Ran is how often each job was run.
func (w *Worker) Ran() map[schemas.JobID]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	ran := make(map[schemas.JobID]int, len(w.ran))
	for id, n := range w.ran {
		ran[id] = n
	}
	return ran
}

// Stop cancels a running job and reports whether it runs here. Control's notes call it, tests may.
func (w *Worker) Stop(id schemas.JobID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	cancel := w.running[id]
	if cancel != nil {
		cancel(schemas.KindCancelled)
	}
	return cancel != nil
}

// pull takes as many jobs as there are free slots.
func (w *Worker) pull(ctx context.Context, p *streams.Puller) {
	for ctx.Err() == nil {
		free := w.free(ctx)
		deliveries, err := p.Next(ctx, free)
		if err != nil {
			time.Sleep(10 * time.Millisecond) // the server is being restarted under the test
		}
		for _, d := range deliveries {
			w.wg.Go(func() {
				defer func() { <-w.slots }()
				w.run(ctx, d)
			})
		}
		for range free - len(deliveries) {
			<-w.slots
		}
	}
}

// free takes all free slots, at least one, and says how many.
func (w *Worker) free(ctx context.Context) int {
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for n := 1; ; n++ {
		select {
		case w.slots <- struct{}{}:
		default:
			return n
		}
	}
}

// run takes one job the whole way.
func (w *Worker) run(ctx context.Context, d *streams.Delivery) {
	o, err := w.outcome(ctx, d)
	if ctx.Err() != nil {
		return // the worker died: the lease lapses
	}
	if err != nil {
		if schemas.Retriable(err) {
			_ = d.Retry(ctx, 50*time.Millisecond)
			return
		}
		o = enclave.Refused(&d.Attributes, err)
	}
	if _, err := w.n.Bus.PublishOutcome(ctx, o); err == nil {
		_ = d.Done(ctx)
	}
}

// outcome gets a job granted and runs it.
func (w *Worker) outcome(ctx context.Context, d *streams.Delivery) (schemas.Outcome, error) {
	if d.Attributes.Expired(time.Now()) {
		return schemas.Outcome{}, &schemas.Error{Kind: schemas.KindExpired}
	}
	granted, err := w.session.Grant(ctx, w.n.Net.Call, []enclave.Candidate{{Attributes: d.Attributes, Envelope: d.Envelope}})
	if err != nil {
		return schemas.Outcome{}, err
	}
	if granted[0].Err != nil {
		return schemas.Outcome{}, granted[0].Err
	}
	job := granted[0].Job
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.begin(d.Attributes.ID, cancel)
	started := time.Now()
	emit, done := w.chunks(job, d.Attributes)
	result := w.engine(run, job.Request, emit)
	done()
	if cause := context.Cause(run); errors.Is(cause, schemas.KindCancelled) {
		result.Kind = schemas.KindCancelled
	}
	return job.Finish(result, started, time.Now())
}

// begin counts a run.
func (w *Worker) begin(id schemas.JobID, cancel context.CancelCauseFunc) {
	w.runs.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[id] = cancel
	w.ran[id]++
}

// chunks opens the live stream of a job that asked for one.
func (w *Worker) chunks(job *enclave.OpenJob, a schemas.Attributes) (emit func([]byte), done func()) {
	if !job.Request.Stream {
		return func([]byte) {}, func() {}
	}
	sent := 0
	writer, err := job.Chunks(time.Millisecond, func(sealed []byte) error {
		sent++
		if w.n.DropChunk != nil && w.n.DropChunk(sent-1) {
			return nil
		}
		return w.n.Bus.PublishChunk(a.Tenant, a.ID, sealed)
	})
	if err != nil {
		return func([]byte) {}, func() {}
	}
	return func(event []byte) { _ = writer.Write(event) }, func() { _ = writer.Close() }
}

// chatRequest is what Echo reads of a request.
type chatRequest struct {
	Model    string `json:"model"`
	Stream   bool   `json:"stream"`
	Messages []struct {
		Content string `json:"content"`
	} `json:"messages"`
	Options struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

// Usage is what every answer of Echo costs.
var Usage = schemas.Usage{Prompt: 8, Cached: 2, Completion: 4, Reasoning: 1}

// usageJSON is the same in OpenAI's overlapping counts.
const usageJSON = `{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}`

// Say is the text that Echo answers a message with.
func Say(message string) string { return "you said: " + message }

// Echo answers a chat request with what it was told, word by word when it is asked to stream.
func Echo(_ context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
	var q chatRequest
	if err := json.Unmarshal(r.Body, &q); err != nil || len(q.Messages) == 0 {
		return schemas.Failure(schemas.FieldError("messages", "must have an entry"))
	}
	text := Say(q.Messages[len(q.Messages)-1].Content)
	if q.Stream {
		emit([]byte(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":` + quote(q.Model) +
			`,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`))
		for _, word := range strings.SplitAfter(text, " ") {
			emit(Chunk(q.Model, word, ""))
		}
		emit(Chunk(q.Model, "", "stop"))
		if q.Options.IncludeUsage {
			emit([]byte(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":` + quote(q.Model) + `,"choices":[],"usage":` + usageJSON + `}`))
		}
	}
	return Chat(q.Model, text)
}

// Chunk is a chunk of a chat answer: a piece of text, or the end with its reason.
func Chunk(model, text, finish string) []byte {
	delta, reason := `{"content":`+quote(text)+`}`, "null"
	if finish != "" {
		delta, reason = "{}", quote(finish)
	}
	return []byte(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":` + quote(model) +
		`,"choices":[{"index":0,"delta":` + delta + `,"finish_reason":` + reason + `}]}`)
}

// Chat is the result of a chat request.
func Chat(model, text string) schemas.Result {
	return schemas.Result{
		Status: 200, ContentType: "application/json", FinishReason: "stop", Usage: Usage, Fingerprint: "echo",
		Body: []byte(`{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":` + quote(model) +
			`,"choices":[{"index":0,"message":{"role":"assistant","content":` + quote(text) + `},"finish_reason":"stop"}],"usage":` + usageJSON + `}`),
	}
}

// quote spells a JSON string.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("producerstest: " + err.Error())
	}
	return string(b)
}

// Ask is the body of a chat request with one message. extra is put behind it: `,"stream":true`.
func Ask(message, extra string) []byte {
	return []byte(`{"model":"` + ModelName + `","messages":[{"role":"user","content":` + quote(message) + `}],"max_tokens":16` + extra + `}`)
}
