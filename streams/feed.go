package streams

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/cocoon-network/cocoon/schemas"
)

// feedMessages and feedBytes bound what waits in a [Feed] to be read.
const (
	feedMessages = 16384
	feedBytes    = 64 << 20
)

// Feed is a bounded live subscription. One goroutine calls Next.
type Feed[T any] struct {
	sub   *nats.Subscription
	parse func(context.Context, *nats.Msg) (T, error)
	// back hears of reconnects; end stops that and the subscription, once.
	back <-chan struct{}
	end  func()
	// denied holds the server's refusal of the subscription.
	denied atomic.Pointer[error]
	// dropped is the number of lost messages that the reader knows of.
	dropped int
}

// newFeed subscribes and returns when the server knows of it.
func newFeed[T any](ctx context.Context, b *Bus, subject string, parse func(context.Context, *nats.Msg) (T, error)) (*Feed[T], error) {
	sub, err := b.nc.SubscribeSync(subject)
	if err != nil {
		return nil, classify(err)
	}
	if err := sub.SetPendingLimits(feedMessages, feedBytes); err != nil {
		return nil, classify(err)
	}
	f := &Feed[T]{sub: sub, parse: parse}
	back, done := b.reconnects.listen()
	stop := b.denials.watch(subject, func(err error) {
		f.denied.Store(&err)
		_ = sub.Unsubscribe() // wakes Next
	})
	f.back = back
	f.end = sync.OnceFunc(func() {
		stop()
		done()
		_ = sub.Unsubscribe()
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
		m, err := f.sub.NextMsgWithContext(ctx)
		switch {
		case errors.Is(err, nats.ErrSlowConsumer):
			continue // counted in Dropped
		case err != nil && f.denied.Load() != nil:
			return v, *f.denied.Load()
		case err != nil && ctx.Err() != nil:
			return v, ctx.Err()
		case err != nil:
			return v, classify(err)
		}
		if v, err := f.parse(ctx, m); err == nil {
			return v, nil
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
	return newFeed(ctx, b, subjectResult(tenant, "*"), func(ctx context.Context, m *nats.Msg) (schemas.Outcome, error) {
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
	return newFeed(ctx, b, subjectChunk(tenant, job), func(_ context.Context, m *nats.Msg) ([]byte, error) {
		return m.Data, nil
	})
}
