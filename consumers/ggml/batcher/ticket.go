package batcher

import (
	"context"
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
// in it. The last piece carries Result.
type Piece struct {
	Text   string
	Tokens []Token
	Result *Result
}

// Result is how an answer ended.
type Result struct {
	// Reason is "stop" (an end token or a stop string) or "length".
	Reason string
	Stats
}

// Stats is what a request cost so far.
type Stats struct {
	// Prompt tokens in all, and how many of them were shared instead of computed. Generated counts every sampled token
	// but the one that ends the answer.
	Prompt, Cached, Generated int
	// Queue is the wait for admission, First the time to the first token, Total the whole; from Submit.
	Queue, First, Total time.Duration
	// Preempted is how often the sequence gave way.
	Preempted int
}

// Ticket is the receiving end of a request.
type Ticket struct {
	cancel context.CancelCauseFunc

	// mu guards the rest: the batcher puts, Next takes. The list is as long as the answer at most, so a slow reader
	// never holds up the batch.
	mu     sync.Mutex
	pieces []Piece
	err    error
	stats  Stats
	ready  chan struct{} // holds one token when there is something new
}

// newTicket is a ticket whose Close calls cancel.
func newTicket(cancel context.CancelCauseFunc) *Ticket {
	return &Ticket{cancel: cancel, ready: make(chan struct{}, 1)}
}

// Next blocks until there is more. Everything that has arrived since the last call comes as one piece. After the piece
// with Result it returns io.EOF. One goroutine calls it.
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
	for _, p := range t.pieces[1:] {
		all.Text += p.Text
		all.Tokens = append(all.Tokens, p.Tokens...)
		all.Result = p.Result
	}
	t.pieces = nil
	return all, true, nil
}

// Close cancels the request if it still runs. Next then fails with KindCancelled.
func (t *Ticket) Close() {
	t.cancel(schemas.KindCancelled)
}

// Stats is what the request has cost so far; final once Next has failed.
func (t *Ticket) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stats
}

// put adds a piece. The last one ends the ticket.
func (t *Ticket) put(p Piece, s Stats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return
	}
	t.pieces = append(t.pieces, p)
	t.stats = s
	if p.Result != nil {
		t.err = io.EOF
		t.cancel(nil)
	}
	t.wake()
}

// fail ends the ticket without a result.
func (t *Ticket) fail(err error, s Stats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return
	}
	t.err, t.stats = err, s
	t.cancel(err)
	t.wake()
}

// wake makes Next look again.
func (t *Ticket) wake() {
	select {
	case t.ready <- struct{}{}:
	default:
	}
}
