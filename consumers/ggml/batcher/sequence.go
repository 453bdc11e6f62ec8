package batcher

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// sequence is a request inside the batcher. Batcher.mu guards it.
type sequence struct {
	Request
	ctx    context.Context
	ticket *Ticket
	index  int       // its number in the ticket
	first  *sequence // the one that computes the prompt for this one; nil if it does so itself

	arrival uint64 // order of arrival; kept through preemption, so that a preempted sequence is at the front again
	at      time.Time

	slot     int     // the model's number for it, -1 while it waits
	tokens   []int32 // prompt and what was generated
	cells    []*cell // memory of tokens[:len(cells)], the ones computed so far
	reserve  int     // cells that admission promised
	admitted uint64  // order of admission

	sampler *sampler
	text    text
	stats   Stats
	begun   bool // its prompt was computed once
	suspect bool // it was in a failed step and has not proven itself since
	failed  int  // steps that failed with this sequence alone in them
}

// newSequences makes the N sequences of a request; index is the number of the first of them.
func newSequences(ctx context.Context, ticket *Ticket, r Request, index int, now time.Time) []*sequence {
	all := make([]*sequence, max(1, r.N))
	for i := range all {
		all[i] = &sequence{
			Request: r, ctx: ctx, ticket: ticket, index: index + i,
			at: now, slot: -1,
			tokens:  slices.Clone(r.Prompt),
			sampler: newSampler(r.Sampling, r.Prompt),
			text:    text{stop: r.Stop},
		}
		r.Sampling.Seed++
	}
	all[0].stats.Prompt = len(r.Prompt) // counted once: it is computed once
	for _, s := range all[1:] {
		s.first = all[0]
	}
	return all
}

// early reports whether the sequence should let another one compute the prompt first. That one ends or gets there: when
// it fails, their ticket does, and this one with it.
func (s *sequence) early() bool { return s.first != nil && !s.first.begun }

// generated is the number of tokens after the prompt.
func (s *sequence) generated() int { return len(s.tokens) - len(s.Prompt) }

// pending is the number of tokens that wait to be computed. 1 after the first token was generated: that is decoding.
func (s *sequence) pending() int { return len(s.tokens) - len(s.cells) }

// decoding reports whether the next token depends on one pass with one token.
func (s *sequence) decoding() bool { return s.generated() > 0 && s.pending() == 1 }

// promised is the number of cells it may still take from what was reserved for it.
func (s *sequence) promised() int { return max(0, s.reserve-len(s.cells)) }

// stale is why the sequence has to leave, nil if it may stay.
func (s *sequence) stale(now time.Time) error {
	switch err := s.ctx.Err(); {
	case err != nil && !errors.Is(err, context.DeadlineExceeded):
		return &schemas.Error{Kind: schemas.KindCancelled, Message: "the caller cancelled the request", Err: context.Cause(s.ctx)}
	case err != nil, !s.Deadline.IsZero() && !now.Before(s.Deadline):
		return &schemas.Error{Kind: schemas.KindExpired, Message: "the deadline passed before the answer was complete"}
	}
	return nil
}

// fail ends the sequence without a result.
func (s *sequence) fail(err error, now time.Time) {
	s.stats.Total = now.Sub(s.at)
	s.ticket.fail(err, s)
}
