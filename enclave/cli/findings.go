package cli

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Limits of what is shown about refusals, beside the audit stream: anyone can be refused.
const (
	refusalEvery = time.Second
	refusalBurst = 60
	// maxReason bounds the text of a refusal in bytes.
	maxReason = 512
)

// note shows what a decision found, and makes the record of it.
func (s *brokerService) note(ctx context.Context, d broker.Decision) streams.AuditRecord {
	if d.Finding != nil {
		s.show(ctx, d.Finding)
	}
	return s.record(d)
}

// show publishes what was found in a worker's evidence, for operators. It may be lost: the decision itself stands in the
// audit stream.
func (s *brokerService) show(ctx context.Context, f *schemas.Finding) {
	if f.Worker == "" || f.Kind != schemas.KindUnknown && !s.refusals.Allow() {
		return
	}
	f.Broker, f.Message = schemas.KeyIDOf(s.broker.Public()), clipReason(f.Message)
	value, err := json.Marshal(f)
	if err == nil {
		_, err = s.o.Bus.Bucket(streams.BucketEvidence).Put(ctx, streams.KeyFinding(f), value)
	}
	if err != nil && ctx.Err() == nil {
		s.o.Log.Warn("what was found in evidence is not shown", "worker", f.Worker, "error", err)
	}
}

// clipReason bounds a reason in a record: parts of it may come from the evidence of a stranger.
func clipReason(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason]
	}
	return strings.ToValidUTF8(s, "?")
}
