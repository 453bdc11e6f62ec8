package streams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// The lease of a job.
const (
	// AckWait is how long a delivered job belongs to its worker without a heartbeat, unless the topology says otherwise.
	AckWait = 30 * time.Second
	// Heartbeat is how often a worker extends the lease of each job: three times in one lease.
	Heartbeat = AckWait / 3
	// MaxDeliver is how often a job is delivered before it is a dead letter, unless the topology says otherwise. Attempts
	// (at most schemas.MaxAttempts) are counted by the brokers; most deliveries beyond them were given back before any
	// work, by workers that were too dear or while the tenant's other jobs used up its credit, and harm nobody: this bound is
	// for what nobody counts, a job that kills its worker while all brokers restart. The server tells of it only when
	// somebody pulls from the queue after the last lease: without any worker the job waits for its deadline.
	MaxDeliver = 10_000
)

// Limits of the consumer of a queue.
const (
	// maxInFlight bounds the jobs of one queue that are at workers.
	maxInFlight = 16384
	// maxWaiting bounds the pull requests that wait at one queue.
	maxWaiting = 4096
	// queueIdle is how long a queue's consumer lives without a pull. Jobs stay without it; it is made again on demand.
	queueIdle = 24 * time.Hour
)

// QueueName is the name of a queue's consumer: the first one, and with lane > 0 that of another lane of a hot queue.
func QueueName(slug string, class schemas.Class, lane int) string {
	if lane == 0 {
		return slug + "_" + string(class)
	}
	return slug + "_" + string(class) + "_" + strconv.Itoa(lane)
}

// queueConsumer is the consumer of one lane of a queue that is split into lanes parts. A cold queue has one part, which takes
// all lanes. There is no BackOff, because it would replace AckWait and so shorten leases; and the state is kept in
// memory, because a file per consumer is rewritten with every job: after a restart of a single server the consumer is
// made anew and delivers again what was not acknowledged.
func queueConsumer(r Route, class schemas.Class, lane, lanes int, shape shardShape) jetstream.ConsumerConfig {
	filter := "*"
	if lanes > 1 {
		filter = strconv.Itoa(lane)
	}
	return jetstream.ConsumerConfig{
		Name:              QueueName(r.Slug, class, lane),
		Durable:           QueueName(r.Slug, class, lane),
		FilterSubject:     subjectQueue(r, string(class), filter),
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		AckPolicy:         jetstream.AckExplicitPolicy,
		AckWait:           shape.lease,
		MaxDeliver:        shape.deliveries,
		MaxAckPending:     maxInFlight,
		MaxWaiting:        maxWaiting,
		InactiveThreshold: queueIdle,
		MemoryStorage:     true,
		Metadata:          map[string]string{metaLanes: strconv.Itoa(lanes)},
	}
}

// lanesOf reads the number of lanes from the metadata of a queue's first consumer.
func lanesOf(c jetstream.ConsumerConfig) int {
	n, err := strconv.Atoi(c.Metadata[metaLanes])
	if err != nil || n < 1 || n > maxLanes {
		return 1
	}
	return n
}

// Lane is the lane of a tenant in a stream with the given number of lanes: the server's own partition function (FNV-1a).
func Lane(tenant schemas.TenantID, lanes int) int {
	const offset, prime = 2166136261, 16777619
	h := uint32(offset)
	for i := range len(tenant) {
		h = (h ^ uint32(tenant[i])) * prime
	}
	return int(h % uint32(lanes))
}

// EnsureConsumer creates the consumers of a queue where they are missing. It asks control, and does it itself when there
// is no control service.
func (b *Bus) EnsureConsumer(ctx context.Context, r Route, class schemas.Class) error {
	if err := r.Check(); err != nil {
		return err
	}
	_, err := b.Call(ctx, subjectEnsure(r, class), nil)
	if !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, schemas.KindDenied) {
		return err
	}
	err = b.CreateConsumer(ctx, r, class)
	if errors.Is(err, schemas.KindDenied) {
		return schemas.Errorf(schemas.KindUnavailable, "no control service answers, and this user may not make consumers: %w", err)
	}
	return err
}

