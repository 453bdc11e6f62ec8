package openai

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/schemas"
)

// stream is one request in flight.
type stream struct {
	e    *Engine
	p    *plan
	at   time.Time
	resp *http.Response
	in   *events
	got  *collected

	ctx    context.Context
	cancel context.CancelCauseFunc
	freed  sync.Once
	unbind func() bool // from the engine's end
	stall  *time.Timer
	late   *time.Timer

	first time.Duration // until the first text
	over  error
	last  []byte // of an evented answer: the response object

	mu    sync.Mutex // guards usage, which may be asked for while Next runs
	usage schemas.Usage
	exact bool
}

var _ consumers.Stream = (*stream)(nil)

func newStream(e *Engine, p *plan, at time.Time) *stream {
	return &stream{e: e, p: p, at: at, got: newCollected(p.path == consumers.PathChat)}
}

// bind ends the request with the caller's context, the engine, the deadline, or silence.
func (s *stream) bind(ctx context.Context, deadline time.Time) {
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.unbind = context.AfterFunc(s.e.base, func() {
		s.cancel(&schemas.Error{Kind: schemas.KindUnavailable, Message: "the engine was closed"})
	})
	s.stall = time.AfterFunc(s.e.o.Stall, func() { s.cancel(errStalled) })
	if !deadline.IsZero() {
		s.late = time.AfterFunc(time.Until(deadline), func() { s.cancel(errLate) })
	}
}

// errLate is the cause when the deadline passed.
var errLate = &schemas.Error{Kind: schemas.KindExpired, Message: "the deadline passed before the answer was complete"}

// moved notes that the server sends.
func (s *stream) moved() { s.stall.Reset(s.e.o.Stall) }

// free closes the connection; the server sees it and stops.
func (s *stream) free() {
	s.cancel(nil)
	s.unbind()
	s.stall.Stop()
	if s.late != nil {
		s.late.Stop()
	}
	if s.resp != nil {
		s.resp.Body.Close()
	}
}

// end notes how the request ended, once.
func (s *stream) end(err error) {
	s.freed.Do(func() {
		s.free()
		s.e.leave(err)
	})
}

// Close implements consumers.Stream.
func (s *stream) Close() error {
	s.cancel(errClosed)
	s.end(nil)
	return nil
}

// errClosed is the cause when the caller closed the stream.
var errClosed = &schemas.Error{Kind: schemas.KindCancelled, Message: "the caller closed the stream"}

// Usage is what the request has cost so far, exact if the server keeps saying it.
func (s *stream) Usage() (schemas.Usage, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.usage, s.exact
}

// Next implements consumers.Stream.
func (s *stream) Next() (consumers.Event, error) {
	if s.over != nil {
		return consumers.Event{}, s.over
	}
	ev, err := s.next()
	switch {
	case err != nil:
		s.over = s.explain(err)
		s.end(s.over)
		return consumers.Event{}, s.over
	case ev.Done != nil:
		s.over = io.EOF
		s.end(nil)
	}
	return ev, nil
}

// explain finds the reason behind a failed read.
func (s *stream) explain(err error) error {
	if s.ctx.Err() == nil && schemas.KindOf(err) != schemas.KindUnknown {
		return err
	}
	return broken(s.ctx, err, schemas.KindEngine, "the model server broke off its answer")
}

// next reads until there is something for the caller.
func (s *stream) next() (consumers.Event, error) {
	switch s.p.form {
	case whole, opaque:
		return s.wholeAnswer()
	case evented:
		return s.nextTyped()
	}
	for {
		data, err := s.in.next()
		if errors.Is(err, io.EOF) {
			return consumers.Event{}, &schemas.Error{Kind: schemas.KindEngine, Message: "the model server broke off its answer"}
		}
		if err != nil {
			return consumers.Event{}, err
		}
		if string(data) == "[DONE]" {
			return s.done()
		}
		delta, err := s.takeChunk(data)
		if err != nil {
			return consumers.Event{}, err
		}
		if delta != nil && s.p.stream {
			return consumers.Event{Delta: delta}, nil
		}
	}
}

