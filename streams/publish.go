package streams

import (
	"bytes"
	"context"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// Headers of job and outcome messages beside those in schemas.
const (
	// headerBody and headerSize stand in for a body that lies in the object store: its hash, which is also its name, and its
	// size in bytes.
	headerBody = "cocoon-body"
	headerSize = "cocoon-body-size"
	// headerTrace is the W3C trace context, lower case as everywhere.
	headerTrace = "traceparent"
)

// MaxEnvelope bounds a sealed job or result in bytes, wherever it travels.
const MaxEnvelope = 64 << 20

// maxTrace bounds a trace context.
const maxTrace = 128

// Job is a sealed job on its way to the queue.
type Job struct {
	// Shard is the model's shard in the catalogue.
	Shard int
	// Attributes are the public face; they name model, class and tenant and thereby the subject.
	Attributes schemas.Attributes
	// Envelope is the sealed job, at most MaxEnvelope. Above schemas.MaxInlineBody it travels through the object store.
	Envelope []byte
	// TraceParent is an optional W3C trace context.
	TraceParent string
}

// Ack says where a job is stored.
type Ack struct {
	// Stream and Seq are its place.
	Stream string `json:"stream"`
	Seq    uint64 `json:"seq"`
	// Duplicate tells that the same envelope was stored before; Seq is the place of that one.
	Duplicate bool `json:"duplicate,omitempty"`
}

// PublishJob stores a job in its queue. The hash of the envelope is the message id: while the cluster cannot be reached the
// same bytes are sent again, for Config.RetryFor or until ctx ends, and a call repeated after an error is harmless.
// A stored job leaves the stream by itself ExpiryGrace after its expiry; control ends it long before.
//
// Errors: KindInvalid or KindTooLarge for what can never be published, KindExpired, KindBusy when the tenant's queue or
// the stream is full (not repeated here; Error.RetryAfter says when), KindDenied, KindUnavailable.
func (b *Bus) PublishJob(ctx context.Context, j Job) (Ack, error) {
	m, err := b.jobMessage(ctx, j)
	if err != nil {
		return Ack{}, err
	}
	// Commit point: the acknowledgement. Before it the submitter must keep its own record of the job.
	ack, err := b.publish(ctx, OpJob, m)
	if err != nil {
		return Ack{}, err
	}
	return ackOf(ack), nil
}

// ackOf copies the part of a PubAck that callers see.
func ackOf(a *jetstream.PubAck) Ack {
	return Ack{Stream: a.Stream, Seq: a.Sequence, Duplicate: a.Duplicate}
}

// jobMessage checks a job and spells it as a message. A large envelope is stored before the message that refers to it.
func (b *Bus) jobMessage(ctx context.Context, j Job) (*nats.Msg, error) {
	if err := j.Attributes.Check(); err != nil {
		return nil, err
	}
	ref, err := schemas.ParseModelID(string(j.Attributes.Model))
	if err != nil {
		return nil, err
	}
	route := Route{Shard: j.Shard, Slug: ref.Slug()}
	if err := route.Check(); err != nil {
		return nil, err
	}
	now := time.Now()
	switch {
	case len(j.Envelope) == 0:
		return nil, schemas.FieldError("envelope", "is empty")
	case len(j.Envelope) > MaxEnvelope:
		return nil, &schemas.Error{Kind: schemas.KindTooLarge, Field: "envelope", Message: "is larger than 64 MiB"}
	case len(j.TraceParent) > maxTrace:
		return nil, schemas.FieldError("traceparent", "is longer than 128 bytes")
	case j.Attributes.Expired(now):
		return nil, &schemas.Error{Kind: schemas.KindExpired, Field: "ce-cocoonexpiry", Message: "has passed"}
	}
	m := nats.NewMsg(SubjectJob(route, j.Attributes.Class, j.Attributes.Tenant))
	m.Header = nats.Header(j.Attributes.Header())
	m.Header.Set(jetstream.MsgIDHeader, schemas.HashOf(j.Envelope).String())
	m.Header.Set(jetstream.MsgTTLHeader, ttlOf(j.Attributes.Expiry.Sub(now)+ExpiryGrace))
	if j.TraceParent != "" {
		m.Header[headerTrace] = []string{j.TraceParent}
	}
	if m.Data, err = b.checkIn(ctx, m.Header, j.Attributes.Tenant, j.Envelope); err != nil {
		return nil, err
	}
	return m, nil
}

// ttlOf spells a time to live in whole seconds, rounded up.
func ttlOf(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10) + "s"
}

// checkIn returns the body to send inline, or stores it in the object store and says so in the header.
//
// Commit point: the object is there before the message that names it; a crash in between leaves an object that nobody
// refers to and that goes by age.
func (b *Bus) checkIn(ctx context.Context, h nats.Header, tenant schemas.TenantID, body []byte) ([]byte, error) {
	if len(body) <= schemas.MaxInlineBody {
		return body, nil
	}
	hash := schemas.HashOf(body)
	if _, err := b.bodies(tenant).Put(ctx, hash.String(), bytes.NewReader(body)); err != nil {
		return nil, err
	}
	h[headerBody] = []string{hash.String()}
	h[headerSize] = []string{strconv.Itoa(len(body))}
	return nil, nil
}
