package batch

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/schemas"
)

// publish sends sealed blocks as far as window, quota and budget allow.
func (r *runner) publish(ctx context.Context, in <-chan []sealedLine) error {
	for {
		select {
		case block := <-in:
			if err := r.publishBlock(ctx, block); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// publishBlock sends one block, in parts when it does not fit at once.
func (r *runner) publishBlock(ctx context.Context, block []sealedLine) error {
	for len(block) > 0 {
		r.b.mu.Lock()
		changed, n, stuck := r.b.changed, r.fits(block), r.b.book.flying == 0
		left := r.left()
		r.b.mu.Unlock()
		switch {
		case r.b.Summary().State == Cancelling:
			return r.abandon(block, &schemas.Error{Kind: schemas.KindCancelled, Message: "the batch was cancelled before the line was submitted"})
		case n > 0:
			if err := r.send(ctx, block[:n]); err != nil {
				return err
			}
			block = block[n:]
		case stuck: // nothing in flight will make room: this line can never be paid
			if err := r.abandon(block[:1], &budgetError{left, block[0].Budget}); err != nil {
				return err
			}
			block = block[1:]
		default:
			select {
			case <-changed:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// left is what the budget has left. The caller holds the batch's lock.
func (r *runner) left() schemas.NanoTON {
	return r.b.manifest.Options.MaxCost - r.b.book.cost - r.b.book.reserved
}

// fits is how many lines of a block may be in flight beside those that are: whatever they come to cost, the batch stays
// below its bounds. One line alone may be above the quota of tokens, or it could never run. The caller holds the
// batch's lock.
func (r *runner) fits(block []sealedLine) int {
	o, book := &r.b.manifest.Options, r.b.book
	left, tokens, flying := r.left(), book.tokens, book.flying
	for n, l := range block {
		left -= l.Budget
		tokens += l.Tokens
		switch {
		case o.MaxCost > 0 && left < 0, o.Window > 0 && flying+n >= o.Window,
			o.MaxTokens > 0 && tokens > o.MaxTokens && flying+n > 0:
			return n
		}
	}
	return len(block)
}

// abandon ends lines that were sealed and not sent.
func (r *runner) abandon(block []sealedLine, err error) error {
	for _, l := range block {
		if err := r.settle(l.publishedLine, producers.Settled{Job: l.Job, Err: err}); err != nil {
			return err
		}
	}
	return nil
}

// send publishes lines and records them. Before the first one leaves, all of them are in the spool: a process that dies
// here finds the same bytes there and publishes them again, and what had arrived is not stored twice. Commit point: the
// journal's record; the spool goes after it.
func (r *runner) send(ctx context.Context, lines []sealedLine) error {
	if err := r.b.spool(lines); err != nil {
		return err
	}
	if err := r.transmit(ctx, lines, !r.b.fresh); err != nil {
		return err
	}
	return r.b.unspool()
}

// transmit publishes lines that are in the spool, until each is with the network or has failed. ask: an earlier process
// may have published them, and those that have an outcome already are not published again.
func (r *runner) transmit(ctx context.Context, lines []sealedLine, ask bool) error {
	expected := make([]publishedLine, len(lines))
	for i := range lines {
		expected[i] = lines[i].publishedLine
	}
	if err := r.expect(ctx, expected, ask); err != nil {
		return err
	}
	if ask {
		lines = slices.DeleteFunc(slices.Clone(lines), func(l sealedLine) bool { return !r.collector.Open(l.Job) })
	}
	patience := time.Now().Add(r.o.Patience)
	for len(lines) > 0 {
		again, wait, err := r.try(ctx, lines)
		if err != nil || len(again) == 0 {
			return err
		}
		if len(again) < len(lines) {
			patience = time.Now().Add(r.o.Patience) // it moves
		}
		lines = again
		if time.Now().After(patience) {
			return &schemas.Error{Kind: schemas.KindUnavailable, Message: "the network takes no lines", RetryAfter: wait}
		}
		if !pause(ctx, wait) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// try publishes lines once, records those that arrived, ends those that never can, and returns the others with the time
// after which to try them again.
func (r *runner) try(ctx context.Context, lines []sealedLine) (again []sealedLine, wait time.Duration, err error) {
	jobs := make([]producers.Sealed, len(lines))
	for i := range lines {
		jobs[i] = lines[i].sealed
	}
	var published []publishedLine
	wait = time.Second
	results := r.c.Publish(ctx, jobs)
	for i := range lines {
		err := errors.New("no result") // the context ended before its turn
		if i < len(results) {
			err = results[i].Err
		}
		var e *schemas.Error
		switch {
		case err == nil:
			published = append(published, lines[i].publishedLine)
		case i >= len(results) || schemas.Retriable(err):
			again = append(again, lines[i])
			if errors.As(err, &e) {
				wait = max(wait, min(e.RetryAfter, time.Minute))
			}
		default:
			if err := r.fail(lines[i], err); err != nil {
				return nil, 0, err
			}
		}
	}
	if len(published) > 0 {
		if err := r.b.record(event{Published: published}, true); err != nil {
			return nil, 0, err
		}
	}
	if len(again) > 0 {
		r.log.Warn("lines not published yet", "lines", len(again), "again_in", wait)
	}
	return again, wait, nil
}

// fail ends a line that the network will never take.
func (r *runner) fail(l sealedLine, err error) error {
	r.mu.Lock()
	delete(r.jobs, l.Job)
	r.mu.Unlock()
	return r.settle(l.publishedLine, producers.Settled{Job: l.Job, Err: err})
}
