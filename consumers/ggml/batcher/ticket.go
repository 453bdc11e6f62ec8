package batcher

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Token is one generated token.
type Token struct {
	ID int32
	// Text is the token's own text, possibly a part of a rune.
	Text string
	// Logprob and Top are set when the request asked for them.
	Logprob float64
	Top     []Logprob
}

// Piece is a part of an answer. Text is whole runes and never a part of a stop string; Tokens are those whose text ends
// in it. The last piece of an answer carries Result.
type Piece struct {
	// Index is the number of the answer, among those of the call.
	Index  int
	Text   string
	Tokens []Token
	Result *Result
}

// Result is how an answer ended.
type Result struct {
	// Reason is "stop" (an end token or a stop string) or "length"; empty for a vector.
	Reason string
	// Vector of the prompt, if the model gives that.
	Vector []float32
	Stats
}

// Stats is what a request cost so far.
type Stats struct {
	// Prompt tokens in all, and how many of them were shared instead of computed. Several answers to one prompt count it
	// once, for the first of them. Generated counts every sampled token but the one that ends the answer.
	Prompt, Cached, Generated int
	// Queue is the wait for admission, First the time to the first token, Total the whole; from Submit.
	Queue, First, Total time.Duration
	// Preempted is how often the sequence gave way.
	Preempted int
}

// Ticket is the receiving end of a call.
type Ticket struct {
	cancel context.CancelCauseFunc

	// mu guards the rest: the batcher puts, Next takes. The list is as long as the answers at most, so a slow reader
	// never holds up the batch.
	mu     sync.Mutex
	pieces []Piece
	err    error
	stats  []Stats       // of the answers
	left   int           // answers that have not ended
	ready  chan struct{} // holds one token when there is something new
}

// newTicket is a ticket for n answers whose Close calls cancel.
func newTicket(cancel context.CancelCauseFunc, n int) *Ticket {
	return &Ticket{cancel: cancel, ready: make(chan struct{}, 1), stats: make([]Stats, n), left: n}
}

// Next blocks until there is more. Everything of one answer that has arrived since the last call comes as one piece. After
// the last piece with a Result it returns io.EOF. One goroutine calls it.
func (t *Ticket) Next() (Piece, error) {
	for {
		if p, ok, err := t.take(); ok || err != nil {
			return p, err
		}
		<-t.ready
	}
}

// take returns what is there: pieces first, then the error.
func (t *Ticket) take() (Piece, bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pieces) == 0 {
		return Piece{}, false, t.err
	}
	all := t.pieces[0]
	rest := t.pieces[:0]
	for _, p := range t.pieces[1:] {
		if p.Index != all.Index {
			rest = append(rest, p)
			continue
		}
		all.Text += p.Text
		all.Tokens = append(all.Tokens, p.Tokens...)
		all.Result = p.Result
	}
	t.pieces = rest
	return all, true, nil
}

// Close cancels what still runs. Next then fails with KindCancelled.
func (t *Ticket) Close() {
	t.cancel(schemas.KindCancelled)
}

// Stats is what the whole call has cost so far; final once Next has failed. The times are the longest of all answers, but
// First the shortest.
func (t *Ticket) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	var sum Stats
	for _, s := range t.stats {
		sum.Prompt += s.Prompt
		sum.Cached += s.Cached
		sum.Generated += s.Generated
		sum.Preempted += s.Preempted
		sum.Queue, sum.Total = max(sum.Queue, s.Queue), max(sum.Total, s.Total)
		if s.First > 0 && (sum.First == 0 || s.First < sum.First) {
			sum.First = s.First
		}
	}
	return sum
}

// note takes what a sequence has cost so far.
func (t *Ticket) note(s *sequence) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats[s.index] = s.stats
}

// put adds a piece of a sequence. The last one of all ends the ticket.
func (t *Ticket) put(p Piece, s *sequence) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return
	}
	p.Index = s.index
	t.pieces = append(t.pieces, p)
	t.stats[s.index] = s.stats
	if p.Result != nil {
		if t.left--; t.left == 0 {
			t.err = io.EOF
			t.cancel(nil)
		}
	}
	t.wake()
}

// fail ends the ticket without a result.
func (t *Ticket) fail(err error, s *sequence) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if errors.Is(t.err, io.EOF) {
		return
	}
	t.stats[s.index] = s.stats
	if t.err == nil {
		t.err = err
		t.cancel(err)
	}
	t.wake()
}

// wake makes Next look again.
func (t *Ticket) wake() {
	select {
	case t.ready <- struct{}{}:
	default:
	}
}
