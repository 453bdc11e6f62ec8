package reference

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// What a run of Models looks like.
const (
	// modelBody is the size of its messages in bytes.
	modelBody = 1 << 10
	// modelWindow is the number of publishes that are not acknowledged.
	modelWindow = 4000
	// modelPull is how many messages each consumer asks for.
	modelPull = 32
)

// Models moves small messages through the queues of many models at once, published, pulled and acknowledged: what the number
// of consumers costs the server. Its runs follow one another.
type Models struct {
	js        jetstream.JetStream
	subjects  []string
	consumers []jetstream.Consumer
}

// NewModels prepares the queues of models in job streams of the topology, from shard first on.
func NewModels(ctx context.Context, bus *streams.Bus, first, shards, models int) (*Models, error) {
	m, err := newModels(bus)
	if err != nil {
		return nil, err
	}
	tenant := schemas.NewTenantID()
	for i := range models {
		route := streams.Route{Shard: first + i%shards, Slug: fmt.Sprintf("%s-%d", slug, i)}
		if err := bus.CreateConsumer(ctx, route, schemas.Standard); err != nil {
			return nil, err
		}
		err := m.add(ctx, streams.StreamJobs(route.Shard), streams.QueueName(route.Slug, schemas.Standard, 0),
			streams.SubjectJob(route, schemas.Standard, tenant))
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

// NewPlainModels prepares as many work queues in streams of its own that have no settings but those of a work queue: what the
// server can do at best.
func NewPlainModels(ctx context.Context, bus *streams.Bus, shards, models int) (*Models, error) {
	m, err := newModels(bus)
	if err != nil {
		return nil, err
	}
	for i := range shards {
		_, err := m.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: fmt.Sprintf("PLAIN_%d", i), Subjects: []string{fmt.Sprintf("plain.%d.*", i)}, Retention: jetstream.WorkQueuePolicy,
			MaxConsumers: models,
		})
		if err != nil {
			return nil, err
		}
	}
	for i := range models {
		stream, name, subject := fmt.Sprintf("PLAIN_%d", i%shards), fmt.Sprintf("m%d", i), fmt.Sprintf("plain.%d.m%d", i%shards, i)
		_, err := m.js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{
			Durable: name, FilterSubject: subject, AckPolicy: jetstream.AckExplicitPolicy, MemoryStorage: true,
		})
		if err != nil {
			return nil, err
		}
		if err := m.add(ctx, stream, name, subject); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// newModels opens the connection's JetStream.
func newModels(bus *streams.Bus) (*Models, error) {
	js, err := jetstream.New(bus.Conn(), jetstream.WithPublishAsyncMaxPending(modelWindow))
	return &Models{js: js}, err
}

// add adds one model.
func (m *Models) add(ctx context.Context, stream, name, subject string) error {
	c, err := m.js.Consumer(ctx, stream, name)
	m.consumers, m.subjects = append(m.consumers, c), append(m.subjects, subject)
	return err
}

// Run publishes n messages, to each model in turn, while all consumers pull, and returns how long it took until all were
// acknowledged.
func (m *Models) Run(ctx context.Context, n int) (time.Duration, error) {
	var got atomic.Int64
	done, failed := make(chan struct{}), make(chan error, 1)
	for _, c := range m.consumers {
		pulling, err := c.Consume(func(msg jetstream.Msg) {
			if err := msg.Ack(); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
			if got.Add(1) == int64(n) {
				close(done)
			}
		}, jetstream.PullMaxMessages(modelPull))
		if err != nil {
			return 0, err
		}
		defer pulling.Stop()
	}
	start, body := time.Now(), make([]byte, modelBody)
	for i := range n {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		msg := &nats.Msg{Subject: m.subjects[i%len(m.subjects)], Data: body}
		if _, err := m.js.PublishMsgAsync(msg, jetstream.WithStallWait(stallWait)); err != nil {
			return 0, err
		}
	}
	select {
	case <-done:
		return time.Since(start), nil
	case err := <-failed:
		return 0, err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
