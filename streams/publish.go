package streams

import (
	"context"
	"iter"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Job is a sealed job on its way to the queue.
type Job struct {
	// Shard is the model's shard in the catalogue.
	Shard int
	// Attributes are the public face; they name model, class and tenant and thereby the subject.
	Attributes schemas.Attributes
	// Envelope is the sealed job. Above schemas.MaxInlineBody it travels through the object store.
	Envelope []byte
	// TraceParent is an optional W3C trace context.
	TraceParent string
}

// Ack says where a job is stored.
type Ack struct {
	// Stream and Seq are its place.
	Stream string `json:"stream"`
	Seq    uint64 `json:"seq"`
	// Duplicate tells that the same envelope was stored before; Seq is the place of that one.
	Duplicate bool `json:"duplicate,omitempty"`
}

// PublishJob stores a job in its queue. The hash of the envelope is the message id: while the cluster cannot be reached the
// same bytes are sent again, for Config.RetryFor or until ctx ends, and a call repeated after an error is harmless.
// A stored job leaves the stream by itself 24 h after its expiry; control ends it long before.
//
// Errors: KindInvalid or KindTooLarge for what can never be published, KindExpired, KindBusy when the tenant's queue or
// the stream is full (not repeated here; Error.RetryAfter says when), KindDenied, KindUnavailable.
func (b *Bus) PublishJob(ctx context.Context, j Job) (Ack, error) { panic("unfinished") }

// BulkOptions steer [Bus.PublishJobs].
type BulkOptions struct {
	// Window is the number of jobs sent and not yet acknowledged. Default 256, at most 4,096.
	Window int
	// WaitBusy is how long one job waits for room in a full queue before it fails with KindBusy. Default 0: not at all.
	WaitBusy time.Duration
}

// Published is the result of one job of a bulk submission.
type Published struct {
	// Index counts the jobs of the sequence from 0.
	Index int
	// Job is its id.
	Job schemas.JobID
	// Ack is valid when Err is nil; Err is as in [Bus.PublishJob].
	Ack Ack
	Err error
}

// PublishJobs stores many jobs, a window of them at a time. It yields exactly one result per job, in the order of the
// jobs; one job's failure does not stop the others. Ending the loop early leaves at most Window jobs published
// without a result; publishing them again is harmless. It runs in the caller's goroutine and reads jobs only as
// fast as the window moves.
func (b *Bus) PublishJobs(ctx context.Context, jobs iter.Seq[Job], o BulkOptions) iter.Seq[Published] {
	panic("unfinished")
}
