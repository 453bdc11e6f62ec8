package producers

import (
	"context"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// open verifies an outcome and turns it into an answer. expect is what is known of the job, nil when this machine did
// not seal it. The answer is nil when there is nothing to show; the error says why there is no answer in full. Both are
// set for a job that was cancelled after it had cost something.
func (c *Client) open(ctx context.Context, o schemas.Outcome, expect *schemas.Attributes) (*Answer, error) {
	e := enclave.Expect{Job: o.Job}
	known := false
	if o.Grant != "" {
		kid, err := enclave.GrantKey(o.Grant)
		if err != nil {
			return nil, err
		}
		e.Broker = c.brokerOf(ctx, o.Model, kid)
		known = e.Broker != nil
	}
	opened, err := c.o.Tenant.OpenResult(o, e)
	if err != nil {
		return nil, err
	}
	if expect != nil && opened.Grant != nil && opened.Grant.Ceiling > expect.Budget && expect.ID == o.Job {
		return nil, &schemas.Error{Kind: schemas.KindAttestation, Field: "grant", Message: "allows a charge above the job's ceiling"}
	}
	a := &Answer{
		Job: o.Job, Model: o.Model, Status: o.Status, HTTP: opened.Result.Status, ContentType: opened.Result.ContentType,
		Body: opened.Result.Body, FinishReason: opened.Result.FinishReason, Usage: opened.Result.Usage,
		Queue: milliseconds(opened.Result.Queue), FirstToken: milliseconds(opened.Result.FirstToken), Total: milliseconds(opened.Result.Total),
		Fingerprint: opened.Result.Fingerprint, Grant: o.Grant, Receipt: o.Receipt, GrantVerified: known,
	}
	if expect != nil {
		a.Submitted = expect.Time
	}
	if g := opened.Grant; g != nil {
		a.Worker, a.Attempt, a.Environment, a.Multiplier, a.Catalogue = g.Worker, g.Attempt, g.Environment, g.Multiplier, g.Catalogue
	}
	if r := opened.Receipt; r != nil {
		a.Started, a.Finished = r.Started, r.Finished
		if a.Charge, err = c.charge(ctx, r, opened.Grant); err != nil {
			return nil, err
		}
	}
	failure := opened.Result.Err()
	if failure != nil && len(a.Body) == 0 && a.Receipt == "" {
		return nil, failure
	}
	return a, failure
}

// milliseconds is the inverse of schemas.Milliseconds.
func milliseconds(n uint32) time.Duration { return time.Duration(n) * time.Millisecond }

// brokerOf returns the attested key behind a grant's signature, nil when there is none to be had.
func (c *Client) brokerOf(ctx context.Context, id schemas.ModelID, kid schemas.KeyID) []byte {
	if key := c.believer.known(kid); key != nil {
		return key
	}
	catalogue, err := c.believer.prices(ctx)
	if err != nil {
		return nil
	}
	m, err := catalogue.Find(string(id))
	if err != nil {
		return nil
	}
	return c.believer.broker(ctx, m, kid)
}

// charge is what settlement books for a receipt: the usage at the prices that the grant names. A usage that costs more
// than the ceiling is refused by settlement and owes nothing.
func (c *Client) charge(ctx context.Context, r *schemas.Receipt, g *schemas.Grant) (schemas.Charge, error) {
	catalogue, err := c.believer.version(ctx, g.Catalogue)
	if err != nil {
		return schemas.Charge{}, err
	}
	charge, err := catalogue.Cost(r.Model, r.Usage, g.Multiplier)
	if err != nil || charge.Total > g.Ceiling {
		return schemas.Charge{}, err
	}
	return charge, nil
}
