package stub

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/schemas"
)

// Defaults of Options.
const (
	DefaultSlots     = 64
	DefaultChunks    = 50
	DefaultChunkSize = 128
)

// DefaultUsage is 34 prompt tokens, 11 of them cached, and 100 answered ones, 10 of them reasoning, as disjoint counts.
func DefaultUsage() schemas.Usage {
	return schemas.Usage{Prompt: 23, Cached: 11, Completion: 90, Reasoning: 10}
}

// Act is what one request does instead of the usual answer.
type Act struct {
	// Refuse makes Submit fail.
	Refuse error
	// Break makes the stream fail after FailAt chunks.
	Break  error
	FailAt int
	// Hang makes the stream stand still after FailAt chunks until it is cancelled or closed.
	Hang bool
	// Deaf makes a hanging stream ignore its context; only Close ends it.
	Deaf bool
	// Uncounted makes the answer come without exact usage.
	Uncounted bool
	// Usage replaces the usage of the answer.
	Usage *schemas.Usage
	// Took replaces the time of the whole answer.
	Took time.Duration
	// Status replaces the HTTP status 200.
	Status int
	// Body replaces the response.
	Body []byte
}

// Options shape an Engine. The zero value is the stub of the pipeline's figures.
type Options struct {
	// Model is the name the engine answers to.
	Model string
	// Slots is the most requests at one time; 0 means DefaultSlots.
	Slots int
	// Chunks and ChunkSize shape the stream: number of deltas and bytes of each; 0 means the defaults.
	Chunks, ChunkSize int
	// Usage is what every answer reports; zero means DefaultUsage.
	Usage schemas.Usage
	// Took is the time of one answer, spread over its chunks; 0 answers at once.
	Took time.Duration
	// Script, if set, is asked for every request; a zero Act changes nothing.
	Script func(*consumers.Request) Act
}

// Engine is an engine without a model. It is safe for concurrent use.
type Engine struct {
	o     Options
	delta json.RawMessage
	last  json.RawMessage
	body  []byte
	wake  chan struct{}

	running  atomic.Int64
	hanging  atomic.Int64
	peak     atomic.Int64
	started  atomic.Int64
	finished atomic.Int64

	// mu guards open and draining, so that a drain sees every stream that was admitted before it.
	mu       sync.Mutex
	open     map[*stream]struct{}
	draining bool
	idle     chan struct{} // closed when draining and the last stream has ended
}

var _ consumers.Engine = (*Engine)(nil)

// New returns an engine.
func New(o Options) *Engine {
	if o.Slots == 0 {
		o.Slots = DefaultSlots
	}
	if o.Chunks == 0 {
		o.Chunks = DefaultChunks
	}
	if o.ChunkSize == 0 {
		o.ChunkSize = DefaultChunkSize
	}
	if o.Usage == (schemas.Usage{}) {
		o.Usage = DefaultUsage()
	}
	if o.Model == "" {
		o.Model = "stub"
	}
	e := &Engine{o: o, wake: make(chan struct{}, 1), open: map[*stream]struct{}{}, idle: make(chan struct{})}
	var text, end int
	e.delta, text = delta(o.ChunkSize, "null")
	e.last, end = delta(o.ChunkSize, `"stop"`)
	e.body = response(o, (o.Chunks-1)*text+end)
	return e
}

// delta is a chat chunk of exactly size bytes, or the shortest one there is, and the length of its text. The last one of a
// stream says why it ended.
func delta(size int, finish string) (chunk json.RawMessage, text int) {
	const form = `{"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":%s}]}`
	text = max(1, size-len(form)+len("%s%s")-len(finish))
	return json.RawMessage(fmt.Sprintf(form, strings.Repeat("x", text), finish)), text
}

// response is the whole answer: the text of all deltas.
func response(o Options, text int) []byte {
	const form = `{"object":"chat.completion","model":%q,"choices":[{"index":0,"message":{"role":"assistant",` +
		`"content":"%s"},"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}`
	prompt, completion := o.Usage.Prompt+o.Usage.Cached, o.Usage.Completion+o.Usage.Reasoning
	return fmt.Appendf(nil, form, o.Model, strings.Repeat("x", text), prompt, completion, prompt+completion)
}

// Runs is the number of requests that were admitted so far.
func (e *Engine) Runs() int { return int(e.started.Load()) }

