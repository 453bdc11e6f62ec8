package streams

import (
	"context"

	"github.com/cocoon-network/cocoon/schemas"
)

// DeleteConsumer deletes a queue's first consumer, as an operator by mistake would.
func DeleteConsumer(ctx context.Context, b *Bus, r Route, class schemas.Class) error {
	return b.deleteConsumer(ctx, StreamJobs(r.Shard), QueueName(r.Slug, class, 0))
}

// DeleteMessage removes a message, as age does.
func DeleteMessage(ctx context.Context, b *Bus, stream string, seq uint64) error {
	return b.deleteMessage(ctx, stream, seq)
}

// Classify is classify.
var Classify = classify
