package producers

import (
	"context"
	"errors"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Submit hands a job to the network and returns when it is stored there. Errors: what is wrong with the job, by field;
// KindUnknownModel; KindPolicy and KindAttestation when the network is not what Options.Trust demands; KindConflict for
// an idempotency key that was used for another request; KindBusy at once when a queue or Options.MaxPending is full;
// KindUnavailable when the network could not be reached for Options.PublishWait. After KindUnavailable the job may have
// been stored all the same: submitted again under the same idempotency key it is the same job.
func (c *Client) Submit(ctx context.Context, j Job) (*Handle, error) {
	ctx, span := c.o.Tracer.Start(ctx, "cocoon.submit")
	h, err := c.submit(ctx, j)
	span.End(err)
	return h, err
}

// submit is Submit inside its span.
func (c *Client) submit(ctx context.Context, j Job) (*Handle, error) {
	if len(j.IdempotencyKey) > MaxIdempotencyKey {
		return nil, schemas.FieldError("IdempotencyKey", "is longer than 256 bytes")
	}
	if c.life.Err() != nil {
		return nil, errClosed
	}
	var p *plan
	err := c.patiently(ctx, func(ctx context.Context) (err error) {
		p, err = c.plan(ctx, &j)
		return err
	})
	if err != nil {
		return nil, err
	}
	if j.IdempotencyKey != "" {
		return c.submitKeyed(ctx, j, p)
	}
	if err := c.takeSlot(); err != nil {
		return nil, err
	}
	h, _ := c.claim(ctx, schemas.NewJobID(), p)
	if !j.Ephemeral {
		h.entry = &Entry{ID: h.ID, Fingerprint: p.fingerprint, Request: c.sealForSelf(h.ID, j)}
	}
	err = c.prepare(ctx, h, func(ctx context.Context, e Entry) error {
		_, _, err := c.o.Record.Create(ctx, e)
		return err
	})
	if err == nil {
		err = c.launch(ctx, h, j.Live)
	}
	if err != nil {
		c.unrecord(h) // nobody has its id, so nobody could ever ask for it
		return nil, c.giveUp(h, err)
	}
	c.follow(h)
	return h, nil
}

// takeSlot counts a job in, or says that there are too many.
func (c *Client) takeSlot() error {
	select {
	case c.slots <- struct{}{}:
		return nil
	default:
		return &schemas.Error{Kind: schemas.KindBusy, Message: "too many jobs of this client wait for an outcome", RetryAfter: time.Second}
	}
}

// giveUp ends a job that did not reach the network and counts it out.
func (c *Client) giveUp(h *Handle, err error) error {
	<-c.slots
	return h.fail(err)
}

// prepare seals the handle's job for its current generation and writes it down through store. Commit point: when it
// has returned, a crash leaves an entry that Resume publishes again.
func (c *Client) prepare(ctx context.Context, h *Handle, store func(context.Context, Entry) error) error {
	var s Sealed
	err := c.patiently(ctx, func(ctx context.Context) (err error) {
		s, err = c.sealOne(ctx, h.plan, h.jobID())
		return err
	})
	if err != nil {
		return err
	}
	h.set(s, streams.Ack{})
	h.span.Sent(s.Attributes.ID)
	h.span.Model(s.Attributes.Model, s.Attributes.Class)
	if h.entry == nil {
		return nil
	}
	e, now := h.entry, time.Now().UTC()
	e.State, e.Generation, e.Updated = StateSealed, h.generation, now
	e.Attributes, e.Hash, e.Envelope, e.Shard = s.Attributes.Header(), s.Hash, s.Envelope, s.Shard
	e.Ack, e.Outcome = streams.Ack{}, nil
	if e.Created.IsZero() {
		e.Created = now
	}
	return store(ctx, *e)
}

// unrecord forgets an entry whose job did not reach the network.
func (c *Client) unrecord(h *Handle) {
	if h.entry == nil {
		return
	}
	if err := c.o.Record.Delete(context.WithoutCancel(c.life), h.ID); err != nil {
		c.o.Logger.Warn("record not cleared", "job", h.ID, "error", err)
	}
}

// launch publishes the handle's sealed job. It listens first, so nothing that happens to the job goes unheard.
func (c *Client) launch(ctx context.Context, h *Handle, live bool) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.PublishWait)
	defer cancel()
	s, _ := h.current()
	if err := c.hub.listen(ctx); err != nil {
		return err
	}
	if live && h.chunks == nil {
		feed, err := c.bus.Chunks(ctx, c.Tenant(), s.Attributes.ID)
		if err != nil {
			return err
		}
		h.chunks, h.streamed = feed, s
	}
	ack, err := c.bus.PublishJob(ctx, s.message())
	if err != nil {
		return err
	}
	h.set(s, ack)
	if h.entry == nil {
		return nil
	}
	h.entry.State, h.entry.Ack, h.entry.Updated = StatePublished, ack, time.Now().UTC()
	// The job is with the network whether this is written or not: an entry that stays Sealed is published again.
	if err := c.o.Record.Update(ctx, *h.entry); err != nil {
		c.o.Logger.Warn("record not updated", "job", h.ID, "error", err)
	}
	return nil
}

