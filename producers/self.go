package producers

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"

	"github.com/cocoon-network/cocoon/schemas"
)

// selfLabel names the key that requests in the record are sealed under.
const selfLabel = "producers/record/v1"

// selfSeal is the cipher of the record: a random nonce before each text, good for 2^32 of them.
func (c *Client) selfSeal() cipher.AEAD {
	key := c.o.Tenant.Derive(selfLabel)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("producers: a 32-byte key makes a cipher: " + err.Error())
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("producers: AES makes a GCM: " + err.Error())
	}
	return aead
}

// sealForSelf seals a job to the tenant itself, so that it can be sealed to another key of the network later.
func (c *Client) sealForSelf(id schemas.JobID, j Job) []byte {
	if j.Call != nil {
		j.URL, j.ContentType, j.Body = j.Call.URL, j.Call.ContentType, j.Call.Body
	}
	plain, err := json.Marshal(j)
	if err != nil {
		panic("producers: a job always marshals: " + err.Error())
	}
	return c.selfSeal().Seal(nil, nil, plain, []byte(id))
}

// sealPlan is sealForSelf for what a plan was made of.
func (c *Client) sealPlan(id schemas.JobID, p *plan) []byte {
	return c.sealForSelf(id, Job{
		URL: p.call.URL, ContentType: p.call.ContentType, Body: p.call.Body, Class: p.attributes.Class, MaxCost: p.attributes.Budget,
		MaxMultiplier: p.limit.Multiplier, Timeout: p.timeout, Attempts: p.attributes.Attempts,
	})
}

// restore makes the plan of a recorded job again.
func (c *Client) restore(ctx context.Context, e *Entry) (*plan, error) {
	plain, err := c.selfSeal().Open(nil, nil, e.Request, []byte(e.ID))
	if err != nil {
		return nil, &schemas.Error{Kind: schemas.KindCorrupt, Field: "record", Message: "holds a request that this tenant cannot open"}
	}
	var j Job
	if err := json.Unmarshal(plain, &j); err != nil {
		return nil, &schemas.Error{Kind: schemas.KindCorrupt, Field: "record", Message: "holds a request that does not parse", Err: err}
	}
	var p *plan
	err = c.patiently(ctx, func(ctx context.Context) (err error) {
		p, err = c.plan(ctx, &j)
		return err
	})
	return p, err
}

// adopt makes a handle continue a recorded job.
func (h *Handle) adopt(e Entry) error {
	attributes, err := schemas.ParseAttributes(e.Attributes)
	if err != nil {
		return &schemas.Error{Kind: schemas.KindCorrupt, Field: "record", Message: "holds a job that does not parse", Err: err}
	}
	h.entry, h.generation = &e, e.Generation
	h.set(Sealed{Attributes: attributes, Hash: e.Hash, Envelope: e.Envelope, Shard: e.Shard}, e.Ack)
	return nil
}

// openStored opens the outcome of a recorded job.
func (c *Client) openStored(ctx context.Context, e *Entry) (*Answer, error) {
	attributes, err := schemas.ParseAttributes(e.Attributes)
	if err == nil && e.Outcome == nil {
		err = schemas.FieldError("outcome", "is missing")
	}
	var o schemas.Outcome
	if err == nil {
		o, err = schemas.ParseOutcome(e.Outcome.Header, e.Outcome.Body)
	}
	if err != nil {
		return nil, &schemas.Error{Kind: schemas.KindCorrupt, Field: "record", Message: "holds an outcome that does not parse", Err: err}
	}
	return c.open(ctx, o, &attributes)
}