// takeChunk collects a chunk and returns what the tenant sees of it, nil for nothing.
func (s *stream) takeChunk(data []byte) (json.RawMessage, error) {
	var k chunk
	var raw map[string]json.RawMessage
	if json.Unmarshal(data, &k) != nil || json.Unmarshal(data, &raw) != nil {
		return nil, &schemas.Error{Kind: schemas.KindEngine, Message: "the model server sends what is no chunk"}
	}
	if raw["error"] != nil {
		return nil, s.failure(data)
	}
	if err := s.got.add(&k, raw); err != nil {
		return nil, err
	}
	if s.first == 0 && s.got.pieces > 0 {
		s.first = time.Since(s.at)
	}
	s.note()
	if len(k.Choices) == 0 && !s.p.usage {
		return nil, nil // the chunk with the usage, which only we asked for
	}
	if len(k.Choices) > 0 {
		delete(raw, "usage")
	}
	model, err := json.Marshal(s.p.model)
	if err != nil {
		return nil, err
	}
	raw["model"] = model
	return json.Marshal(raw)
}

// note keeps the usage so far.
func (s *stream) note() {
	u, ok := s.got.usage.counts()
	if !ok {
		u = schemas.Usage{Completion: uint64(s.got.pieces)} // at least a token each
	}
	s.mu.Lock()
	s.usage, s.exact = u, ok
	s.mu.Unlock()
}

// failure is the error of an error event. Without a code of ours the server broke in the middle.
func (s *stream) failure(data []byte) error {
	e := &schemas.Error{Kind: schemas.KindEngine, Message: "the model server failed in the middle of its answer", Err: &Refused{http.StatusOK, data}}
	refine(e, data)
	return e
}

// done ends a chunked answer.
func (s *stream) done() (consumers.Event, error) {
	if !s.got.complete() {
		return consumers.Event{}, &schemas.Error{Kind: schemas.KindEngine, Message: "the model server ended its answer without a reason"}
	}
	u, err := s.count()
	if err != nil {
		return consumers.Event{}, err
	}
	body, finish, err := s.got.body(s.p.model, u)
	if err != nil {
		return consumers.Event{}, err
	}
	d := s.result(body, "application/json")
	d.FinishReason, d.Usage, d.UsageExact = finish, u, true
	return consumers.Event{Done: d}, nil
}

// count is the usage that the server states, or what its tokenizer says.
func (s *stream) count() (schemas.Usage, error) {
	if u, ok := s.got.usage.counts(); ok {
		return u, nil
	}
	missing := &schemas.Error{Kind: schemas.KindEngine, Field: "usage", Message: "the model server does not count tokens"}
	model, f := s.e.name()
	if !f.tokenize {
		return schemas.Usage{}, missing
	}
	prompt, err := s.e.tokenize(s.ctx, s.p.prompt)
	if err != nil {
		return schemas.Usage{}, missing
	}
	answer, err := s.e.tokenize(s.ctx, map[string]any{"model": model, "prompt": s.got.answered(), "add_special_tokens": false})
	if err != nil {
		return schemas.Usage{}, missing
	}
	return schemas.Usage{Prompt: uint64(prompt), Completion: uint64(answer)}, nil
}

// result is what all answers have in common.
func (s *stream) result(body []byte, content string) *consumers.Done {
	s.e.mu.Lock()
	fingerprint := s.e.info.Fingerprint
	s.e.mu.Unlock()
	var said struct {
		Fingerprint string `json:"system_fingerprint"`
	}
	if json.Unmarshal(body, &said) == nil && said.Fingerprint != "" {
		fingerprint = said.Fingerprint
	}
	total := time.Since(s.at)
	if s.first == 0 {
		s.first = total
	}
	return &consumers.Done{Status: s.resp.StatusCode, ContentType: content, Body: body, TTFT: s.first, Total: total, Fingerprint: fingerprint}
}