// submitKeyed is Submit for a job with an idempotency key: one job, however often and wherever it is submitted.
func (c *Client) submitKeyed(ctx context.Context, j Job, p *plan) (*Handle, error) {
	id := c.keyedID(j.IdempotencyKey, p.fingerprint)
	h, fresh := c.claim(ctx, id, p)
	if !fresh {
		return h.attach(ctx)
	}
	if err := c.takeSlot(); err != nil {
		return nil, h.fail(err)
	}
	h.entry = &Entry{
		ID: id, Key: string(c.o.Tenant.JobID("name/" + j.IdempotencyKey)), Fingerprint: p.fingerprint, Request: c.sealForSelf(id, j),
	}
	var stored Entry
	created := false
	err := c.prepare(ctx, h, func(ctx context.Context, e Entry) (err error) {
		stored, created, err = c.o.Record.Create(ctx, e)
		return err
	})
	if err != nil {
		return nil, c.giveUp(h, err)
	}
	if !created {
		return c.rejoin(ctx, h, stored, j.Live)
	}
	// Another machine of the tenant may have submitted the same key: its outcome is the job's.
	switch _, err := c.bus.Outcome(ctx, c.Tenant(), id); {
	case err == nil:
		if err := c.hub.listen(ctx); err != nil {
			return nil, c.giveUp(h, err)
		}
		c.follow(h)
		return h, nil
	case !errors.Is(err, schemas.KindNotFound) && !errors.Is(err, schemas.KindUnavailable):
		return nil, c.giveUp(h, err)
	}
	if err := c.launch(ctx, h, j.Live); err != nil {
		// The entry stays: the job may be stored, and who submits the key again takes it up.
		return nil, c.giveUp(h, err)
	}
	c.follow(h)
	return h, nil
}

// attach waits until a job that another goroutine is submitting is with the network.
func (h *Handle) attach(ctx context.Context) (*Handle, error) {
	select {
	case <-h.ready:
	case <-ctx.Done():
		return nil, ended(ctx)
	}
	select {
	case <-h.over.Done():
		if h.answer == nil && h.err != nil {
			return nil, h.err
		}
	default:
	}
	return h, nil
}

// rejoin takes up a key that the record knows: the stored answer, the job that is still open, or another try after an
// outcome that was no answer and cost nothing.
func (c *Client) rejoin(ctx context.Context, h *Handle, stored Entry, live bool) (*Handle, error) {
	if stored.Fingerprint != h.entry.Fingerprint {
		return nil, c.giveUp(h, &schemas.Error{Kind: schemas.KindConflict, Field: "Idempotency-Key", Message: "was used for another request"})
	}
	if err := h.adopt(stored); err != nil {
		return nil, c.giveUp(h, err)
	}
	if stored.State == StateDone {
		answer, err := c.openStored(ctx, &stored)
		if answer != nil {
			<-c.slots
			close(h.ready)
			h.finish(answer, err)
			return h, nil
		}
		if h.generation++; h.generation > maxKeyGenerations {
			return nil, c.giveUp(h, err)
		}
		h.entry.Request = c.sealPlan(h.ID, h.plan)
		if err := c.prepare(ctx, h, c.o.Record.Update); err != nil {
			return nil, c.giveUp(h, err)
		}
	}
	if err := c.launch(ctx, h, live); err != nil {
		return nil, c.giveUp(h, err)
	}
	c.follow(h)
	return h, nil
}

// follow drives the job in a goroutine of its own.
func (c *Client) follow(h *Handle) {
	close(h.ready)
	c.wg.Go(func() {
		defer func() { <-c.slots }()
		h.finish(c.drive(c.life, h))
	})
}

// Do submits a job and waits for its answer. Without an idempotency key the job is not recorded. When ctx ends first,
// the job goes on: use Submit where it may have to be cancelled.
func (c *Client) Do(ctx context.Context, j Job) (*Answer, error) {
	j.Ephemeral = j.IdempotencyKey == ""
	h, err := c.Submit(ctx, j)
	if err != nil {
		return nil, err
	}
	return h.Wait(ctx)
}
