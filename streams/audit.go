package streams

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"

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
	// Reason is the refusal for people.
	Reason string `json:"reason,omitempty"`
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

// PublishAudit stores decisions in order, as few messages as possible; after an error those before it are stored.
// Repeating it may store records twice: they say what was decided, twice.
func (b *Bus) PublishAudit(ctx context.Context, records ...AuditRecord) error {
	for len(records) > 0 {
		broker := string(records[0].Broker)
		if !schemas.ValidToken(broker) {
			return schemas.FieldError("broker", "must be a key id")
		}
		body, n, err := auditBody(records)
		if err != nil {
			return err
		}
		if _, err := b.publish(ctx, OpAudit, &nats.Msg{Subject: subjectAudit(broker), Data: body}); err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

// auditBody spells as many of the records as one message may hold, but at least one, and returns how many.
func auditBody(records []AuditRecord) (body []byte, n int, err error) {
	body = []byte{'['}
	for ; n < len(records); n++ {
		one, err := json.Marshal(records[n])
		if err != nil {
			return nil, 0, schemas.Errorf(schemas.KindInternal, "audit: %w", err)
		}
		if n > 0 {
			if len(body)+len(one)+len(",]") > maxAdvisory-auditHeadroom {
				break
			}
			body = append(body, ',')
		}
		body = append(body, one...)
	}
	return append(body, ']'), n, nil
}

// auditHeadroom is left for the subject, which counts in the limit of the stream.
const auditHeadroom = 1 << 10

// parseAudit reads one message of the audit stream.
func parseAudit(body []byte) ([]AuditRecord, error) {
	var records []AuditRecord
	err := schemas.DecodeJSON(body, &records, maxAdvisory)
	return records, err
}
