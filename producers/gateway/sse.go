package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
)

// step is an event of a job's stream, or the error that ended it.
type step struct {
	event producers.Event
	err   error
}

// stream answers with server-sent events.
func (q *request) stream(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	steps := make(chan step, stepsAhead)
	go func() {
		defer close(steps)
		for e, err := range q.handle.Events(ctx) {
			select {
			case steps <- step{e, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	s := &sse{q: q, w: w, c: http.NewResponseController(w)}
	return s.run(r.Context(), steps)
}

// stepsAhead is how many events may wait to be written: those that are there together leave together.
const stepsAhead = 64

// sse writes one stream of server-sent events.
type sse struct {
	q *request
	w http.ResponseWriter
	c *http.ResponseController
	// begun says that the header is out: what fails from here on is told in the stream.
	begun bool
	// usage is the chunk with the usage, held back until the receipt says what it cost.
	usage []byte
}

// run passes events on until the job ends.
func (s *sse) run(ctx context.Context, steps <-chan step) error {
	idle := time.NewTicker(s.q.g.o.KeepAlive)
	defer idle.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return errGone
		case <-idle.C:
			err = s.send([]byte(": keep-alive\n\n"), true)
		case next, open := <-steps:
			idle.Reset(s.q.g.o.KeepAlive)
			switch {
			case !open:
				return errGone // the events end early only with the request
			case next.err != nil:
				s.q.charge(next.event.Answer)
				return s.fail(next.err)
			case next.event.Answer != nil:
				return s.end(next.event.Answer)
			}
			err = s.event(next.event.Data, len(steps) == 0)
		}
		if err != nil {
			return err
		}
	}
}

// send writes bytes of the stream; flush sends everything written so far on its way.
func (s *sse) send(b []byte, flush bool) error {
	if !s.begun {
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no") // proxies must not hold events back
		h.Set("X-Cocoon-Client-Start", seconds(s.q.arrived))
		s.w.WriteHeader(http.StatusOK)
		s.begun = true
	}
	if flush {
		s.q.g.extend(s.w)
	}
	if _, err := s.w.Write(b); err != nil {
		return errGone
	}
	if !flush {
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
