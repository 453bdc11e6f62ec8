package producers

import (
	"context"
	"sync/atomic"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/tracing"
	"github.com/cocoon-network/cocoon/streams"
)

// Handle is a submitted job.
type Handle struct {
	// ID names the job: Get, Watch and Cancel take it. The answer may carry another id, when the job was sealed again.
	ID schemas.JobID

	c *Client
	// span is open until the job has ended.
	span *tracing.Span
	// plan, entry and generation belong to the goroutine that drives the job. plan is nil for a job taken up from the
	// record, until it must be sealed again; entry is nil for an ephemeral job.
	plan       *plan
	entry      *Entry
	generation int

	// chunks are the live chunks of the job sealed as streamed; nil when the job is not live. One loop of Events reads
	// them: the first that sets watched.
	chunks   *streams.Feed[[]byte]
	streamed Sealed
	watched  atomic.Bool

	// ready is closed when the network has the job, or when it turned out that it never will.
	ready chan struct{}
	// over ends when answer and err are set.
	over   context.Context
	end    context.CancelFunc
	answer *Answer
	err    error

	// sealed and ack are the job as it was published last; guarded by c.mu.
	sealed Sealed
	ack    streams.Ack
}

// Wait returns the answer. It may be called any number of times, from any goroutine. The error of a job that has no
// answer is the same every time; the end of ctx ends only this wait.
func (h *Handle) Wait(ctx context.Context) (*Answer, error) {
	select {
	case <-h.over.Done():
		return h.answer, h.err
	default:
	}
	select {
	case <-h.over.Done():
		return h.answer, h.err
	case <-ctx.Done():
		return nil, ended(ctx)
	}
}

// Done is closed when Wait will not block any more.
func (h *Handle) Done() <-chan struct{} { return h.over.Done() }

// claim registers a handle for an id, or returns the one that this process already has.
func (c *Client) claim(ctx context.Context, id schemas.JobID, p *plan) (h *Handle, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.live[id]; h != nil {
		return h, false
	}
	h = &Handle{ID: id, c: c, plan: p, ready: make(chan struct{})}
	_, h.span = c.o.Tracer.Start(ctx, "cocoon.job")
	h.over, h.end = context.WithCancel(context.Background())
	c.live[id] = h
	return h, true
}

// jobID is the id of the handle's current generation.
func (h *Handle) jobID() schemas.JobID { return h.c.laterID(h.ID, h.generation) }

// current is the job as it was published last.
func (h *Handle) current() (Sealed, streams.Ack) {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	return h.sealed, h.ack
}

// set remembers the job as it is published now.
func (h *Handle) set(s Sealed, ack streams.Ack) {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.sealed, h.ack = s, ack
}

// finish ends the handle. It is called once, by the goroutine that drives the job.
func (h *Handle) finish(a *Answer, err error) {
	h.answer, h.err = a, err
	h.span.End(err)
	h.c.mu.Lock()
	delete(h.c.live, h.ID)
	h.c.mu.Unlock()
	h.end()
	if h.chunks != nil {
		h.chunks.Close()
	}
}

// fail ends a handle whose job never reached the network.
func (h *Handle) fail(err error) error {
	h.finish(nil, err)
	close(h.ready)
	return err
}
