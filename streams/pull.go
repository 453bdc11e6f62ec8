package streams

import (
	"context"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// PullerOptions say what a [Puller] takes.
type PullerOptions struct {
	// Route is the model.
	Route Route
	// Classes are taken in this order, each only when those before it are empty. Default: all, most urgent first.
	Classes []schemas.Class
	// Poll is how often an idle puller looks for jobs that came back to the queue without a wake-up. Default 1 s.
	Poll time.Duration
}

// Puller takes jobs of one model from its queues. One goroutine uses it.
type Puller struct{}

// NewPuller prepares to take jobs of one model. It creates the queue's consumers where they are missing.
func (b *Bus) NewPuller(ctx context.Context, o PullerOptions) (*Puller, error) { panic("unfinished") }

// Next waits until there is at least one job and returns between 1 and limit of them: pass the number of free slots. Nothing
// is fetched ahead. Lanes of a model are visited in turn, so that one tenant's flood does not delay the others.
// Messages that are no jobs (malformed, forged) are turned into dead letters and never returned.
// The error is ctx's when it ended (nothing is lost then), KindDenied, or KindUnavailable when the cluster was away;
// call again in all cases but the first two.
func (p *Puller) Next(ctx context.Context, limit int) ([]*Delivery, error) { panic("unfinished") }

// Close gives back what belongs to the puller. Deliveries stay valid.
func (p *Puller) Close() { panic("unfinished") }

// Delivery is one job taken from a queue, under a lease that lapses after [AckWait] unless it is extended.
type Delivery struct {
	// Attributes were parsed and agree with the subject, which the sender's permissions cover.
	Attributes schemas.Attributes
	// Envelope is the sealed job and Hash its SHA-256.
	Envelope []byte
	Hash     schemas.Hash
	// Route and Ack say where it came from.
	Route Route
	Ack   Ack
	// Delivered is 1 for the first delivery of the job; above 1, look for an outcome before running it.
	Delivered int
	// Queued is when the stream stored it, by the server's clock.
	Queued time.Time
	// TraceParent is the producer's trace context, if it sent one.
	TraceParent string
}

// Lease is how long the job is still ours, by this machine's monotonic clock and counted from before the fetch or the last
// successful Extend was sent. At 0 another worker may have it: drop it without another word.
func (d *Delivery) Lease() time.Duration { panic("unfinished") }

// Extend renews the lease to a full [AckWait] and returns when the server has confirmed it. Call it every [Heartbeat].
func (d *Delivery) Extend(ctx context.Context) error { panic("unfinished") }

// Done removes the job from its queue and returns when the server has confirmed it. Call it as the last act, after the
// outcome is stored; repeating it is harmless, and so is a crash before it.
func (d *Delivery) Done(ctx context.Context) error { panic("unfinished") }

// Retry gives the job back to its queue, to be delivered again after delay. A job whose lease has lapsed is not given
// back, because that would take it from its new holder: the error is [ErrLeaseLost].
func (d *Delivery) Retry(ctx context.Context, delay time.Duration) error { panic("unfinished") }

// Terminate removes the job from its queue without success; the outcome must be stored before. Like Retry it refuses
// with [ErrLeaseLost] after the lease.
func (d *Delivery) Terminate(ctx context.Context, reason string) error { panic("unfinished") }

// DeadLetter keeps a copy of the job (sealed bytes and public attributes) in the dead-letter stream, publishes a failed
// outcome with the cause's kind and removes the job from its queue. Each step may be repeated.
func (d *Delivery) DeadLetter(ctx context.Context, cause error) error { panic("unfinished") }
