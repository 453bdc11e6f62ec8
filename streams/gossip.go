package streams

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/cocoon-network/cocoon/schemas"
)

// Gossip tells the other brokers something that is worth knowing but may be lost.
func (b *Bus) Gossip(message []byte) error {
	if len(message) > maxGossip {
		return schemas.Errorf(schemas.KindTooLarge, "gossip is larger than 64 KiB")
	}
	return classify(b.nc.Publish(subjectGossip, message))
}

// HearGossip calls f, in the caller's goroutine, for each piece of gossip, this broker's own included, until ctx ends.
func (b *Bus) HearGossip(ctx context.Context, f func([]byte)) error {
	heard := make(chan *nats.Msg, gossipBuffer)
	sub, err := b.nc.ChanSubscribe(subjectGossip, heard)
	if err != nil {
		return classify(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	denied, stop := b.denials.denied(subjectGossip)
	defer stop()
	if err := b.Flush(ctx); err != nil {
		return err
	}
	for {
		select {
		case err := <-denied:
			return err
		case m := <-heard:
			if len(m.Data) <= maxGossip {
				f(m.Data)
			}
		case <-ctx.Done():
			return nil
		}
	}
}
