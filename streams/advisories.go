package streams

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// advisoryConsumer is the durable that all control services share.
const advisoryConsumer = "control"

// Limits of the reading of advisories.
const (
	advisoryBatch = 100
	advisoryWait  = 5 * time.Second
	// advisoryLease is how long one control service may take for one advisory before another gets it.
	advisoryLease = time.Minute
)

// Exhausted tells that a job was delivered as often as may be.
type Exhausted struct {
	// Place is where the job lies, Deliveries how often it was delivered.
	Place      Ack
	Deliveries int
}

// Exhaustions calls f, in the caller's goroutine, for every job that was delivered too often, until ctx ends. An advisory
// for which f fails comes again. Several control services share them.
func (b *Bus) Exhaustions(ctx context.Context, f func(context.Context, Exhausted) error) error {
	for {
		c, err := b.advisoryConsumer(ctx)
		if err != nil {
			return err
		}
		for {
			if err := b.advisories(ctx, c, f); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				b.log.Warn("advisories", "error", err)
				if !sleep(ctx, maxPause) {
					return ctx.Err()
				}
				break // the consumer may be gone
			}
		}
	}
}

// advisoryConsumer makes or finds the shared consumer.
func (b *Bus) advisoryConsumer(ctx context.Context) (c jetstream.Consumer, err error) {
	err = b.retry(ctx, func(ctx context.Context) error {
		return b.write(ctx, OpConsumer, StreamAdvisories, func() (err error) {
			c, err = b.js.CreateOrUpdateConsumer(ctx, StreamAdvisories, jetstream.ConsumerConfig{
				Durable: advisoryConsumer, AckPolicy: jetstream.AckExplicitPolicy, AckWait: advisoryLease, MaxAckPending: advisoryBatch * 10,
			})
			return err
		})
	})
	return c, err
}

// advisories handles one batch.
func (b *Bus) advisories(ctx context.Context, c jetstream.Consumer, f func(context.Context, Exhausted) error) error {
	wait, cancel := context.WithTimeout(ctx, advisoryWait)
	defer cancel()
	batch, err := c.Fetch(advisoryBatch, jetstream.FetchContext(wait))
	if err != nil {
		return err
	}
	for m := range batch.Messages() {
		if err := b.advisory(ctx, m, f); err != nil {
			b.log.Warn("a job that was delivered too often could not be ended", "error", err)
			_ = m.NakWithDelay(advisoryWait) // else its lease lapses
		}
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return ctx.Err()
}

// advisory handles one advisory. Commit point: its acknowledgement, after f has ended the job.
func (b *Bus) advisory(ctx context.Context, m jetstream.Msg, f func(context.Context, Exhausted) error) error {
	var note struct {
		Stream     string `json:"stream"`
		Seq        uint64 `json:"stream_seq"`
		Deliveries int    `json:"deliveries"`
	}
	if err := json.Unmarshal(m.Data(), &note); err != nil {
		b.log.Error("an advisory cannot be read", "error", err)
		return m.Ack()
	}
	err := f(ctx, Exhausted{Ack{Stream: note.Stream, Seq: note.Seq}, note.Deliveries})
	if err != nil && !errors.Is(err, schemas.KindInvalid) {
		return err
	}
	return m.Ack()
}
