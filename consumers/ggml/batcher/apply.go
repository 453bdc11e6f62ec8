package batcher

import (
	"errors"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// apply takes the outcome of a step. An error means that the model is beyond repair.
func (b *Batcher) apply(p plan, logits []float32, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.stepping = time.Time{}
	switch {
	case errors.Is(err, ErrFull):
		b.full(p, now)
		return nil
	case err != nil:
		return b.failed(p, err, now)
	}
	b.count.Steps++
	b.count.Tokens += uint64(len(p.Tokens))
	for _, part := range p.parts { // all before any of them leaves: the model had them in memory together
		b.pool.grow(part.s, part.n)
		b.absolve(part.s)
	}
	row := 0
	for _, part := range p.parts {
		if part.out {
			values := logits[row*b.cfg.row() : (row+1)*b.cfg.row()]
			if row++; b.cfg.Vector > 0 {
				b.embed(part.s, values, now)
			} else {
				b.advance(part.s, values, now)
			}
		}
	}
	b.tidy(now)
	return nil
}

// advance chooses the next token of a sequence. Whatever goes wrong in here concerns this sequence only.
func (b *Batcher) advance(s *sequence, logits []float32, now time.Time) {
	token, err := guard(func() (Token, error) { return b.choose(s, logits) })
	if err != nil {
		b.count.Failed++
		b.drop(s, &schemas.Error{Kind: schemas.KindEngine, Message: "no token could be chosen", Err: err}, now)
		return
	}
	if !s.begun {
		s.begun, s.stats.First = true, now.Sub(s.at)
	}
	if b.cfg.End(token.ID) && !s.IgnoreEnd {
		b.finish(s, Result{Reason: "stop"}, Piece{}, now)
		return
	}
	s.tokens = append(s.tokens, token.ID)
	s.stats.Generated++
	b.count.Generated++
	b.queue.charge(s.Tenant, generatedPrice)
	var p Piece
	p.Text, p.Tokens = s.text.push(token.Text, token)
	switch {
	case s.text.stopped:
		b.finish(s, Result{Reason: "stop"}, p, now)
	case s.generated() >= s.MaxTokens:
		b.finish(s, Result{Reason: "length"}, p, now)
	case p.Text != "" || len(p.Tokens) > 0:
		s.ticket.put(p, s)
	}
}

// embed ends a sequence with the vector of its prompt.
func (b *Batcher) embed(s *sequence, vector []float32, now time.Time) {
	for _, v := range vector {
		if !finite(v) {
			b.count.Failed++
			b.drop(s, &schemas.Error{Kind: schemas.KindEngine, Message: "no vector could be computed", Err: errNotFinite}, now)
			return
		}
	}
	s.stats.First = now.Sub(s.at)
	b.finish(s, Result{Vector: slices.Clone(vector)}, Piece{}, now)
}

// choose samples and describes a token.
func (b *Batcher) choose(s *sequence, logits []float32) (Token, error) {
	if !s.Logprobs {
		id, err := s.sampler.next(logits)
		return Token{ID: id, Text: b.cfg.Piece(id)}, err
	}
	top, of := logprobs(logits, s.TopLogprobs)
	id, err := s.sampler.next(logits)
	if err != nil {
		return Token{}, err
	}
	return Token{ID: id, Text: b.cfg.Piece(id), Logprob: of(id), Top: top}, nil
}

// finish ends a sequence well.
func (b *Batcher) finish(s *sequence, r Result, p Piece, now time.Time) {
	rest, tokens := s.text.flush()
	p.Text += rest
	p.Tokens = append(p.Tokens, tokens...)
	s.stats.Total = now.Sub(s.at)
	r.Stats = s.stats
	p.Result = &r
	s.ticket.put(p, s)
	b.count.Finished++
	if s.MaxTokens > 0 {
		b.learn(s)
	}
	b.queue.leave(s)
	b.keep(s, now)
	notify(b.grown)
}

// drop ends a sequence without a result, wherever it is.
func (b *Batcher) drop(s *sequence, err error, now time.Time) {
	s.fail(err, now)
	b.queue.remove(s)
	b.queue.leave(s)
	if s.slot >= 0 {
		b.vacate(s)
	}
	notify(b.grown)
}
