package streams

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// Queued is a job that lies in its queue, waiting or at a worker. Control looks at it without taking it.
type Queued struct {
	// Queue and Tenant come from the subject.
	Queue  Queue
	Tenant schemas.TenantID
	// Ack is its place, Stored when it came.
	Ack    Ack
	Stored time.Time
	// Attributes are parsed; when they cannot be, ID is empty.
	Attributes schemas.Attributes

	header nats.Header
	data   []byte
}

// newQueued reads a stored message of a job stream.
func newQueued(stream string, s stored) (Queued, error) {
	q, err := parseQueueSubject(s.subject)
	if err != nil {
		return Queued{}, err
	}
	j := Queued{
		Queue: Queue{q.route, q.class}, Tenant: q.tenant, Ack: Ack{Stream: stream, Seq: s.seq}, Stored: s.time,
		header: s.header, data: s.data,
	}
	if a, err := attributesOf(q, s.header); err == nil {
		j.Attributes = a
	}
	return j, nil
}

// QueuedAt returns the job at a place, or KindNotFound when it is done.
func (b *Bus) QueuedAt(ctx context.Context, stream string, seq uint64) (Queued, error) {
	if !strings.HasPrefix(stream, "JOBS_") || stream == StreamAdvisories {
		return Queued{}, schemas.FieldError("stream", "is not a job stream")
	}
	s, err := b.leaderGet(ctx, stream, leaderQuery{Seq: seq})
	if err != nil {
		return Queued{}, err
	}
	return newQueued(stream, s)
}

// ScanQueued calls f for the jobs of a shard from position from on, in order, until f returns false or an error. With a
// tenant only that tenant's are told.
func (b *Bus) ScanQueued(ctx context.Context, shard int, tenant schemas.TenantID, from uint64, f func(Queued) (bool, error)) error {
	filter := fmt.Sprintf("q.%d.>", shard)
	if tenant != "" {
		filter = fmt.Sprintf("q.%d.*.*.*.%s", shard, tenant)
	}
	return b.scanAll(ctx, StreamJobs(shard), filter, from, func(s stored) (bool, error) {
		j, err := newQueued(StreamJobs(shard), s)
		if err != nil {
			b.log.Error("a queued message has a foreign subject", "subject", s.subject, "seq", s.seq)
			return true, nil
		}
		return f(j)
	})
}

// Positions says which positions a job stream holds.
func (b *Bus) Positions(ctx context.Context, shard int) (first, last uint64, err error) {
	info, err := b.streamInfo(ctx, StreamJobs(shard))
	if err != nil {
		return 0, 0, err
	}
	return info.State.FirstSeq, info.State.LastSeq, nil
}

// End gives a queued job an outcome that no worker made (expired, cancelled) and removes it from its queue. first tells
// whether that outcome stands.
//
// Commit points: the outcome, then the removal. A crash in between leaves a job with an outcome in its queue: a worker that
// takes it will find the outcome, and whoever ends it again removes it.
func (b *Bus) End(ctx context.Context, j Queued, status schemas.Status, kind schemas.Kind) (first bool, err error) {
	if j.Attributes.ID != "" {
		o := schemas.Outcome{Job: j.Attributes.ID, Tenant: j.Tenant, Model: j.Attributes.Model, Status: status, Kind: kind}
		if first, err = b.PublishOutcome(ctx, o); err != nil {
			return false, err
		}
	}
	return first, b.deleteMessage(ctx, j.Ack.Stream, j.Ack.Seq)
}

// Bury turns a queued job into a dead letter with a failed outcome and removes it from its queue. A job that has an outcome
// is only removed.
//
// Commit points: the dead letter, the outcome, the removal; each may be repeated.
func (b *Bus) Bury(ctx context.Context, j Queued, cause error, deliveries int) error {
	if j.Attributes.ID != "" {
		_, err := b.leaderGet(ctx, StreamOutcomes, leaderQuery{Last: SubjectOutcome(j.Tenant, j.Attributes.ID)})
		if err == nil {
			return b.deleteMessage(ctx, j.Ack.Stream, j.Ack.Seq)
		}
		if !errors.Is(err, schemas.KindNotFound) {
			return err
		}
	}
	err := b.bury(ctx, deadMessage{
		route: j.Queue.Route, class: j.Queue.Class, tenant: j.Tenant, job: j.Attributes.ID,
		origin: j.Ack, kind: schemas.KindOf(cause), reason: cause.Error(), deliveries: deliveries, header: j.header, data: j.data,
	})
	if err != nil {
		return err
	}
	_, err = b.End(ctx, j, schemas.Failed, schemas.KindOf(cause))
	return err
}

// Arrival announces a job that was stored.
type Arrival struct {
	Queue Queue
	// Seq is its position in the stream of its shard.
	Seq uint64
	// Job, Tenant and Expiry are what its attributes say; zero when they cannot be read.
	Job    schemas.JobID
	Tenant schemas.TenantID
	Expiry time.Time
	// Stored is when it was stored, by the server's clock; zero when that cannot be read.
	Stored time.Time
}

// arrivalMessages bounds the arrivals that wait to be read.
const arrivalMessages = 1 << 17

// Arrivals hears every job as it is stored, from now on. After [ErrMissed] positions are missing: look with ScanQueued.
func (b *Bus) Arrivals(ctx context.Context) (*Feed[Arrival], error) {
	return newFeed(ctx, b, "wake.>", arrivalMessages, parseArrival)
}

// parseArrival reads wake.<shard>.<model>.<class>.<lane> and the headers that matter.
func parseArrival(_ context.Context, m *nats.Msg) (a Arrival, err error) {
	tokens := strings.Split(m.Subject, ".")
	if len(tokens) != 5 {
		return a, schemas.FieldError("subject", "is not that of an arrival")
	}
	if a.Queue.Route.Shard, err = strconv.Atoi(tokens[1]); err != nil {
		return a, err
	}
	a.Queue.Route.Slug = tokens[2]
	if err = a.Queue.Route.Check(); err != nil {
		return a, err
	}
	if a.Queue.Class, err = schemas.ParseClass(tokens[3]); err != nil {
		return a, err
	}
	if a.Seq, err = strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64); err != nil {
		return a, err // a wake-up that one puller passed on to another
	}
	if v := m.Header["ce-cocoonexpiry"]; len(v) == 1 {
		if t, err := time.Parse(time.RFC3339, v[0]); err == nil {
			a.Expiry = t
		}
	}
	if v := m.Header["ce-id"]; len(v) == 1 {
		if id, err := schemas.ParseJobID(v[0]); err == nil {
			a.Job = id
		}
	}
	if v := m.Header["ce-source"]; len(v) == 1 {
		if id, err := schemas.ParseTenantID(strings.TrimPrefix(v[0], "/tenants/")); err == nil {
			a.Tenant = id
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer)); err == nil {
		a.Stored = t
	}
	return a, nil
}
