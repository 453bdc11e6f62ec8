package producers

import (
	"context"
	"errors"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

const (
	// expiryGrace is how long after its expiry a job's outcome is still waited for: the network ends it, not we.
	expiryGrace = 2 * time.Minute
	// maxGenerations bounds how often one submission seals a job again.
	maxGenerations = 5
	// maxKeyGenerations bounds how often all submissions under one idempotency key do.
	maxKeyGenerations = 1000
)

// drive brings a published job to its end: waits for the outcome, verifies it, seals the job again when the broker lost
// the key, and writes down what came of it.
func (c *Client) drive(ctx context.Context, h *Handle) (*Answer, error) {
	for range maxGenerations {
		o, err := c.await(ctx, h)
		if err != nil {
			return nil, err
		}
		sealed, _ := h.current()
		answer, err := c.open(ctx, o, &sealed.Attributes)
		if !errors.Is(err, schemas.KindKeyLost) {
			c.writeOutcome(h, o)
			return answer, err
		}
		c.o.Logger.Info("key lost, sealing again", "job", h.ID)
		if err := c.again(ctx, h); err != nil {
			return nil, err // the entry stays open, so Resume tries again
		}
	}
	return nil, &schemas.Error{Kind: schemas.KindKeyLost, Message: "the network loses its keys again and again"}
}

// again seals a job to the model's current key under its next id and publishes it.
func (c *Client) again(ctx context.Context, h *Handle) error {
	if h.plan == nil {
		p, err := c.restore(ctx, h.entry)
		if err != nil {
			return err
		}
		h.plan = p
	}
	h.generation++
	c.believer.forget(h.plan.model.ID)
	if err := c.prepare(ctx, h, c.o.Record.Update); err != nil {
		return err
	}
	return c.launch(ctx, h, false)
}

// writeOutcome records how a job ended. Commit point: from here on the outcome is known here, whatever becomes of the
// network's copy; a crash before it only makes Resume ask again.
func (c *Client) writeOutcome(h *Handle, o schemas.Outcome) {
	if h.entry == nil {
		return
	}
	e := *h.entry
	e.State, e.Updated, e.Request, e.Envelope = StateDone, time.Now().UTC(), nil, nil
	e.Outcome = &StoredOutcome{Header: o.Header(), Body: o.Body}
	if err := c.o.Record.Update(context.WithoutCancel(c.life), e); err != nil {
		c.o.Logger.Warn("outcome not recorded", "job", h.ID, "error", err)
	}
}

// await waits for the outcome of the job as it was published last. A job that stays without one is published again,
// the same bytes, in case the network lost it.
func (c *Client) await(ctx context.Context, h *Handle) (schemas.Outcome, error) {
	sealed, _ := h.current()
	id := sealed.Attributes.ID
	got := make(chan schemas.Outcome, 1)
	// The outcome may be there already: for a job of an earlier process, or one that was quicker than we.
	e := c.hub.expect(id, true, func(o schemas.Outcome) { got <- o })
	defer c.hub.forget(e)
	end := time.NewTimer(time.Until(sealed.Attributes.Expiry) + expiryGrace)
	defer end.Stop()
	resubmit := time.NewTicker(c.o.ResubmitAfter)
	defer resubmit.Stop()
	for {
		select {
		case o := <-got:
			return o, nil
		case <-ctx.Done():
			return schemas.Outcome{}, context.Cause(ctx)
		case <-end.C:
			return schemas.Outcome{}, &schemas.Error{Kind: schemas.KindExpired, Message: "the job's time is over and the network has not said what became of it"}
		case <-resubmit.C:
			if _, err := c.bus.PublishJob(ctx, sealed.message()); err != nil {
				c.o.Logger.Warn("job not published again", "job", h.ID, "error", err)
			}
			c.hub.ask(id)
		}
	}
}
