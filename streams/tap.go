package streams

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/cocoon-network/cocoon/schemas"
)

// tapMessages bounds what waits for the function of [Bus.Tap].
const tapMessages = 1 << 18

// Tap calls f, in the caller's goroutine, for everything that crosses the message system of this account until ctx ends;
// ready is called when nothing more can be missed. It returns nil at the end of ctx, f's error, or [ErrMissed] when f was too
// slow or the connection was away: then not everything was seen. It is for audits, such as proving that nothing
// readable is on the wire.
func (b *Bus) Tap(ctx context.Context, ready func(), f func(subject string, header map[string][]string, body []byte) error) error {
	feed, err := newFeed(ctx, b, ">", tapMessages, func(_ context.Context, m *nats.Msg) (*nats.Msg, error) { return m, nil })
	if err != nil {
		return err
	}
	defer feed.Close()
	if ready != nil {
		ready()
	}
	for {
		m, err := feed.Next(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if err := f(m.Subject, m.Header, m.Data); err != nil {
			return err
		}
	}
}

// StreamNames lists the streams of this account, buckets and stores included, sorted.
func (b *Bus) StreamNames(ctx context.Context) ([]string, error) {
	all, err := b.streams(ctx)
	if err != nil {
		return nil, err
	}
	return sortedKeys(all), nil
}

// StoredMessage is a message that lies in a stream.
type StoredMessage struct {
	Stream  string
	Seq     uint64
	Subject string
	Header  map[string][]string
	Body    []byte
}

// Stored calls f for every message that lies in a stream, in order. An error of f ends it.
func (b *Bus) Stored(ctx context.Context, stream string, f func(StoredMessage) error) error {
	if stream == "" {
		return schemas.FieldError("stream", "must be named")
	}
	return b.scan(ctx, stream, ">", 1, func(s stored) (bool, error) {
		return true, f(StoredMessage{Stream: stream, Seq: s.seq, Subject: s.subject, Header: s.header, Body: s.data})
	})
}

// StreamHealth is the state of a stream's replicas.
type StreamHealth struct {
	// Leader is the name of the server that leads it, "" while none does; on a single server it is that server.
	Leader string
	// Replicas is the number of copies, Current how many of them, the leader included, are up to date.
	Replicas, Current int
}

// StreamHealth asks for the state of a stream's replicas.
func (b *Bus) StreamHealth(ctx context.Context, stream string) (StreamHealth, error) {
	info, err := b.streamInfo(ctx, stream)
	if err != nil {
		return StreamHealth{}, err
	}
	h := StreamHealth{Replicas: info.Config.Replicas}
	if info.Cluster == nil || info.Cluster.Leader == "" {
		return h, nil
	}
	h.Leader, h.Current = info.Cluster.Leader, 1
	for _, r := range info.Cluster.Replicas {
		if r.Current && !r.Offline {
			h.Current++
		}
	}
	return h, nil
}