// Finished is the number of requests that were answered to the end.
func (e *Engine) Finished() int { return int(e.finished.Load()) }

// Running is the number of requests inside now.
func (e *Engine) Running() int { return int(e.running.Load()) }

// Hanging is the number of requests that stand still now, because their Act says so.
func (e *Engine) Hanging() int { return int(e.hanging.Load()) }

// Peak is the most requests that were ever inside at one time.
func (e *Engine) Peak() int { return int(e.peak.Load()) }

// Info implements consumers.Engine.
func (e *Engine) Info(context.Context) (consumers.Info, error) {
	return consumers.Info{
		Model: e.o.Model, Flavour: "stub", Context: 1 << 20, Slots: e.o.Slots,
		Endpoints:   []string{consumers.PathChat, consumers.PathCompletions, consumers.PathEmbeddings, consumers.PathResponses},
		ExactCounts: true, Fingerprint: "stub", Build: "no model",
	}, nil
}

// Submit implements consumers.Engine.
func (e *Engine) Submit(ctx context.Context, r *consumers.Request) (consumers.Stream, error) {
	act := Act{}
	if e.o.Script != nil {
		act = e.o.Script(r)
	}
	if act.Refuse != nil {
		return nil, act.Refuse
	}
	s := &stream{
		e: e, ctx: ctx, act: act, streaming: wantsStream(r.Body), begun: time.Now(), closed: make(chan struct{}),
		deadline: r.Deadline, took: e.o.Took,
	}
	if act.Took > 0 {
		s.took = act.Took
	}
	if err := e.admit(s); err != nil {
		return nil, err
	}
	return s, nil
}

// admit takes a slot for s.
func (e *Engine) admit(s *stream) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.draining:
		return &schemas.Error{Kind: schemas.KindUnavailable, Message: "engine is draining"}
	case len(e.open) >= e.o.Slots:
		return &schemas.Error{Kind: schemas.KindBusy, Message: "all slots are taken"}
	}
	e.open[s] = struct{}{}
	n := e.running.Add(1)
	if n > e.peak.Load() {
		e.peak.Store(n)
	}
	e.started.Add(1)
	return nil
}

