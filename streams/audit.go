package streams

import (
	"context"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// AuditRecord is one decision of a broker: ids and hashes only.
type AuditRecord struct {
	Time time.Time `json:"time"`
	// Broker is the key id of the broker that decided.
	Broker schemas.KeyID `json:"broker"`
	// Verb is what was asked: session, grant, release or attest.
	Verb string `json:"verb"`
	// Kind is KindUnknown for yes, else the reason of the refusal.
	Kind schemas.Kind `json:"kind"`
	// What it was about; empty where it does not apply.
	Worker   schemas.WorkerID `json:"worker,omitempty"`
	Owner    schemas.Owner    `json:"owner,omitempty"`
	Tenant   schemas.TenantID `json:"tenant,omitempty"`
	Job      schemas.JobID    `json:"job,omitempty"`
	Envelope schemas.Hash     `json:"envelope,omitzero"`
	Evidence schemas.Hash     `json:"evidence,omitzero"`
	Attempt  int              `json:"attempt,omitempty"`
	Policy   uint64           `json:"policy,omitempty"`
}

// PublishAudit stores decisions, all or at least those before the first error.
func (b *Bus) PublishAudit(ctx context.Context, records ...AuditRecord) error { panic("unfinished") }
