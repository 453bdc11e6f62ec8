package producers

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Status is what is known of a job.
type Status struct {
	// Job is the id that was asked for and State how far the job has come.
	Job   schemas.JobID
	State State
	// Answer is set when State is StateDone and the job has something to show; Err is why it does not have all of it.
	Answer *Answer
	Err    error
}

// Get returns what is known of a job now: from the record, and from the network also when another machine of the
// tenant submitted it. KindNotFound: neither knows it; the network forgets outcomes after some days.
func (c *Client) Get(ctx context.Context, id schemas.JobID) (*Status, error) {
	if _, err := schemas.ParseJobID(string(id)); err != nil {
		return nil, err
	}
	e, recordErr := c.o.Record.Get(ctx, id)
	if recordErr != nil && !errors.Is(recordErr, schemas.KindNotFound) {
		return nil, recordErr
	}
	known := recordErr == nil
	if known && e.State == StateDone {
		answer, err := c.openStored(ctx, &e)
		return &Status{Job: id, State: StateDone, Answer: answer, Err: err}, nil
	}
	o, err := c.lastOutcome(ctx, id)
	switch {
	case err == nil:
		answer, err := c.open(ctx, o, nil)
		return &Status{Job: id, State: StateDone, Answer: answer, Err: err}, nil
	case !errors.Is(err, schemas.KindNotFound):
		return nil, err
	case known:
		return &Status{Job: id, State: e.State}, nil
	}
	c.mu.Lock()
	h := c.live[id]
	c.mu.Unlock()
	if h != nil {
		return &Status{Job: id, State: StatePublished}, nil
	}
	return nil, err
}

// lastOutcome follows a job from generation to generation: an outcome that only says that the key was lost is not the
// last one when the job was sealed again.
func (c *Client) lastOutcome(ctx context.Context, first schemas.JobID) (last schemas.Outcome, err error) {
	for generation := range maxGenerations {
		o, err := c.bus.Outcome(ctx, c.Tenant(), c.laterID(first, generation))
		if generation > 0 && errors.Is(err, schemas.KindNotFound) {
			return last, nil
		}
		if err != nil || o.Kind != schemas.KindKeyLost {
			return o, err
		}
		last = o
	}
	return last, nil
}

// Watch waits until a job has an outcome and returns it as Wait does, also for a job of another process or machine.
// The end of ctx ends the wait.
func (c *Client) Watch(ctx context.Context, id schemas.JobID) (*Answer, error) {
	if _, err := schemas.ParseJobID(string(id)); err != nil {
		return nil, err
	}
	c.mu.Lock()
	h := c.live[id]
	c.mu.Unlock()
	if h != nil {
		return h.Wait(ctx)
	}
	s, err := c.Get(ctx, id)
	if err == nil && s.State == StateDone {
		return s.Answer, s.Err
	}
	if err != nil && !errors.Is(err, schemas.KindNotFound) {
		return nil, err
	}
	if err := c.hub.listen(ctx); err != nil {
		return nil, err
	}
	got := make(chan schemas.Outcome, 1)
	e := c.hub.expect(id, true, func(o schemas.Outcome) { got <- o })
	defer c.hub.forget(e)
	select {
	case o := <-got:
		return c.open(ctx, o, nil)
	case <-c.life.Done():
		return nil, errClosed
	case <-ctx.Done():
		return nil, ended(ctx)
	}
}

// Cancel asks the network to end a job. Its outcome follows as for every job: nothing is charged unless a worker had
// produced something. KindNotFound: there is no such job.
func (c *Client) Cancel(ctx context.Context, id schemas.JobID) (streams.CancelState, error) {
	if _, err := schemas.ParseJobID(string(id)); err != nil {
		return "", err
	}
	c.mu.Lock()
	h := c.live[id]
	c.mu.Unlock()
	if h != nil {
		sealed, ack := h.current()
		return c.bus.Cancel(ctx, c.Tenant(), sealed.Attributes.ID, ack)
	}
	e, err := c.o.Record.Get(ctx, id)
	if errors.Is(err, schemas.KindNotFound) {
		return c.bus.Cancel(ctx, c.Tenant(), id, streams.Ack{})
	}
	if err != nil {
		return "", err
	}
	return c.bus.Cancel(ctx, c.Tenant(), c.laterID(id, e.Generation), e.Ack)
}

// Resume takes up the recorded jobs that have no outcome yet: it publishes the same bytes again (a job that the
// network has already is not stored twice) and yields each job as it ends. Jobs that this process waits for already are
// left alone. It returns when all have ended or ctx ends; leaving the loop early is no harm.
func (c *Client) Resume(ctx context.Context) iter.Seq2[Settled, error] {
	return func(yield func(Settled, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		ended := make(chan Settled)
		open := 0
		for e, err := range c.o.Record.List(ctx, true) {
			if err == nil {
				var h *Handle
				if h, err = c.takeUp(ctx, e); err == nil && h != nil {
					open++
					c.wg.Go(func() { h.report(ctx, ended) })
				}
			}
			if err != nil && !yield(Settled{Job: e.ID, Err: err}, nil) {
				return
			}
		}
		for ; open > 0; open-- {
			select {
			case s := <-ended:
				if !yield(s, nil) {
					return
				}
			case <-ctx.Done():
				yield(Settled{}, context.Cause(ctx))
				return
			}
		}
	}
}

// takeUp continues a recorded job; nil when this process has it already.
func (c *Client) takeUp(ctx context.Context, e Entry) (*Handle, error) {
	h, fresh := c.claim(ctx, e.ID, nil)
	if !fresh {
		return nil, nil
	}
	if err := c.takeSlot(); err != nil {
		return nil, h.fail(err)
	}
	err := h.adopt(e)
	if err == nil {
		if err = c.launch(ctx, h, false); errors.Is(err, schemas.KindExpired) {
			err = nil // too late to publish; what became of it is still to be heard
		}
	}
	if err != nil {
		return nil, c.giveUp(h, err)
	}
	c.follow(h)
	return h, nil
}

// report sends the end of a job.
func (h *Handle) report(ctx context.Context, to chan<- Settled) {
	select {
	case <-h.over.Done():
	case <-ctx.Done():
		return
	}
	select {
	case to <- Settled{Job: h.ID, Answer: h.answer, Err: h.err}:
	case <-ctx.Done():
	}
}

// Prune forgets recorded jobs that ended before a time, and says how many.
func (c *Client) Prune(ctx context.Context, before time.Time) (int, error) {
	return c.o.Record.Prune(ctx, before)
}

// Jobs yields what is recorded, the oldest first; open selects the jobs without an outcome.
func (c *Client) Jobs(ctx context.Context, open bool) iter.Seq2[Entry, error] {
	return c.o.Record.List(ctx, open)
}
