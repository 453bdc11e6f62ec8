package producers

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Options say who asks and whom to trust. Tenant and Trust are required.
type Options struct {
	// Tenant is the identity that pays and reads.
	Tenant *enclave.Tenant
	// Trust says whose signatures count and whether the hardware must be real.
	Trust schemas.Trust
	// Verifier judges the broker's evidence; nil means the production verifier under the policy that Trust signs.
	Verifier enclave.Verifier
	// Record remembers what was submitted; nil means memory, which dies with the process.
	Record Record
	// Class is for jobs that ask for none; empty means standard.
	Class schemas.Class
	// PublishWait is how long a job is offered to a network that cannot be reached. Default 30 s; less than 10 s would
	// not survive the death of a broker's leader and is refused.
	PublishWait time.Duration
	// ResubmitAfter is how long a published job may stay without an outcome before the same bytes are sent again, in
	// case the network lost them. Default 10 min.
	ResubmitAfter time.Duration
	// MaxPending bounds the jobs that wait for an outcome; one more is KindBusy. Default 10,000.
	MaxPending int
	// Linkable lets jobs that are submitted one by one share an encapsulation, which saves most of the cost of sealing;
	// who sees the envelopes can then tell that they come from one process. Default false: one each.
	Linkable bool
	// Logger hears what the client does by itself. nil discards. It never sees a request or an answer.
	Logger *slog.Logger
}

// Client is one tenant's way into the network. It is safe for concurrent use.
type Client struct{}

// Dial connects to the network and returns a client that owns the connection.
func Dial(ctx context.Context, network streams.Config, o Options) (*Client, error) {
	panic("unfinished")
}

// New returns a client over a connection that stays the caller's.
func New(bus *streams.Bus, o Options) (*Client, error) { panic("unfinished") }

// Close ends all waits and every goroutine of the client. What was submitted stays submitted and recorded.
func (c *Client) Close(ctx context.Context) error { panic("unfinished") }

// Tenant is who submits.
func (c *Client) Tenant() schemas.TenantID { panic("unfinished") }

// JobID derives the job id of a key: see [enclave.Tenant.JobID].
func (c *Client) JobID(key string) schemas.JobID { panic("unfinished") }

// Environment says whether the hardware that the client trusts is real.
func (c *Client) Environment() schemas.Environment { panic("unfinished") }

// Catalogue returns the verified catalogue: models and prices.
func (c *Client) Catalogue(ctx context.Context) (*schemas.Catalogue, error) { panic("unfinished") }

// Trust verifies everything that sealing for a model rests on and says what was found.
func (c *Client) Trust(ctx context.Context, model string) (*enclave.TrustedKey, error) {
	panic("unfinished")
}

// Submit hands a job to the network and returns when it is stored there.
func (c *Client) Submit(ctx context.Context, j Job) (*Handle, error) { panic("unfinished") }

// Do submits a job and waits for its answer.
func (c *Client) Do(ctx context.Context, j Job) (*Answer, error) { panic("unfinished") }

// Stream submits a job whose body asks for a stream and yields its events; the last one has the Answer. An error ends
// it. Leaving the loop early leaves the job running: see [Client.Cancel].
func (c *Client) Stream(ctx context.Context, j Job) iter.Seq2[Event, error] { panic("unfinished") }

// Cancel asks the network to end a job. Its outcome follows as for every job.
func (c *Client) Cancel(ctx context.Context, id schemas.JobID) (streams.CancelState, error) {
	panic("unfinished")
}

// Get returns what is known of a job now.
func (c *Client) Get(ctx context.Context, id schemas.JobID) (*Status, error) { panic("unfinished") }

// Watch waits until a job has an outcome, in this process or another.
func (c *Client) Watch(ctx context.Context, id schemas.JobID) (*Answer, error) { panic("unfinished") }

// Resume takes up the recorded jobs that have no outcome yet, sends again what may have been lost, and yields their
// outcomes as they come.
func (c *Client) Resume(ctx context.Context) iter.Seq2[*Answer, error] { panic("unfinished") }

// Status is what is known of a job.
type Status struct {
	// Job is the id and State how far it has come.
	Job   schemas.JobID
	State State
	// Answer is set when State is done and the job has something to show; Err is why it does not have all of it.
	Answer *Answer
	Err    error
}

// Handle is a submitted job.
type Handle struct {
	// ID is the job.
	ID schemas.JobID
}

// Wait returns the answer. It may be called any number of times.
func (h *Handle) Wait(ctx context.Context) (*Answer, error) { panic("unfinished") }

// Sealed is a job that can be published: what a producer must remember of it until its outcome is verified. Everything in
// it may be stored in the open.
type Sealed struct {
	Attributes schemas.Attributes
	Hash       schemas.Hash
	// Envelope is the message body; it is not needed any more to verify an outcome.
	Envelope []byte
	// Shard is the model's job stream.
	Shard int
}

// Seal seals jobs without sending anything. Jobs for one model share encapsulations.
func (c *Client) Seal(ctx context.Context, jobs []Job) ([]Sealed, error) { panic("unfinished") }

// Publish sends sealed jobs and returns one result each, in order. Doing it again with the same bytes is harmless.
func (c *Client) Publish(ctx context.Context, jobs []Sealed) []streams.Published {
	panic("unfinished")
}

// Collect returns a collector of outcomes.
func (c *Client) Collect() *Collector { panic("unfinished") }

// Collector verifies the outcomes of many jobs as they come.
type Collector struct{}

// Add expects outcomes for jobs. asked also looks for outcomes that may be there already.
func (k *Collector) Add(jobs []Sealed, asked bool) { panic("unfinished") }

// Next waits for the next outcome.
func (k *Collector) Next(ctx context.Context) (Settled, error) { panic("unfinished") }

// Close forgets the jobs that have no outcome yet.
func (k *Collector) Close() { panic("unfinished") }

// Settled is one job's outcome: an answer, an error, or both for a job that was cancelled after it cost something.
type Settled struct {
	Job    schemas.JobID
	Answer *Answer
	Err    error
}
