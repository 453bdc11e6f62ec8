package streams

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// Headers of a dead letter beside those of the job.
const (
	headerDeadKind   = "cocoon-dead-kind"
	headerDeadReason = "cocoon-dead-reason"
	headerDeadTries  = "cocoon-dead-deliveries"
	headerDeadShard  = "cocoon-dead-shard"
	headerDeadID     = "cocoon-dead-msg-id"
)

// DeadLetter is a job that could not be finished: its sealed bytes and public attributes, and why.
type DeadLetter struct {
	// Seq is its position in the dead-letter stream.
	Seq uint64 `json:"seq"`
	// Died is when it was stored.
	Died time.Time `json:"died"`
	// Route and Class are the queue it came from, Tenant and Job whose it is. Job is empty when the message had none that
	// could be read.
	Route  Route            `json:"route"`
	Class  schemas.Class    `json:"class"`
	Tenant schemas.TenantID `json:"tenant"`
	Job    schemas.JobID    `json:"job,omitempty"`
	// Expiry is the job's deadline; zero when it could not be read.
	Expiry time.Time `json:"expiry,omitzero"`
	// Kind and Reason say why; Deliveries how often it had been tried.
	Kind       schemas.Kind `json:"kind"`
	Reason     string       `json:"reason"`
	Deliveries int          `json:"deliveries"`
	// Size is the size of the message's body in bytes.
	Size int `json:"size"`
	// Header and Body are the message as it was queued; nil in listings.
	Header map[string][]string `json:"header,omitempty"`
	Body   []byte              `json:"-"`
}

// DeadSelector picks dead letters; the zero value picks all.
type DeadSelector struct {
	Slug   string
	Class  schemas.Class
	Tenant schemas.TenantID
	Job    schemas.JobID
	Kind   schemas.Kind
	// Before and After bound the time of death; zero means no bound.
	Before, After time.Time
	// Limit bounds the number picked, oldest first; 0 means no limit.
	Limit int
}

// filter is the subject part of a selector.
func (s DeadSelector) filter() string {
	token := func(v string) string {
		if v == "" {
			return "*"
		}
		return v
	}
	return fmt.Sprintf("dlq.%s.%s.%s.%s", token(s.Slug), token(string(s.Class)), token(string(s.Tenant)), token(string(s.Job)))
}

// check refuses selectors that could not be part of a subject.
func (s DeadSelector) check() error {
	for field, v := range map[string]string{"model": s.Slug, "class": string(s.Class), "tenant": string(s.Tenant), "job": string(s.Job)} {
		if v != "" && !schemas.ValidToken(v) {
			return schemas.FieldError(field, "must be one subject token of a-z, 0-9, _ and -")
		}
	}
	return nil
}

// picks is the rest of a selector.
func (s DeadSelector) picks(d DeadLetter) bool {
	return (s.Kind == schemas.KindUnknown || d.Kind == s.Kind) && (s.Before.IsZero() || d.Died.Before(s.Before)) &&
		(s.After.IsZero() || d.Died.After(s.After))
}

// deadMessage is a dead letter on its way into the stream.
type deadMessage struct {
	route      Route
	class      schemas.Class
	tenant     schemas.TenantID
	job        schemas.JobID
	origin     Ack
	kind       schemas.Kind
	reason     string
	deliveries int
	header     nats.Header
	data       []byte
}

