package streams

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of a receipt feed.
const (
	maxReceipts = 5000
	// receiptWait bounds one pull; a longer wait is several of them.
	receiptWait = 5 * time.Second
	// receiptIdle is how long the server keeps the consumer of a reader that does not come back.
	receiptIdle = 5 * time.Minute
)

// Receipt is the header of one stored outcome, without its body.
type Receipt struct {
	// Seq is its position in the outcome stream.
	Seq uint64
	// Stored is when the stream stored it, by the server's clock.
	Stored time.Time
	// Subject is out.<tenant>.<job>: the tenant and job that the sender was allowed to write for.
	Subject string
	// Header is parsed with schemas.ParseOutcome(header, nil).
	Header map[string][]string
}

// ReceiptFeed reads outcomes in the order in which they were stored. One goroutine uses it.
type ReceiptFeed struct {
	bus *Bus
	// consumer delivers what follows at; nil before the first Read and after an error.
	consumer jetstream.Consumer
	at       uint64
	// delivered counts the deliveries of the consumer; a number left out is a message lost on the way.
	delivered uint64
}

// Receipts opens a feed of all outcomes. It keeps no position: the reader says with every call how far it has come, and
// stores that together with what it made of it.
func (b *Bus) Receipts() *ReceiptFeed { return &ReceiptFeed{bus: b} }

// Read returns up to limit (at most 5,000) outcomes with positions above after, in order and without a hole. It waits
// for the first one until ctx ends, not for a full batch; the error is then ctx's. When outcomes above after have left
// the stream by age, so that a hole cannot be avoided, the error is KindCorrupt.
func (f *ReceiptFeed) Read(ctx context.Context, after uint64, limit int) ([]Receipt, error) {
	limit = min(max(limit, 1), maxReceipts)
	for {
		if f.consumer == nil || f.at != after {
			if err := f.seek(ctx, after); err != nil {
				return nil, err
			}
		}
		list, err := f.pull(ctx, limit)
		if len(list) > 0 {
			f.at = list[len(list)-1].Seq
			return list, nil
		}
		if err != nil {
			f.consumer = nil
			if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
				<-ctx.Done() // the client library sees the deadline a moment before the context ends
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, classify(err)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// seek prepares to deliver what follows after.
func (f *ReceiptFeed) seek(ctx context.Context, after uint64) error {
	state, err := f.State(ctx)
	if err != nil {
		return err
	}
	if after > 0 && state.First > after+1 {
		return schemas.Errorf(schemas.KindCorrupt, "outcomes %d to %d have left the stream before they were read", after+1, state.First-1)
	}
	if after > state.Last {
		return schemas.Errorf(schemas.KindCorrupt, "position %d is beyond the stream's end %d: it was made anew", after, state.Last)
	}
	f.consumer = nil
	c, err := f.bus.js.CreateConsumer(ctx, StreamOutcomes, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1, HeadersOnly: true,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: receiptIdle,
	})
	if err != nil {
		return classify(err)
	}
	f.consumer, f.at, f.delivered = c, after, 0
	return nil
}

// pull takes what is there, or waits a while for the first outcome.
func (f *ReceiptFeed) pull(ctx context.Context, limit int) ([]Receipt, error) {
	list, err := f.collect(f.consumer.FetchNoWait(limit))
	if err != nil || len(list) > 0 {
		return list, err
	}
	ctx, cancel := context.WithTimeout(ctx, receiptWait)
	defer cancel()
	return f.collect(f.consumer.Fetch(1, jetstream.FetchContext(ctx)))
}

// errGap tells that a delivery was lost on the way; the feed then starts again at its position.
var errGap = schemas.Errorf(schemas.KindUnavailable, "a delivery was lost on the way")

// collect reads a batch of messages and sees to it that none was left out.
func (f *ReceiptFeed) collect(batch jetstream.MessageBatch, err error) ([]Receipt, error) {
	if err != nil {
		return nil, err
	}
	var list []Receipt
	var failed error
	for m := range batch.Messages() { // to its end in any case: the batch must be drained
		meta, err := m.Metadata()
		if err == nil && meta.Sequence.Consumer != f.delivered+1 {
			err = errGap
		}
		if failed = errors.Join(failed, err); failed != nil {
			continue
		}
		f.delivered++
		list = append(list, Receipt{
			Seq: meta.Sequence.Stream, Stored: meta.Timestamp, Subject: m.Subject(), Header: withoutServer(m.Headers()),
		})
	}
	if failed != nil {
		f.consumer = nil
		return list, failed
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) &&
		!errors.Is(err, nats.ErrTimeout) {
		return list, err
	}
	return list, nil
}

// withoutServer leaves out the headers that belong to the transport.
func withoutServer(h map[string][]string) map[string][]string {
	out := make(map[string][]string, len(h))
	for name, values := range h {
		if !strings.HasPrefix(name, "Nats-") {
			out[name] = values
		}
	}
	return out
}

// ReceiptState is the state of the outcome stream.
type ReceiptState struct {
	// First and Last are the lowest and highest position; First > Last when it is empty.
	First, Last uint64
	// Created identifies the stream: a stream that was made anew counts from 1 again.
	Created time.Time
}

// State says what the stream holds now.
func (f *ReceiptFeed) State(ctx context.Context) (ReceiptState, error) {
	info, err := f.bus.streamInfo(ctx, StreamOutcomes)
	if err != nil {
		return ReceiptState{}, err
	}
	return ReceiptState{First: info.State.FirstSeq, Last: info.State.LastSeq, Created: info.Created}, nil
}

// Close ends the feed. The server forgets its consumer by itself.
func (f *ReceiptFeed) Close() { f.consumer = nil }

// streamInfo reads a stream's configuration and state from its leader.
func (b *Bus) streamInfo(ctx context.Context, stream string) (*jetstream.StreamInfo, error) {
	var info jetstream.StreamInfo
	err := b.retry(ctx, func(ctx context.Context) error {
		return b.apiRequest(ctx, b.api("STREAM.INFO."+stream), nil, &info)
	})
	return &info, err
}
