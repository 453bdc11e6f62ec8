package batch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of a block: lines that are sealed, spooled and published together.
const (
	blockLines = schemas.MaxPerEncapsulation
	blockBytes = 8 << 20
)

// sealedLine is a line ready to be published.
type sealedLine struct {
	publishedLine
	sealed producers.Sealed
}

// pendingLine is a line that waits to be sealed.
type pendingLine struct {
	number     int
	customID   string
	generation int
	call       *openai.Call
}

// seal reads the input, again and again while lines wait, and hands on sealed blocks.
func (r *runner) seal(ctx context.Context, out chan<- []sealedLine) error {
	if err := r.spooled(ctx); err != nil {
		return err
	}
	if r.waiting() > 0 {
		if err := r.checkInput(ctx); err != nil {
			return err
		}
	}
	for {
		r.b.mu.Lock()
		changed := r.b.changed
		r.b.mu.Unlock()
		if r.waiting() > 0 {
			if err := r.pass(ctx, out); err != nil {
				return err
			}
		}
		// A nil block asks the publisher to say when everything before it has been dealt with.
		if err := send(ctx, out, nil); err != nil {
			return err
		}
		if r.waiting() > 0 {
			continue // lines that became new jobs while we read
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// send hands on a block.
func send(ctx context.Context, out chan<- []sealedLine, block []sealedLine) error {
	select {
	case out <- block:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// waiting is the number of lines to be submitted.
func (r *runner) waiting() int {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	return r.b.book.waiting
}

// checkInput refuses an input that is not the one that was checked when the batch was made. One that this process has
// checked and that looks untouched is not read again.
func (r *runner) checkInput(ctx context.Context) error {
	f, err := openInput(r.b.manifest.Options.Input)
	if err != nil {
		return err
	}
	defer f.Close()
	if r.b.checked != nil {
		info, err := f.Stat()
		if err == nil && os.SameFile(info, r.b.checked) && info.Size() == r.b.checked.Size() && info.ModTime().Equal(r.b.checked.ModTime()) {
			return nil
		}
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, &ctxReader{ctx, f}); err != nil {
		return fmt.Errorf("read input: %w", err)
	}
	if schemas.Hash(digest.Sum(nil)) != r.b.manifest.Hash {
		return &schemas.Error{Kind: schemas.KindConflict, Field: "input", Message: r.b.manifest.Options.Input + " has changed since the batch was made"}
	}
	return nil
}

// ctxReader ends a long read with its context.
type ctxReader struct {
	ctx context.Context
	src io.Reader
}

// Read reads while the context lives.
func (c *ctxReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.src.Read(p)
}

// pass reads the input once and seals the lines that wait, block by block.
func (r *runner) pass(ctx context.Context, out chan<- []sealedLine) error {
	f, err := openInput(r.b.manifest.Options.Input)
	if err != nil {
		return err
	}
	defer f.Close()
	var block []pendingLine
	size := 0
	flush := func() error {
		full := block
		block, size = nil, 0
		return r.sealBlock(ctx, full, out)
	}
	for l, err := range Lines(f, r.b.manifest.Options.Rules) {
		if err != nil {
			return fmt.Errorf("%w: the input has changed while it was read", err)
		}
		generation, waits := r.waits(l.Number)
		if !waits {
			continue
		}
		call := l.Call.Clone()
		block = append(block, pendingLine{l.Number, l.CustomID, generation, call})
		if size += len(call.Body); len(block) == blockLines || size >= blockBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// waits reports whether a line is to be submitted, and as which generation.
func (r *runner) waits(number int) (generation int, yes bool) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	l := r.b.book.lines[number]
	if l == nil {
		return 0, true
	}
	return l.generation, l.state == lineWaiting
}

// job is a line as a job. The key makes the line the same job whenever it is submitted again.
func (r *runner) job(p *pendingLine, timeout time.Duration) producers.Job {
	o := &r.b.manifest.Options
	name := sha256.Sum256([]byte(p.customID))
	return producers.Job{
		Call: p.call, Class: o.Class, Attempts: o.Attempts, Timeout: timeout,
		IdempotencyKey: "batch/" + o.ID + "/" + strconv.Itoa(p.generation) + "/" + hex.EncodeToString(name[:]),
	}
}

// sealBlock seals lines and hands them on. A line that cannot be sealed ends here, with its own error; an error that is
// not a line's fault is tried again until patience ends.
func (r *runner) sealBlock(ctx context.Context, lines []pendingLine, out chan<- []sealedLine) error {
	patience := time.Now().Add(r.o.Patience)
	for len(lines) > 0 {
		timeout := time.Until(r.b.Summary().Expires)
		if r.b.Summary().State == Cancelling || timeout < time.Second {
			return r.drop(lines, timeout)
		}
		jobs := make([]producers.Job, len(lines))
		for i := range lines {
			jobs[i] = r.job(&lines[i], timeout)
		}
		sealed, err := r.c.Seal(ctx, jobs)
		var e *schemas.Error
		switch {
		case err == nil:
			return send(ctx, out, block(lines, sealed))
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case schemas.Retriable(err) && time.Now().Before(patience):
			r.log.Warn("lines not sealed yet", "error", err)
			if !pause(ctx, time.Second) {
				return context.Cause(ctx)
			}
		case errors.As(err, &e) && e.Line > 0 && ownFault(e.Kind):
			at := e.Line - 1
			if err := r.refuse(lines[at], err); err != nil {
				return err
			}
			lines = append(lines[:at:at], lines[at+1:]...)
		default:
			return err
		}
	}
	return nil
}

// ownFault reports whether a line could not be sealed because of what it says.
func ownFault(k schemas.Kind) bool {
	switch k {
	case schemas.KindInvalid, schemas.KindTooLarge, schemas.KindUnknownModel, schemas.KindUnsupported, schemas.KindPrice:
		return true
	}
	return false
}

// pause waits and reports whether the context still lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// refuse ends a line that was never submitted.
func (r *runner) refuse(l pendingLine, err error) error {
	name := sha256.Sum256([]byte(l.customID))
	p := publishedLine{Line: l.number, CustomID: l.customID, Job: schemas.JobIDFrom([16]byte(name[:16]))}
	return r.settle(p, producers.Settled{Job: p.Job, Err: err})
}

// drop ends lines of a batch that was cancelled or whose time is over.
func (r *runner) drop(lines []pendingLine, timeout time.Duration) error {
	err := &schemas.Error{Kind: schemas.KindCancelled, Message: "the batch was cancelled before the line was submitted"}
	if timeout < time.Second {
		err = &schemas.Error{Kind: schemas.KindExpired, Message: "the batch's time was over before the line was submitted"}
	}
	for _, l := range lines {
		if err := r.refuse(l, err); err != nil {
			return err
		}
	}
	return nil
}

// block puts lines and what was sealed of them together.
func block(lines []pendingLine, sealed []producers.Sealed) []sealedLine {
	block := make([]sealedLine, len(lines))
	for i, l := range lines {
		a := &sealed[i].Attributes
		block[i] = sealedLine{sealed: sealed[i], publishedLine: publishedLine{
			Line: l.number, CustomID: l.customID, Generation: l.generation, Job: a.ID, Budget: a.Budget, Tokens: sealed[i].Tokens,
			Time: a.Time, Expiry: a.Expiry,
		}}
	}
	return block
}
