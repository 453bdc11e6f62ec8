package producers

import (
	"context"
	"errors"
	"iter"

	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
)

// Stream submits a job whose body asks for a stream and yields its events; the last one has the Answer. An error ends
// the stream: what was yielded before it stands, but it is not the whole answer (with the error comes the Answer of a job
// that was cancelled after it had cost something). Leaving the loop early leaves the job
// running: use Submit and [Handle.Events] where it may have to be cancelled.
func (c *Client) Stream(ctx context.Context, j Job) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		j.Live, j.Ephemeral = true, j.IdempotencyKey == ""
		h, err := c.Submit(ctx, j)
		if err != nil {
			yield(Event{}, err)
			return
		}
		h.Events(ctx)(yield)
	}
}

// Events yields the events of a live job while they come, and at the end the answer. Live chunks can be lost: from the
// first one that is missing on, events wait for the outcome, and the rest of the answer comes as one event. A job that
// was run again and answered otherwise ends with KindEngine. Live chunks go to the first loop only; for another one, and
// for a job that is not live, the whole answer comes at the end.
func (h *Handle) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		s := &eventStream{h: h, yield: yield}
		if h.plan != nil {
			s.follow = openai.NewAssembler(h.plan.call)
		}
		if h.chunks != nil && h.watched.CompareAndSwap(false, true) && !s.live(ctx) {
			return
		}
		answer, err := h.Wait(ctx)
		if err != nil {
			yield(Event{Answer: answer}, err)
			return
		}
		s.finish(answer)
	}
}

// eventStream is one loop over a job's events.
type eventStream struct {
	h      *Handle
	yield  func(Event, error) bool
	follow *openai.Assembler // nil when it is not known what was asked
	// seen are the events that were yielded, and whole says that the worker's own last chunk was among them.
	seen  [][]byte
	whole bool
}

// live yields chunks until the job ends or one is missing. It returns false when the caller has left the loop.
func (s *eventStream) live(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The outcome ends the wait for chunks: what has not arrived by then comes out of it.
	defer context.AfterFunc(s.h.over, cancel)()
	opener := s.h.c.o.Tenant.ChunkOpener(s.h.streamed.Attributes.ID, s.h.streamed.Hash)
	for runs := 0; ; {
		frame, err := s.h.chunks.Next(ctx)
		if err != nil {
			return true // the job ended, chunks were missed, or ctx ended, which Wait will say
		}
		chunk, err := opener.Open(frame)
		switch {
		case errors.Is(err, schemas.KindReplayed):
			continue
		case err != nil:
			return true
		}
		if chunk.NewRun {
			runs++
		}
		if chunk.Missed || runs > 1 {
			return true
		}
		for i, event := range chunk.Events {
			s.seen = append(s.seen, event)
			if !s.yield(Event{Data: event, More: i < len(chunk.Events)-1}, nil) {
				return false
			}
		}
		if chunk.Last {
			s.whole = true
			return true
		}
	}
}

// finish yields what was not seen live, and the answer.
func (s *eventStream) finish(a *Answer) {
	if s.follow != nil && a.HTTP < 400 && !(s.whole && s.follow.Ended(s.seen)) {
		rest, err := s.missing(a)
		if err != nil {
			s.yield(Event{}, err)
			return
		}
		for _, event := range rest {
			if !s.yield(Event{Data: event, More: true}, nil) {
				return
			}
		}
	}
	s.yield(Event{Answer: a}, nil)
}

// missing makes the events that bring the reader from what it has seen to the whole answer.
func (s *eventStream) missing(a *Answer) ([][]byte, error) {
	for _, event := range s.seen {
		if err := s.follow.Add(event); err != nil {
			return nil, err
		}
	}
	return s.follow.Finish(a.Body)
}
