package streams

import (
	"context"

	"github.com/cocoon-network/cocoon/schemas"
)

// CancelState says what a cancellation came to.
type CancelState string

// The answers to a cancellation.
const (
	// CancelDone: the job was waiting; it is out of the queue and its outcome says cancelled.
	CancelDone CancelState = "cancelled"
	// CancelStopping: a worker runs it and stops at its next step; the outcome follows.
	CancelStopping CancelState = "stopping"
	// CancelTooLate: the job has an outcome already.
	CancelTooLate CancelState = "finished"
)

// Cancel asks control to end a job of a tenant. at is where the job was stored, as PublishJob said; with the zero Ack
// control looks for it. KindNotFound: there is no such job.
func (b *Bus) Cancel(ctx context.Context, tenant schemas.TenantID, job schemas.JobID, at Ack) (CancelState, error) {
	panic("unfinished")
}

// ServeStops hears the cancellations of a model's running jobs until ctx ends. stop ends the job if this worker runs it
// and reports whether it does; the worker then publishes the cancelled outcome.
func (b *Bus) ServeStops(ctx context.Context, slug string, stop func(schemas.TenantID, schemas.JobID) bool) error {
	panic("unfinished")
}
