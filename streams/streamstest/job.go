package streamstest

import (
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Model is the model id of the jobs made here, and Route its route on shard 0.
var (
	modelRef = schemas.ModelRef{Name: "test/model", Revision: "1", Root: schemas.HashOf([]byte("weights"))}
	Model    = modelRef.ID()
	Route    = streams.Route{Shard: 0, Slug: modelRef.Slug()}
)

// Job is a job of a tenant for Model, with a deadline in an hour and the given envelope, which is not really sealed.
// change, when not nil, may alter the attributes.
func Job(tenant schemas.TenantID, envelope []byte, change func(*schemas.Attributes)) streams.Job {
	now := time.Now().UTC().Truncate(time.Second)
	a := schemas.Attributes{
		ID: schemas.NewJobID(), Tenant: tenant, Time: now, Model: Model, Class: schemas.Standard,
		Key: schemas.KeyIDOf([]byte("key")), Expiry: now.Add(time.Hour), Policy: schemas.HashOf([]byte("policy")),
		Budget: 1_000_000, Attempts: 3,
	}
	if change != nil {
		change(&a)
	}
	return streams.Job{Attributes: a, Envelope: envelope}
}

// Outcome is a succeeded outcome of a job with the given body; its grant and receipt are no real signatures.
func Outcome(a schemas.Attributes, body []byte) schemas.Outcome {
	return schemas.Outcome{
		Job: a.ID, Tenant: a.Tenant, Model: a.Model, Status: schemas.Succeeded,
		Grant: "grant." + string(a.ID), Receipt: "receipt." + string(a.ID), Body: body,
	}
}
