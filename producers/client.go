package producers

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/tracing"
	"github.com/cocoon-network/cocoon/streams"
)

// Defaults and limits of Options.
const (
	DefaultPublishWait   = 30 * time.Second
	DefaultResubmitAfter = 10 * time.Minute
	DefaultMaxPending    = 10_000
	// minPublishWait survives the death of a cluster's leader, which takes up to 9 s.
	minPublishWait = 10 * time.Second
)

// Options say who asks and whom to trust. Tenant and Trust are required.
type Options struct {
	// Tenant is the identity that pays and reads.
	Tenant *enclave.Tenant
	// Trust says whose signatures count and whether the hardware must be real.
	Trust schemas.Trust
	// Verifier judges the broker's evidence; nil means the production verifier under the policy that Trust signs.
	Verifier enclave.Verifier
	// Collateral has Intel's documents for the production verifier; nil takes those that the network keeps in its
	// COLLATERAL bucket. They are signed, so it does not matter who keeps them.
	Collateral *tdx.Collateral
	// FloorFile keeps the highest policy version that was accepted, so that nobody can replay an older policy, with images
	// that have been found wanting, to a client that starts again. It belongs to one Trust. Empty: only in memory.
	FloorFile string
	// Record remembers what was submitted; nil means memory, which dies with the process. The caller closes it.
	Record Record
	// Class is for jobs that ask for none; empty means standard.
	Class schemas.Class
	// PublishWait is how long a job is offered to a network that cannot be reached. Default 30 s; less than 10 s would
	// not survive the death of a leader and is refused.
	PublishWait time.Duration
	// ResubmitAfter is how long a published job may stay without an outcome before the same bytes are sent again, in
	// case the network lost them. Default 10 min.
	ResubmitAfter time.Duration
	// MaxPending bounds the jobs of Submit, Do and Stream that wait for an outcome; one more is KindBusy. Default 10,000.
	MaxPending int
	// Linkable lets jobs that are submitted one by one share an encapsulation, which saves most of the cost of sealing;
	// who sees the envelopes can then tell that they come from one process. Default false: one each.
	Linkable bool
	// Tracer opens the tenant's own spans, below those in the contexts of calls; nil opens none. Nothing of them travels.
	Tracer *tracing.Tracer
	// Logger hears what the client does by itself. nil discards. It never sees a request or an answer.
	Logger *slog.Logger
}

// withDefaults fills zero values and refuses what cannot work.
func (o Options) withDefaults() (Options, error) {
	if o.Tenant == nil {
		return o, schemas.FieldError("Tenant", "is required")
	}
	if err := o.Trust.Check(); err != nil {
		return o, err
	}
	if o.PublishWait == 0 {
		o.PublishWait = DefaultPublishWait
	}
	if o.PublishWait < minPublishWait {
		return o, schemas.FieldError("PublishWait", "must be at least 10 s")
	}
	if o.ResubmitAfter <= 0 {
		o.ResubmitAfter = DefaultResubmitAfter
	}
	if o.MaxPending <= 0 {
		o.MaxPending = DefaultMaxPending
	}
	if o.Record == nil {
		o.Record = NewMemoryRecord()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// Client is one tenant's way into the network. It is safe for concurrent use.
type Client struct {
	o        Options
	bus      *streams.Bus
	owned    bool // Close closes the bus too
	believer *believer
	hub      *hub

	life context.Context
	stop context.CancelCauseFunc
	wg   sync.WaitGroup // every goroutine of the client
	// slots holds one value for each job that waits.
	slots chan struct{}

	mu     sync.Mutex // guards the fields below
	shared map[schemas.ModelID]*sharedSubmission
	live   map[schemas.JobID]*Handle // jobs that this process waits for, by Handle.ID
}

// errClosed is the cause of everything that ends because the client was closed.
var errClosed = &schemas.Error{Kind: schemas.KindUnavailable, Message: "the client is closed"}

// Dial connects to the network and returns a client that owns the connection.
func Dial(ctx context.Context, network streams.Config, o Options) (*Client, error) {
	bus, err := streams.Connect(ctx, network)
	if err != nil {
		return nil, err
	}
	c, err := New(bus, o)
	if err != nil {
		if cerr := bus.Close(ctx); cerr != nil {
			err = fmt.Errorf("%w (and closing the connection: %w)", err, cerr)
		}
		return nil, err
	}
	c.owned = true
	return c, nil
}

// New returns a client over a connection that stays the caller's.
func New(bus *streams.Bus, o Options) (*Client, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{
		o: o, bus: bus, slots: make(chan struct{}, o.MaxPending),
		shared: map[schemas.ModelID]*sharedSubmission{}, live: map[schemas.JobID]*Handle{},
	}
	c.life, c.stop = context.WithCancelCause(context.Background())
	if c.believer, err = newBeliever(bus, o, o.Logger); err != nil {
		return nil, err
	}
	c.hub = newHub(c.life, &c.wg, bus, o.Tenant.ID(), o.Logger)
	return c, nil
}

// Close ends all waits and every goroutine of the client. What was submitted stays submitted and recorded.
func (c *Client) Close(ctx context.Context) error {
	c.stop(errClosed)
	c.wg.Wait()
	if c.owned {
		return c.bus.Close(ctx)
	}
	return nil
}

// Tenant is who submits.
func (c *Client) Tenant() schemas.TenantID { return c.o.Tenant.ID() }

// Derive makes a key for the tenant's own use: see [enclave.Tenant.Derive].
func (c *Client) Derive(label string) [32]byte { return c.o.Tenant.Derive(label) }

// Environment says whether the hardware that the client trusts is real.
func (c *Client) Environment() schemas.Environment { return c.o.Trust.Environment }

// Catalogue returns the verified catalogue: models and prices. It is at most a minute old.
func (c *Client) Catalogue(ctx context.Context) (*schemas.Catalogue, error) {
	return c.believer.prices(ctx)
}

// Trust verifies everything that sealing for a model rests on and says what was found: the key, how its broker was
// admitted and until when both are good. model is a name, name@revision or full id.
func (c *Client) Trust(ctx context.Context, model string) (*enclave.TrustedKey, error) {
	catalogue, err := c.believer.prices(ctx)
	if err != nil {
		return nil, err
	}
	m, err := catalogue.Find(model)
	if err != nil {
		return nil, err
	}
	return c.believer.key(ctx, m)
}

// Price says what a job may cost, without sealing it.
func (c *Client) Price(ctx context.Context, j Job) (Cost, error) {
	p, err := c.plan(ctx, &j)
	if err != nil {
		return Cost{}, err
	}
	return p.cost, nil
}

// patiently repeats the steps before publishing while the network cannot be reached, for Options.PublishWait at most:
// a broker's restart must not fail a submission.
func (c *Client) patiently(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.PublishWait)
	defer cancel()
	for {
		err := step(ctx)
		if err == nil || schemas.KindOf(err) != schemas.KindUnavailable || !pause(ctx, retryPause) {
			return err
		}
	}
}
