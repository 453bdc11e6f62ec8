package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
)

// stream answers with server-sent events.
func (q *request) stream(w http.ResponseWriter, r *http.Request) error {
	s := &sse{q: q, w: w, c: http.NewResponseController(w)}
	return s.run(r.Context())
}

// sse writes one stream of server-sent events.
type sse struct {
	q *request
	w http.ResponseWriter
	c *http.ResponseController
	// usage is the chunk with the usage, held back until the receipt says what it cost.
	usage []byte

	mu sync.Mutex // guards the connection and the fields below: the keep-alive comments come from a timer
	// begun says that the header is out: what fails from here on is told in the stream.
	begun bool
	// held says that something was written and not sent on its way; over, that nothing more may be written.
	held, over bool
}

// run passes events on until the job ends.
func (s *sse) run(ctx context.Context) error {
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	pause := s.q.g.o.KeepAlive
	var idle *time.Timer
	s.mu.Lock() // the timer must not fire before idle is set
	idle = time.AfterFunc(pause, func() {
		if s.comment() != nil {
			gone()
			return
		}
		idle.Reset(pause)
	})
	s.mu.Unlock()
	defer func() {
		idle.Stop()
		s.mu.Lock()
		s.over = true // for a comment that waits for the lock
		s.mu.Unlock()
	}()
	for e, err := range s.q.handle.Events(ctx) {
		switch {
		case ctx.Err() != nil:
			return errGone
		case err != nil:
			s.q.charge(e.Answer)
			return s.fail(err)
		case e.Answer != nil:
			return s.end(e.Answer)
		}
		if err := s.event(e.Data, !e.More); err != nil {
			return err
		}
		if !e.More {
			idle.Reset(pause)
		}
	}
	return errGone // the events end early only with the request
}

// comment keeps a quiet connection open.
func (s *sse) comment() error { return s.send([]byte(": keep-alive\n\n"), true) }

// send writes bytes of the stream; flush sends everything written so far on its way.
func (s *sse) send(b []byte, flush bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return errGone
	}
	if !s.begun {
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no") // proxies must not hold events back
		h.Set("X-Cocoon-Client-Start", seconds(s.q.arrived))
		s.w.WriteHeader(http.StatusOK)
		s.begun = true
	}
	if !s.held { // the first write since the last flush: what is held goes out with it
		s.q.g.extend(s.w)
	}
	if _, err := s.w.Write(b); err != nil {
		return errGone
	}
	if s.held = !flush; s.held {
		return nil
	}
	if err := s.c.Flush(); err != nil {
		return errGone
	}
	return nil
}

// event passes one event on. A chunk that only tells the usage waits for the end.
func (s *sse) event(data []byte, flush bool) error {
	if usageOnly(data) {
		s.usage = data
		if flush && s.held {
			return s.send(nil, true)
		}
		return nil
	}
	return s.send(s.frame(data), flush)
}

// usageOnly reports whether a chunk has a usage and no choices.
func usageOnly(data []byte) bool {
	if !bytes.Contains(data, []byte(`"usage"`)) {
		return false
	}
	var c struct {
		Choices []json.RawMessage `json:"choices"`
		Usage   *json.RawMessage  `json:"usage"`
	}
	return json.Unmarshal(data, &c) == nil && c.Choices != nil && len(c.Choices) == 0 && c.Usage != nil
}

// frame spells an event. The responses endpoint names its events.
func (s *sse) frame(data []byte) []byte {
	var b []byte
	if s.q.call.URL == openai.PathResponses {
		var named struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(data, &named) == nil && named.Type != "" {
			b = append(append(append(b, "event: "...), named.Type...), '\n')
		}
	}
	b = append(b, "data: "...)
	for line := range bytes.Lines(data) { // a line break would end the event
		b = append(b, bytes.TrimRight(line, "\r\n")...)
	}
	return append(b, "\n\n"...)
}

// end closes a stream that is whole.
func (s *sse) end(a *producers.Answer) error {
	s.q.charge(a)
	if a.HTTP >= http.StatusBadRequest { // the engine answered with an error after all
		return s.fail(&schemas.Error{Kind: schemas.KindEngine, Message: "the engine answered with an error"})
	}
	var b []byte
	if s.usage != nil {
		o, err := openai.ParseObject(s.usage)
		if err == nil {
			if usage, uerr := o.Object("usage"); uerr == nil {
				o = o.With("usage", producers.PricedUsage(usage, a.Charge).Append(nil))
			}
			if s.q.call.Debug {
				o = o.With("debug", s.q.debug(a))
			}
			s.usage = o.Append(nil)
		}
		b = append(b, s.frame(s.usage)...)
	}
	if s.q.call.URL != openai.PathResponses {
		b = append(b, "data: [DONE]\n\n"...)
	}
	return s.send(b, true)
}

// fail ends a stream that broke. Before the first event the refusal has its own status; after it the error is an event,
// and there is no [DONE]: a client that ignores the error still sees that the answer is not whole.
func (s *sse) fail(err error) error {
	if !s.begun {
		return err
	}
	refusal := refusalOf(err)
	s.q.g.o.Logger.Warn("stream broke", "request", s.w.Header().Get("X-Request-Id"), "job", s.q.handle.ID, "error", err)
	b := []byte("data: ")
	if s.q.call.URL == openai.PathResponses {
		b = []byte("event: error\ndata: ")
	}
	return s.send(append(append(b, refusal.Body()...), "\n\n"...), true)
}