// bury stores a dead letter. Its message id is the job's place in its queue: stored twice, it is kept once.
//
// Commit point: the acknowledgement. The job must leave its queue only after it.
func (b *Bus) bury(ctx context.Context, d deadMessage) error {
	job := string(d.job)
	if job == "" {
		job = fmt.Sprintf("unreadable-%d", d.origin.Seq)
	}
	// A message whose subject cannot be read has no class or tenant.
	class, tenant := d.class, d.tenant
	if class == "" || tenant == "" {
		class, tenant = "none", "none"
	}
	m := nats.NewMsg(subjectDead(d.route.Slug, class, tenant, job))
	m.Data = d.data
	size := 0
	for name, values := range d.header {
		for _, v := range values {
			size += len(name) + len(v)
		}
		// Headers of the transport would act again; a hostile number of others is not kept.
		if !strings.HasPrefix(strings.ToLower(name), "nats-") && size <= maxHeaders/2 {
			m.Header[name] = values
		}
	}
	m.Header[headerDeadKind] = []string{strconv.Itoa(int(d.kind))}
	m.Header[headerDeadReason] = []string{oneLine(strings.ToValidUTF8(d.reason, "?"))}
	m.Header[headerDeadTries] = []string{strconv.Itoa(d.deliveries)}
	m.Header[headerDeadShard] = []string{strconv.Itoa(d.route.Shard)}
	m.Header[headerDeadID] = []string{d.header.Get(jetstream.MsgIDHeader)}
	m.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("%s:%d", d.origin.Stream, d.origin.Seq))
	_, err := b.publish(ctx, OpDead, m)
	return err
}

// parseDead reads a stored dead letter.
func parseDead(s stored) (DeadLetter, error) {
	tokens := strings.Split(s.subject, ".")
	if len(tokens) != 5 {
		return DeadLetter{}, schemas.Errorf(schemas.KindCorrupt, "dead letter %d: subject %q", s.seq, s.subject)
	}
	number := func(name string, limit int) int {
		n, err := strconv.Atoi(s.header.Get(name))
		if err != nil || n < 0 || n > limit {
			return 0
		}
		return n
	}
	d := DeadLetter{
		Seq: s.seq, Died: s.time, Class: schemas.Class(tokens[2]), Tenant: schemas.TenantID(tokens[3]),
		Route: Route{Shard: number(headerDeadShard, schemas.MaxShards-1), Slug: tokens[1]},
		Kind:  schemas.Kind(number(headerDeadKind, 1<<16-1)), Reason: s.header.Get(headerDeadReason),
		Deliveries: number(headerDeadTries, 1<<30), Size: len(s.data),
		Header: withoutServer(s.header), Body: s.data,
	}
	if job, err := schemas.ParseJobID(tokens[4]); err == nil {
		d.Job = job
	}
	if a, err := schemas.ParseAttributes(s.header); err == nil {
		d.Expiry = a.Expiry
	}
	return d, nil
}

// DeadLetters lists dead letters, oldest first, without their bytes.
func (b *Bus) DeadLetters(ctx context.Context, s DeadSelector) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		if err := s.check(); err != nil {
			yield(DeadLetter{}, err)
			return
		}
		found := 0
		err := b.scan(ctx, StreamDead, s.filter(), 1, func(m stored) (bool, error) {
			d, err := parseDead(m)
			if err != nil {
				return yield(d, err), nil
			}
			if !s.picks(d) {
				return true, nil
			}
			d.Header, d.Body = nil, nil
			found++
			return yield(d, nil) && found != s.Limit, nil
		})
		if err != nil {
			yield(DeadLetter{}, err)
		}
	}
}

// DeadState is the state of the dead-letter stream.
type DeadState struct {
	// Count is the number of dead letters; First and Last are the lowest and highest position, First > Last when there are
	// none.
	Count       uint64
	First, Last uint64
}

// DeadLetterState says what the dead-letter stream holds, without reading it.
func (b *Bus) DeadLetterState(ctx context.Context) (DeadState, error) {
	info, err := b.streamInfo(ctx, StreamDead)
	if err != nil {
		return DeadState{}, err
	}
	return DeadState{info.State.Msgs, info.State.FirstSeq, info.State.LastSeq}, nil
}