// wholeAnswer reads an answer that is not streamed.
func (s *stream) wholeAnswer() (consumers.Event, error) {
	body, err := io.ReadAll(io.LimitReader(watched{s.resp.Body, s.moved}, maxAnswer+1))
	switch {
	case err != nil:
		return consumers.Event{}, err
	case len(body) > maxAnswer:
		return consumers.Event{}, tooMuch()
	}
	d := s.result(body, s.resp.Header.Get("Content-Type"))
	if s.p.form == opaque {
		return consumers.Event{Done: d}, nil
	}
	var raw map[string]json.RawMessage
	var u *usage
	if json.Unmarshal(body, &raw) != nil || json.Unmarshal(raw["usage"], &u) != nil {
		return consumers.Event{}, &schemas.Error{Kind: schemas.KindEngine, Field: "usage", Message: "the model server does not count tokens"}
	}
	var ok bool
	if d.Usage, ok = u.counts(); !ok {
		return consumers.Event{}, &schemas.Error{Kind: schemas.KindEngine, Field: "usage", Message: "the model server does not count tokens"}
	}
	d.UsageExact = true
	d.ContentType = "application/json"
	if d.Body, err = renamed(raw, s.p.model); err != nil {
		return consumers.Event{}, err
	}
	return consumers.Event{Done: d}, nil
}

// renamed is an object with the tenant's name of the model.
func renamed(raw map[string]json.RawMessage, model string) ([]byte, error) {
	name, err := json.Marshal(model)
	if err != nil {
		return nil, err
	}
	raw["model"] = name
	return json.Marshal(raw)
}

// watched tells when something arrives.
type watched struct {
	r     io.Reader
	moved func()
}

// Read implements io.Reader.
func (w watched) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if n > 0 {
		w.moved()
	}
	return n, err
}

// nextTyped reads an event of the responses endpoint. The one that ends it has the whole response.
func (s *stream) nextTyped() (consumers.Event, error) {
	if s.last != nil {
		return s.doneTyped()
	}
	for {
		data, err := s.in.next()
		if errors.Is(err, io.EOF) {
			return consumers.Event{}, &schemas.Error{Kind: schemas.KindEngine, Message: "the model server broke off its answer"}
		}
		if err != nil {
			return consumers.Event{}, err
		}
		var ev struct {
			Type     string          `json:"type"`
			Response json.RawMessage `json:"response"`
		}
		if string(data) == "[DONE]" {
			continue // the last event came before it
		}
		if json.Unmarshal(data, &ev) != nil {
			return consumers.Event{}, &schemas.Error{Kind: schemas.KindEngine, Message: "the model server sends what is no event"}
		}
		if s.first == 0 {
			s.first = time.Since(s.at)
		}
		switch ev.Type {
		case "error", "response.failed":
			return consumers.Event{}, s.failure(data)
		case "response.completed", "response.incomplete":
			s.last = ev.Response
		}
		return consumers.Event{Delta: data}, nil
	}
}

// doneTyped ends an answer of the responses endpoint.
func (s *stream) doneTyped() (consumers.Event, error) {
	var raw map[string]json.RawMessage
	var u *usage
	if json.Unmarshal(s.last, &raw) == nil {
		_ = json.Unmarshal(raw["usage"], &u)
	}
	counts, ok := u.counts()
	if !ok {
		return consumers.Event{}, &schemas.Error{Kind: schemas.KindEngine, Field: "usage", Message: "the model server does not count tokens"}
	}
	body, err := renamed(raw, s.p.model)
	if err != nil {
		return consumers.Event{}, err
	}
	d := s.result(body, "application/json")
	d.Usage, d.UsageExact = counts, true
	return consumers.Event{Done: d}, nil
}