// CreateConsumer creates the consumers of a queue where they are missing, with the lanes that the queue has now. Only
// users with the right to create consumers can do it. It is idempotent.
func (b *Bus) CreateConsumer(ctx context.Context, r Route, class schemas.Class) error {
	if err := r.Check(); err != nil {
		return err
	}
	first, err := b.consumerInfo(ctx, StreamJobs(r.Shard), QueueName(r.Slug, class, 0))
	lanes := 1
	switch {
	case errors.Is(err, schemas.KindNotFound):
		if err := b.createConsumer(ctx, r, class, 0, 1); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		lanes = lanesOf(first.Config)
	}
	for lane := 1; lane < lanes; lane++ {
		if err := b.createConsumer(ctx, r, class, lane, lanes); err != nil {
			return err
		}
	}
	return nil
}

// shardShape is what the consumers of a job stream are made with.
type shardShape struct {
	lanes, deliveries int
	lease             time.Duration
}

// shardShape reads it from the stream's metadata.
func (b *Bus) shardShape(ctx context.Context, shard int) (shardShape, error) {
	info, err := b.streamInfo(ctx, StreamJobs(shard))
	if err != nil {
		return shardShape{}, err
	}
	shape := shardShape{lanes: 1, lease: AckWait, deliveries: MaxDeliver}
	if n, err := strconv.Atoi(info.Config.Metadata[metaLanes]); err == nil && n >= 1 && n <= maxLanes {
		shape.lanes = n
	}
	if d, err := time.ParseDuration(info.Config.Metadata[metaLease]); err == nil && d >= minLease && d <= maxLease {
		shape.lease = d
	}
	if n, err := strconv.Atoi(info.Config.Metadata[metaDeliveries]); err == nil && n >= minDeliveries {
		shape.deliveries = n
	}
	return shape, nil
}

// createConsumer creates one consumer; one that exists already, even with another configuration, is left alone.
//
// Commit point: the server's answer. Repeating it is harmless.
func (b *Bus) createConsumer(ctx context.Context, r Route, class schemas.Class, lane, lanes int) error {
	shape, err := b.shardShape(ctx, r.Shard)
	if err != nil {
		return err
	}
	err = b.putConsumer(ctx, StreamJobs(r.Shard), queueConsumer(r, class, lane, lanes, shape), "create")
	if errors.Is(err, schemas.KindConflict) {
		return nil
	}
	return err
}

// putConsumer creates or updates a consumer; action is "create", "update" or "" for either.
func (b *Bus) putConsumer(ctx context.Context, stream string, config jetstream.ConsumerConfig, action string) error {
	body, err := json.Marshal(struct {
		Stream string                   `json:"stream_name"`
		Config jetstream.ConsumerConfig `json:"config"`
		Action string                   `json:"action"`
	}{stream, config, action})
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "consumer: %w", err)
	}
	// The server holds the filter in the subject against the one in the body, so that permissions can name it.
	subject := b.api(fmt.Sprintf("CONSUMER.CREATE.%s.%s.%s", stream, config.Name, config.FilterSubject))
	return b.retry(ctx, func(ctx context.Context) error {
		return b.write(ctx, OpConsumer, subject, func() error { return b.apiRequest(ctx, subject, body, nil) })
	})
}

// consumerInfo reads a consumer's state from its leader.
func (b *Bus) consumerInfo(ctx context.Context, stream, name string) (*jetstream.ConsumerInfo, error) {
	var info jetstream.ConsumerInfo
	err := b.retry(ctx, func(ctx context.Context) error {
		return b.apiRequest(ctx, b.api("CONSUMER.INFO."+stream+"."+name), nil, &info)
	})
	return &info, err
}

// apiRequest calls the JetStream API and decodes the answer into v unless v is nil.
func (b *Bus) apiRequest(ctx context.Context, subject string, body []byte, v any) error {
	answer, err := b.request(ctx, &nats.Msg{Subject: subject, Data: body})
	if err != nil {
		return err
	}
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &failed); err != nil {
		return schemas.Errorf(schemas.KindInternal, "answer of %s: %w", subject, err)
	}
	if failed.Error != nil {
		return failed.Error
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(answer.Data, v); err != nil {
		return schemas.Errorf(schemas.KindInternal, "answer of %s: %w", subject, err)
	}
	return nil
}

// laneToken spells a lane as a subject token.
func laneToken(lane int) string { return strconv.Itoa(lane) }