// leave gives the slot of s back and wakes the watcher.
func (e *Engine) leave(s *stream) {
	e.mu.Lock()
	delete(e.open, s)
	e.running.Add(-1)
	if e.draining && len(e.open) == 0 {
		e.closeIdle()
	}
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// closeIdle reports the end of a drain once; mu is held.
func (e *Engine) closeIdle() {
	select {
	case <-e.idle:
	default:
		close(e.idle)
	}
}

// Capacity implements consumers.Engine.
func (e *Engine) Capacity() consumers.Capacity {
	e.mu.Lock()
	draining := e.draining
	e.mu.Unlock()
	running := int(e.running.Load())
	c := consumers.Capacity{
		Running: running, Slots: e.o.Slots, KVUsed: consumers.Unknown, KVTotal: consumers.Unknown,
		Free: max(0, e.o.Slots-running), FreeTokens: 1 << 30, Draining: draining, Healthy: true, At: time.Now(),
	}
	if draining {
		c.Free = 0
	}
	return c
}

// Watch implements consumers.Engine.
func (e *Engine) Watch() <-chan struct{} { return e.wake }

// Count implements consumers.Engine.
func (e *Engine) Count(context.Context, *consumers.Request) (int, bool, error) {
	return int(e.o.Usage.Prompt + e.o.Usage.Cached), true, nil
}

// Drain implements consumers.Engine.
func (e *Engine) Drain(ctx context.Context) error {
	e.mu.Lock()
	e.draining = true
	if len(e.open) == 0 {
		e.closeIdle()
	}
	e.mu.Unlock()
	select {
	case <-e.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements consumers.Engine.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.draining = true
	open := make([]*stream, 0, len(e.open))
	for s := range e.open {
		open = append(open, s)
	}
	if len(open) == 0 {
		e.closeIdle()
	}
	e.mu.Unlock()
	for _, s := range open {
		s.Close()
	}
	return nil
}

// wantsStream reports whether the body asks for deltas. A look is enough for a stub, and must cost nothing beside what is
// measured around it.
func wantsStream(body []byte) bool {
	return bytes.Contains(body, []byte(`"stream":true`)) || bytes.Contains(body, []byte(`"stream": true`))
}

// stream is one answer.
type stream struct {
	e         *Engine
	ctx       context.Context
	act       Act
	streaming bool
	begun     time.Time
	deadline  time.Time
	took      time.Duration
	at        atomic.Int64  // chunks done
	over      error         // what Next returns from now on
	ended     atomic.Bool   // Close was called
	closed    chan struct{} // closed by Close
	closing   sync.Once
	left      sync.Once
}

// Next implements consumers.Stream.
func (s *stream) Next() (consumers.Event, error) {
	if s.over != nil {
		return consumers.Event{}, s.over
	}
	for int(s.at.Load()) < s.e.o.Chunks {
		if err := s.step(); err != nil {
			return consumers.Event{}, s.end(err)
		}
		at := s.at.Add(1)
		switch {
		case !s.streaming:
		case int(at) == s.e.o.Chunks:
			return consumers.Event{Delta: s.e.last}, nil
		default:
			return consumers.Event{Delta: s.e.delta}, nil
		}
	}
	if err := s.step(); err != nil {
		return consumers.Event{}, s.end(err)
	}
	s.e.finished.Add(1)
	s.end(io.EOF)
	return consumers.Event{Done: s.done()}, nil
}

// step waits for the time of one chunk and plays the act.
func (s *stream) step() error {
	if int(s.at.Load()) == s.act.FailAt {
		if s.act.Break != nil {
			return s.act.Break
		}
		if s.act.Hang {
			return s.hang()
		}
	}
	if !s.deadline.IsZero() && !time.Now().Before(s.deadline) {
		return &schemas.Error{Kind: schemas.KindExpired, Message: "the deadline of the request passed"}
	}
	if s.took <= 0 {
		return s.stopped()
	}
	t := time.NewTimer(s.took / time.Duration(s.e.o.Chunks+1))
	defer t.Stop()
	select {
	case <-t.C:
		return s.stopped()
	case <-s.ctx.Done():
	case <-s.closed:
	}
	return errCancelled
}

// errCancelled is the answer to a cancelled request.
var errCancelled = &schemas.Error{Kind: schemas.KindCancelled, Message: "the request was cancelled"}

// stopped reports a cancel that came without waiting.
func (s *stream) stopped() error {
	if s.ended.Load() || s.ctx.Err() != nil {
		return errCancelled
	}
	return nil
}

// hang stands still.
func (s *stream) hang() error {
	s.e.hanging.Add(1)
	defer s.e.hanging.Add(-1)
	if s.act.Deaf {
		<-s.closed
		return errCancelled
	}
	select {
	case <-s.closed:
	case <-s.ctx.Done():
	}
	return errCancelled
}

// end fixes the stream's last error and gives the slot back.
func (s *stream) end(err error) error {
	s.over = err
	s.left.Do(func() { s.e.leave(s) })
	return err
}

// Usage is what was computed so far: the prompt, and its share of the answer.
func (s *stream) Usage() (schemas.Usage, bool) {
	at := uint64(s.at.Load())
	if s.act.Uncounted || at == 0 {
		return schemas.Usage{}, at == 0
	}
	u, share := s.e.o.Usage, func(n uint64) uint64 { return n * at / uint64(s.e.o.Chunks) }
	return schemas.Usage{Prompt: u.Prompt, Cached: u.Cached, Completion: share(u.Completion), Reasoning: share(u.Reasoning)}, true
}

// done is the last event.
func (s *stream) done() *consumers.Done {
	took := time.Since(s.begun)
	d := &consumers.Done{
		Status: 200, ContentType: "application/json", Body: s.e.body, FinishReason: "stop", Usage: s.e.o.Usage,
		UsageExact: !s.act.Uncounted, TTFT: took / time.Duration(s.e.o.Chunks+1), Total: took, Fingerprint: "stub",
	}
	if s.act.Usage != nil {
		d.Usage = *s.act.Usage
	}
	if s.act.Status != 0 {
		d.Status = s.act.Status
	}
	if s.act.Body != nil {
		d.Body = s.act.Body
	}
	return d
}

// Close implements consumers.Stream.
func (s *stream) Close() error {
	s.closing.Do(func() {
		s.ended.Store(true)
		close(s.closed)
	})
	s.left.Do(func() { s.e.leave(s) })
	return nil
}
