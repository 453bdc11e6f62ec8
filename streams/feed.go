package streams

import (
	"context"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/cocoon-network/cocoon/schemas"
)

// feedMessages bounds what waits in a [Feed] to be read. It is also what each feed costs: 8 bytes a message.
const feedMessages = 4096

// Feed is a bounded live subscription. One goroutine calls Next.
type Feed[T any] struct {
	sub      *nats.Subscription
	messages chan *nats.Msg
	parse    func(context.Context, *nats.Msg) (T, error)
	// back hears of reconnects, denied of the server's refusal, closed of the end; end brings that about, once.
	back   <-chan struct{}
	denied <-chan error
	closed <-chan nats.SubStatus
	end    func()
	// dropped is the number of lost messages that the reader knows of.
	dropped int
}

// newFeed subscribes, with room for size messages, and returns when the server knows of it.
func newFeed[T any](ctx context.Context, b *Bus, subject string, size int, parse func(context.Context, *nats.Msg) (T, error)) (*Feed[T], error) {
	f := &Feed[T]{messages: make(chan *nats.Msg, size), parse: parse}
	var err error
	if f.sub, err = b.nc.ChanSubscribe(subject, f.messages); err != nil {
		return nil, classify(err)
	}
	f.closed = f.sub.StatusChanged(nats.SubscriptionClosed)
	back, done := b.reconnects.listen()
	denied, stop := b.denials.denied(subject)
	f.back, f.denied = back, denied
	f.end = sync.OnceFunc(func() {
		stop()
		done()
		_ = f.sub.Unsubscribe()
	})
	if err := b.Flush(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Next waits for the next message. It returns [ErrMissed] once whenever messages may have been lost since the last call
// (the reader was too slow, or the connection was away), and ctx's error when ctx ends. Messages that do not parse are
// skipped.
func (f *Feed[T]) Next(ctx context.Context) (v T, err error) {
	for {
		if f.missed() {
			return v, ErrMissed
		}
		select {
		case m := <-f.messages:
			if v, err := f.parse(ctx, m); err == nil {
				return v, nil
			}
		case err := <-f.denied:
			return v, err
		case <-f.closed:
			return v, schemas.Errorf(schemas.KindUnavailable, "the feed or its connection is closed")
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}

// missed tells whether messages may have been lost since it was asked last.
func (f *Feed[T]) missed() bool {
	lost := false
	if n, err := f.sub.Dropped(); err == nil && n != f.dropped {
		f.dropped, lost = n, true
	}
	select {
	case <-f.back:
		lost = true
	default:
	}
	return lost
}

// Close ends the subscription; a waiting Next returns KindUnavailable. A second Close does nothing.
func (f *Feed[T]) Close() { f.end() }

// Outcomes hears the outcomes of a tenant as they are stored, from now on. After [ErrMissed] look with [Bus.Outcome] for
// the jobs that are still open.
func (b *Bus) Outcomes(ctx context.Context, tenant schemas.TenantID) (*Feed[schemas.Outcome], error) {
	if _, err := schemas.ParseTenantID(string(tenant)); err != nil {
		return nil, err
	}
	return newFeed(ctx, b, subjectResult(tenant, "*"), feedMessages, func(ctx context.Context, m *nats.Msg) (schemas.Outcome, error) {
		return b.readOutcome(ctx, m.Header, m.Data, "out."+strings.TrimPrefix(m.Subject, "res."))
	})
}

// PublishChunk sends a sealed chunk of a running job to whoever listens. It is not stored and not confirmed; while the
// connection is away it is dropped.
func (b *Bus) PublishChunk(tenant schemas.TenantID, job schemas.JobID, frame []byte) error {
	return classify(b.nc.Publish(subjectChunk(tenant, job), frame))
}

// Chunks hears the live chunks of a job from now on; subscribe before the job is published. After [ErrMissed] the stream
// has a hole and only the outcome tells the whole answer.
func (b *Bus) Chunks(ctx context.Context, tenant schemas.TenantID, job schemas.JobID) (*Feed[[]byte], error) {
	if _, err := schemas.ParseTenantID(string(tenant)); err != nil {
		return nil, err
	}
	if _, err := schemas.ParseJobID(string(job)); err != nil {
		return nil, err
	}
	return newFeed(ctx, b, subjectChunk(tenant, job), feedMessages, func(_ context.Context, m *nats.Msg) ([]byte, error) {
		return m.Data, nil
	})
}
