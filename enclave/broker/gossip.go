package broker

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

const (
	labelGossip = "cocoon/gossip/v1"
	// maxGossip bounds the leases in one message.
	maxGossip = 256
	// maxGossipSize bounds a message in bytes.
	maxGossipSize = 32 << 10
)

// gossip is one lease, as brokers tell each other. Old news does no harm: more attempts win over fewer, a later end over
// an earlier one.
type gossip struct {
	_       struct{} `cbor:",toarray"`
	Key     jobKey
	Attempt uint8
	Worker  schemas.WorkerID
	Until   int64
	Expiry  int64
}

// tell sends leases to the other brokers, sealed so that nobody else can read or make them.
func (b *Broker) tell(ctx context.Context, news []gossip) {
	if len(news) == 0 {
		return
	}
	epoch := b.group.epochNow(time.Now())
	key, ok := b.group.sharedSecret(epoch, labelGossip)
	if !ok {
		return
	}
	head := binary.BigEndian.AppendUint64(nil, epoch)
	b.cfg.Gossip(ctx, randomGCM(key).Seal(head, nil, schemas.EncodeCBOR(news), head))
}

// Hear takes another broker's gossip. Messages of others are KindSealed.
func (b *Broker) Hear(message []byte) error {
	if len(message) < 8 || len(message) > maxGossipSize {
		return &schemas.Error{Kind: schemas.KindSealed, Message: "is no message of this broker group"}
	}
	key, ok := b.group.sharedSecret(binary.BigEndian.Uint64(message), labelGossip)
	plain, err := randomGCM(key).Open(nil, nil, message[8:], message[:8])
	if !ok || err != nil {
		return &schemas.Error{Kind: schemas.KindSealed, Message: "is no message of this broker group"}
	}
	var news []gossip
	if err := schemas.DecodeCBOR(plain, &news, maxGossipSize); err != nil {
		return err
	}
	if len(news) > maxGossip {
		return &schemas.Error{Kind: schemas.KindTooLarge, Message: "has more than 256 leases"}
	}
	now := time.Now()
	for _, g := range news {
		b.leases.merge(g.Key, lease{
			attempt: int(g.Attempt), worker: g.Worker, until: time.Unix(g.Until, 0).UTC(), expiry: time.Unix(g.Expiry, 0).UTC(),
		}, now)
	}
	return nil
}
