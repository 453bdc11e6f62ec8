package reference

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// PublishWindow is the number of publishes of a Publisher that are not acknowledged.
const PublishWindow = 512

// publishStall is how long a Publisher waits for room in its window.
const publishStall = time.Minute

// Message is one message of a Publisher.
type Message struct {
	// Header and Body are sent as they are; ID becomes the message id that the stream tells repetitions by.
	Header map[string][]string
	Body   []byte
	ID     schemas.Hash
}

// Publisher publishes to a stream of its own on the same server and does nothing else: what a bulk submission is held
// against.
type Publisher struct{ js jetstream.JetStream }

// NewPublisher makes the stream: file storage, one replica, message ids, a work queue, as the job streams are.
func NewPublisher(ctx context.Context, bus *streams.Bus) (*Publisher, error) {
	js, err := jetstream.New(bus.Conn(), jetstream.WithPublishAsyncMaxPending(PublishWindow))
	if err != nil {
		return nil, err
	}
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "RAW", Subjects: []string{"raw.>"}, Storage: jetstream.FileStorage, Retention: jetstream.WorkQueuePolicy,
	})
	return &Publisher{js}, err
}

// Publish publishes messages asynchronously and waits for every acknowledgement.
func (p *Publisher) Publish(ctx context.Context, messages []Message) error {
	futures := make([]jetstream.PubAckFuture, 0, len(messages))
	for _, message := range messages {
		m := &nats.Msg{Subject: "raw.jobs", Data: message.Body, Header: message.Header}
		m.Header.Set(nats.MsgIdHdr, message.ID.String())
		f, err := p.js.PublishMsgAsync(m, jetstream.WithStallWait(publishStall))
		if err != nil {
			return err
		}
		futures = append(futures, f)
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