// NewestDead lists up to limit dead letters with positions below before (0: from the end), newest first and without their
// bytes. It reads backwards in steps that grow over the positions that were replayed or removed.
func (b *Bus) NewestDead(ctx context.Context, before uint64, limit int) ([]DeadLetter, error) {
	state, err := b.DeadLetterState(ctx)
	if err != nil || state.First > state.Last || limit <= 0 {
		return nil, err
	}
	if before == 0 || before > state.Last {
		before = state.Last + 1
	}
	var list []DeadLetter // newest first
	for step := uint64(limit); len(list) < limit && before > state.First; step *= 4 {
		from := max(before-min(step, before), state.First)
		var page []DeadLetter
		err := b.scan(ctx, StreamDead, DeadSelector{}.filter(), from, func(m stored) (bool, error) {
			if m.seq >= before {
				return false, nil
			}
			if d, err := parseDead(m); err == nil {
				d.Header, d.Body = nil, nil
				page = append(page, d)
			}
			return true, nil
		})
		if err != nil {
			return nil, err
		}
		slices.Reverse(page)
		list = append(list, page...)
		before = from
	}
	return list[:min(len(list), limit)], nil
}

// DeadLetterAt returns one dead letter with its bytes, or KindNotFound.
func (b *Bus) DeadLetterAt(ctx context.Context, seq uint64) (DeadLetter, error) {
	s, err := b.directSeq(ctx, StreamDead, seq)
	if err != nil {
		return DeadLetter{}, err
	}
	return parseDead(s)
}

// Replay puts a dead letter back into its queue under its own job id and removes it from the dead letters. The failed
// outcome of the job is removed first, or the new run could not have one. A job that has ended otherwise meanwhile is
// refused with KindConflict, an expired one with KindExpired, one that never was a job with KindInvalid.
//
// Commit points, each harmless to repeat: the failed outcome is gone (a crash here leaves the dead letter; replay it again),
// the job is queued under an id of this dead letter, the dead letter is gone.
func (b *Bus) Replay(ctx context.Context, seq uint64) (Ack, error) {
	d, err := b.DeadLetterAt(ctx, seq)
	if err != nil {
		return Ack{}, err
	}
	// Held against the subject once more: a forged tenant must not get into that tenant's queue by way of an operator.
	a, err := attributesOf(queueSubject{d.Route, d.Class, d.Tenant}, d.Header)
	if err != nil {
		return Ack{}, schemas.Errorf(schemas.KindInvalid, "dead letter %d cannot be replayed: %w", seq, err)
	}
	if a.Expired(time.Now()) {
		return Ack{}, &schemas.Error{Kind: schemas.KindExpired, Message: "the job's deadline has passed"}
	}
	if err := b.clearFailed(ctx, a); err != nil {
		return Ack{}, err
	}
	m := nats.NewMsg(SubjectJob(d.Route, a.Class, a.Tenant))
	for name, values := range d.Header {
		if !strings.HasPrefix(name, "cocoon-dead-") {
			m.Header[name] = values
		}
	}
	// The id differs from the first one, which the stream may still remember; a second replay of this letter is a duplicate.
	m.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("dlq:%d:%s", seq, d.Header[headerDeadID]))
	m.Header.Set(jetstream.MsgTTLHeader, ttlOf(time.Until(a.Expiry)+ExpiryGrace))
	m.Data = d.Body
	ack, err := b.publish(ctx, OpJob, m)
	if err != nil {
		return Ack{}, err
	}
	return ackOf(ack), b.PurgeDead(ctx, seq)
}

// clearFailed removes the failed outcome of a job that is to run again.
func (b *Bus) clearFailed(ctx context.Context, a schemas.Attributes) error {
	s, err := b.leaderGet(ctx, StreamOutcomes, leaderQuery{Last: SubjectOutcome(a.Tenant, a.ID)})
	if errors.Is(err, schemas.KindNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	o, err := schemas.ParseOutcome(s.header, nil)
	if err != nil {
		return err
	}
	if o.Status != schemas.Failed {
		return schemas.Errorf(schemas.KindConflict, "the job has ended meanwhile: %s", o.Status)
	}
	return b.deleteMessage(ctx, StreamOutcomes, s.seq)
}

// PurgeDead removes one dead letter. Removing it again is no error.
func (b *Bus) PurgeDead(ctx context.Context, seq uint64) error {
	return b.deleteMessage(ctx, StreamDead, seq)
}
