package streams

import (
	"context"

	"github.com/cocoon-network/cocoon/schemas"
)

// PublishOutcome stores the outcome of a job unless the job has one. first tells whether o is the outcome that stands:
// true also when an earlier try of the same bytes was stored, false when another one was. A body above
// schemas.MaxInlineBody goes to the object store before. An error (KindUnavailable after Config.RetryFor, KindDenied,
// KindInvalid, KindTooLarge) means that nothing is known; call again with the same outcome.
func (b *Bus) PublishOutcome(ctx context.Context, o schemas.Outcome) (first bool, err error) {
	panic("unfinished")
}

// Outcome returns the stored outcome of a job with its body, or KindNotFound.
func (b *Bus) Outcome(ctx context.Context, tenant schemas.TenantID, job schemas.JobID) (schemas.Outcome, error) {
	panic("unfinished")
}

// AwaitOutcome waits for the outcome of a job, whether it comes live or is there already. It survives reconnects.
func (b *Bus) AwaitOutcome(ctx context.Context, tenant schemas.TenantID, job schemas.JobID) (schemas.Outcome, error) {
	panic("unfinished")
}

// Outcomes hears the outcomes of a tenant as they are stored, from now on. After [ErrMissed] look with [Bus.Outcome] for
// the jobs that are still open.
func (b *Bus) Outcomes(ctx context.Context, tenant schemas.TenantID) (*Feed[schemas.Outcome], error) {
	panic("unfinished")
}

// PublishChunk sends a sealed chunk of a running job to whoever listens. It is not stored and not confirmed.
func (b *Bus) PublishChunk(tenant schemas.TenantID, job schemas.JobID, frame []byte) error {
	panic("unfinished")
}

// Chunks hears the live chunks of a job from now on; subscribe before the job is published. After [ErrMissed] the stream
// has a hole and only the outcome tells the whole answer.
func (b *Bus) Chunks(ctx context.Context, tenant schemas.TenantID, job schemas.JobID) (*Feed[[]byte], error) {
	panic("unfinished")
}

// Feed is a bounded live subscription. One goroutine calls Next.
type Feed[T any] struct{}

// Next waits for the next message. It returns [ErrMissed] once whenever messages may have been lost since the last call
// (the reader was too slow, or the connection was away), and ctx's error when ctx ends. Messages that do not parse are
// skipped.
func (f *Feed[T]) Next(ctx context.Context) (T, error) { panic("unfinished") }

// Close ends the subscription; a waiting Next returns KindUnavailable. A second Close does nothing.
func (f *Feed[T]) Close() { panic("unfinished") }
