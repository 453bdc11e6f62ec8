package streams

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// PublishOutcome stores the outcome of a job unless the job has one. first tells whether o is the outcome that stands:
// true also when an earlier try of the same bytes was stored, false when another one was. A body above
// schemas.MaxInlineBody goes to the object store before. An error (KindUnavailable after Config.RetryFor, KindDenied,
// KindInvalid, KindTooLarge) means that nothing is known; call again with the same outcome.
//
// Commit point: the acknowledgement of a message that expects its subject to be empty. There is no message id on
// purpose: ids are known per stream, so another worker could spend the id of this job on a message of its own, and the
// "duplicate" that this worker would then be told would stand for nothing.
func (b *Bus) PublishOutcome(ctx context.Context, o schemas.Outcome) (first bool, err error) {
	m, err := b.outcomeMessage(ctx, o)
	if err != nil {
		return false, err
	}
	err = b.retry(ctx, func(ctx context.Context) error {
		return b.write(ctx, OpOutcome, m.Subject, func() error {
			first, err = b.settleOutcome(ctx, m)
			return err
		})
	})
	return first && err == nil, err
}

// outcomeMessage checks an outcome and spells it as a message.
func (b *Bus) outcomeMessage(ctx context.Context, o schemas.Outcome) (*nats.Msg, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if _, err := schemas.ParseTenantID(string(o.Tenant)); err != nil {
		return nil, err
	}
	if _, err := schemas.ParseJobID(string(o.Job)); err != nil {
		return nil, err
	}
	if len(o.Body) > MaxEnvelope {
		return nil, &schemas.Error{Kind: schemas.KindTooLarge, Field: "body", Message: "is larger than 64 MiB"}
	}
	m := nats.NewMsg(SubjectOutcome(o.Tenant, o.Job))
	m.Header = nats.Header(o.Header())
	var err error
	if m.Data, err = b.checkIn(ctx, m.Header, o.Tenant, o.Body); err != nil {
		return nil, err
	}
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	return m, nil
}

// settleOutcome is one try of PublishOutcome. The answers of JetStream and what they prove:
//
//   - an acknowledgement: stored, unless it says Duplicate, which proves nothing here;
//   - 10071 (wrong last sequence) and 10077 (the subject is full): the subject holds an outcome, maybe our own;
//   - 10164 and 10158 (a rival is in flight on a replicated stream): nothing yet, the rival may still fail: try again;
//   - anything else: nothing.
func (b *Bus) settleOutcome(ctx context.Context, m *nats.Msg) (first bool, err error) {
	ack, err := b.publishOnce(ctx, m)
	if err == nil && !ack.Duplicate {
		return true, nil
	}
	code := apiCode(err)
	if err != nil && code != codeWrongLastSequence && code != codeStoreFailed {
		return false, err
	}
	standing, errGet := b.directGetOnce(ctx, StreamOutcomes, m.Subject)
	switch {
	case errGet == nil:
		return sameOutcome(m, standing), nil
	case !errors.Is(errGet, schemas.KindNotFound):
		return false, errGet
	case code == codeStoreFailed:
		return false, err // the stream itself is full
	}
	// The replica that answered has not seen the outcome yet.
	return false, schemas.Errorf(schemas.KindUnavailable, "the outcome that stands cannot be read yet")
}

// directGetOnce is one try of directGet.
func (b *Bus) directGetOnce(ctx context.Context, stream, subject string) (stored, error) {
	m, err := b.request(ctx, &nats.Msg{Subject: b.api("DIRECT.GET." + stream + "." + subject)})
	if err != nil {
		return stored{}, err
	}
	return directMessage(m)
}

// sameOutcome compares what was to be stored with what is: body and every header but those of the server and of
// compare-and-set.
func sameOutcome(m *nats.Msg, s stored) bool {
	plain := func(h nats.Header) nats.Header {
		out := nats.Header{}
		for name, values := range h {
			if len(name) < 5 || name[:5] != "Nats-" {
				out[name] = values
			}
		}
		return out
	}
	return bytes.Equal(m.Data, s.data) && maps.EqualFunc(plain(m.Header), plain(s.header), slices.Equal)
}

// Outcome returns the stored outcome of a job with its body, or KindNotFound. On a replicated stream any replica may answer, so
// an outcome stored a moment ago through another connection may not be found yet; AwaitOutcome waits for it.
func (b *Bus) Outcome(ctx context.Context, tenant schemas.TenantID, job schemas.JobID) (schemas.Outcome, error) {
	s, err := b.directGet(ctx, StreamOutcomes, SubjectOutcome(tenant, job))
	if err != nil {
		return schemas.Outcome{}, err
	}
	return b.readOutcome(ctx, s.header, s.data, SubjectOutcome(tenant, job))
}

// readOutcome parses an outcome, fetches a large body and holds it against the subject that proves whose it is.
func (b *Bus) readOutcome(ctx context.Context, h nats.Header, data []byte, subject string) (schemas.Outcome, error) {
	o, err := schemas.ParseOutcome(h, nil)
	if err != nil {
		return schemas.Outcome{}, err
	}
	if SubjectOutcome(o.Tenant, o.Job) != subject {
		return schemas.Outcome{}, schemas.FieldError("ce-id", "is another job than the subject's")
	}
	o.Body, err = b.checkOut(ctx, o.Tenant, h, data)
	return o, err
}

// lookAgain is how often AwaitOutcome looks for an outcome that was not announced.
const lookAgain = 5 * time.Second

// AwaitOutcome waits for the outcome of a job, whether it comes live or is there already. It survives reconnects; the
// error is ctx's when it ends first.
func (b *Bus) AwaitOutcome(ctx context.Context, tenant schemas.TenantID, job schemas.JobID) (schemas.Outcome, error) {
	live := make(chan *nats.Msg, 1)
	sub, err := b.nc.ChanSubscribe(subjectResult(tenant, string(job)), live)
	if err != nil {
		return schemas.Outcome{}, classify(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	back, done := b.reconnects.listen()
	defer done()
	for {
		o, err := b.Outcome(ctx, tenant, job)
		if err == nil || !schemas.Retriable(err) && !errors.Is(err, schemas.KindNotFound) {
			return o, err
		}
		look := time.NewTimer(lookAgain)
		select {
		case m := <-live:
			if o, err := b.readOutcome(ctx, m.Header, m.Data, SubjectOutcome(tenant, job)); err == nil {
				look.Stop()
				return o, nil
			}
		case <-back:
		case <-look.C:
		case <-ctx.Done():
		}
		look.Stop()
		if err := ctx.Err(); err != nil {
			return schemas.Outcome{}, err
		}
	}
}
