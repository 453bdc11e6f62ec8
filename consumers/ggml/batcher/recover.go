package batcher

import (
	"fmt"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// A step may fail: native code may panic over one sequence, and all that is known is that one of the batch did it. So
// the model is reset, which empties its memory, and every sequence starts over; the streams only see a pause. Those that
// were in the failed step are suspects. A suspect runs alone until it has got as far as it was when the step failed. The
// one that fails alone is given up; the others are back in the common batch soon. A sequence that was in too many failed
// steps is given up as well, so that a fault that does not show when alone cannot go on for ever.

// maxStepFailures is how many failed steps a sequence may be part of.
const maxStepFailures = 3

// failed deals with a step that failed.
func (b *Batcher) failed(p plan, cause error, now time.Time) error {
	b.count.StepFailures++
	b.cfg.Log.Error("a forward pass failed", "sequences", len(p.parts), "tokens", len(p.Tokens), "err", cause)
	for _, part := range p.parts {
		s := part.s
		s.suspect = true
		if s.failed++; len(p.parts) == 1 || s.failed >= maxStepFailures {
			b.count.Failed++
			b.drop(s, &schemas.Error{Kind: schemas.KindEngine, Message: "the forward pass failed", Err: cause}, now)
		}
	}
	b.dropAllKept()
	for len(b.running) > 0 {
		s := b.running[len(b.running)-1]
		b.vacate(s)
		b.queue.back(s)
	}
	if _, err := guard(func() (struct{}, error) { return struct{}{}, b.cfg.Model.Reset() }); err != nil {
		return schemas.Errorf(schemas.KindEngine, "the model could not be reset: %w", err)
	}
	b.pool.touched, b.dirty, b.wiped = 0, false, now
	return nil
}

// candidate is the sequence to admit next: suspects one by one, before anything else.
func (b *Batcher) candidate() *sequence {
	if b.suspect() != nil {
		return nil
	}
	var first *sequence
	for _, s := range b.queue.waiting {
		if s.suspect && (first == nil || s.arrival < first.arrival) {
			first = s
		}
	}
	if first != nil {
		return first
	}
	return b.queue.next()
}

// suspect is the running suspect, nil if there is none. While there is one, it has every batch for itself.
func (b *Batcher) suspect() *sequence {
	for _, s := range b.running {
		if s.suspect {
			return s
		}
	}
	return nil
}

// absolve clears a suspect that has computed everything it had when the step failed.
func (b *Batcher) absolve(s *sequence) {
	if s.suspect && s.pending() == 0 {
		s.suspect = false
	}
}

// full deals with a model that has less memory than the account says, which happens with models whose layers forget at
// different speeds. The account is corrected until the memory is empty the next time; then the usual rules apply.
func (b *Batcher) full(p plan, now time.Time) {
	b.pool.total = min(b.pool.total, b.pool.used+len(p.Tokens)) - 1
	switch {
	case len(b.kept) > 0:
		b.dropAllKept()
	case len(b.running) > 1:
		b.preempt(b.victim())
	default:
		b.count.Failed++
		b.drop(p.parts[0].s, &schemas.Error{Kind: schemas.KindEngine, Message: "the key-value memory is too small for the request"}, now)
	}
}

// guard turns a panic into an error.
func guard[T any](f func() (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}
