package broker

import (
	"context"
	"crypto/hpke"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/tracing"
)

// Policies is the policy in force and the memory of those before; [attest.Keeper] is one.
type Policies interface {
	Current() (*attest.InForce, error)
	// Find returns the version of a policy that was in force, by hash.
	Find(hash schemas.Hash) (version uint64, ok bool)
	// Changed returns a channel that is closed when the current policy is replaced.
	Changed() <-chan struct{}
	// Raise puts every policy with a lower version out of force, for good.
	Raise(version uint64)
}

// Catalogues is the catalogue in force.
type Catalogues interface {
	// Current fails with KindUnavailable when there is none yet.
	Current() (*schemas.Catalogue, error)
}

// Credit is what settlement says about tenants.
type Credit interface {
	// Account returns the last word about a tenant, KindNotFound when there never was one. It is called for every job and
	// should answer from memory.
	Account(ctx context.Context, tenant schemas.TenantID) (schemas.Credit, error)
}

// Config says what a broker is made of.
type Config struct {
	// Attester quotes for this process; Verifier judges workers and other brokers. Required.
	Attester attest.Attester
	Verifier enclave.Verifier
	// Policies, Catalogues and Credit are required.
	Policies   Policies
	Catalogues Catalogues
	Credit     Credit

	// Store and Sealer keep the group's state. Both nil: the state lives in memory only and comes from another broker.
	Store  Store
	Sealer Sealer
	// Join, if set, reaches the other brokers of the group; a broker without state asks them first.
	Join enclave.Call
	// Found allows a broker that has no state and found no other to start a new group. Jobs sealed to an older group's
	// keys are then lost (KindKeyLost).
	Found bool

	// EpochLength is how long one key is sealed to, default 6 h; DecryptWindow how long it opens after that, default 48 h,
	// the longest life of a job. They count only when a group is founded; others take them from the state.
	EpochLength   time.Duration
	DecryptWindow time.Duration
	// LeaseTerm is how long a worker has a job before it must renew, default 30 s, at least 3 s.
	LeaseTerm time.Duration

	// Verifications bounds evidence verifications per second, default 50; a burst may be twice that.
	Verifications float64
	// MaxLeases bounds the jobs remembered at one time, default 1,000,000 (about 300 bytes each).
	MaxLeases int
	// CachedSubmissions bounds the encapsulations remembered per epoch key, default 4,096.
	CachedSubmissions int

	// Standing says what the operator's records say about a worker and its owner; nil: everybody is Good. It is called for
	// every job and should answer from memory.
	Standing func(worker schemas.WorkerID, owner schemas.Owner) Standing
	// Audit receives every decision; nil drops them. It must not block for long.
	Audit func(Decision)
	// Gossip tells the other brokers about leases; the message is sealed. nil: there are no others. It must not block
	// for long, and a lost message costs at most double work.
	Gossip func(ctx context.Context, message []byte)
	// Tracer opens the network's spans of jobs; nil opens none.
	Tracer *tracing.Tracer
	// Log receives events for operators, never secrets; nil discards.
	Log *slog.Logger
}

// withDefaults fills what was left zero.
func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.EpochLength, 6*time.Hour)
	def(&c.DecryptWindow, schemas.MaxLifetime)
	def(&c.LeaseTerm, 30*time.Second)
	if c.Verifications == 0 {
		c.Verifications = 50
	}
	if c.MaxLeases == 0 {
		c.MaxLeases = 1_000_000
	}
	if c.CachedSubmissions == 0 {
		c.CachedSubmissions = 4096
	}
	if c.Standing == nil {
		c.Standing = func(schemas.WorkerID, schemas.Owner) Standing { return Good }
	}
	if c.Audit == nil {
		c.Audit = func(Decision) {}
	}
	if c.Gossip == nil {
		c.Gossip = func(context.Context, []byte) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// check refuses configurations that cannot work.
func (c *Config) check() error {
	switch {
	case c.Attester == nil || c.Verifier == nil || c.Policies == nil || c.Catalogues == nil || c.Credit == nil:
		return schemas.FieldError("broker", "attester, verifier, policies, catalogues and credit are required")
	case (c.Store == nil) != (c.Sealer == nil):
		return schemas.FieldError("store", "store and sealer go together")
	case c.EpochLength < time.Minute || c.EpochLength > schemas.MaxEpochLength || c.EpochLength%time.Second != 0:
		return schemas.FieldError("epoch_length", "must lie between 1 minute and 24 hours, in whole seconds")
	case c.DecryptWindow < time.Minute || c.DecryptWindow > schemas.MaxDecryptWindow || c.DecryptWindow%time.Second != 0:
		return schemas.FieldError("decrypt_window", "must lie between 1 minute and 96 hours, in whole seconds")
	case c.LeaseTerm < 3*time.Second || c.LeaseTerm > time.Hour:
		return schemas.FieldError("lease_term", "must lie between 3 seconds and 1 hour")
	}
	return nil
}

// Broker is one broker of a group. It is safe for concurrent use.
type Broker struct {
	cfg        Config
	boot       schemas.BootID
	private    hpke.PrivateKey // receives the group's state; born here, never stored
	group      *group
	leases     *leases
	book       *book
	calls      *seen              // sealed calls and challenges that were used
	spends     *seen              // submissions whose signature was verified
	signatures enclave.Signatures // of tenants and of the group

	verify    *semaphore.Weighted // verifications at one time: they are the expensive part
	allowance *rate.Limiter       // verifications per second
	quotes    *rate.Limiter       // own quotes per second
	standing  standingEvidence
	probation probation
	models    atomic.Pointer[modelIndex] // of the catalogue seen last
}

// New makes a broker and gets the group's state: from the store, else from another broker, else, if cfg.Found allows, anew.
func New(ctx context.Context, cfg Config) (*Broker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Sealer != nil && cfg.Sealer.Development() {
		if policy, err := cfg.Policies.Current(); err != nil {
			return nil, err
		} else if policy.Environment != schemas.Simulated {
			return nil, &schemas.Error{Kind: schemas.KindPolicy, Field: "sealer", Message: "protects nothing from who reads the disk; only simulated networks may use it"}
		}
	}
	private, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "make the HPKE key: %w", err)
	}
	b := &Broker{
		cfg: cfg, boot: schemas.NewBootID(), private: private,
		probation: probation{jobs: map[schemas.WorkerID]jobKey{}}, leases: newLeases(cfg.MaxLeases), book: newBook(), calls: newSeen(maxSeen, callWindow), spends: newSeen(maxSeen, time.Hour),
		verify:    semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0))),
		allowance: rate.NewLimiter(rate.Limit(cfg.Verifications), int(2*cfg.Verifications)+1),
		quotes:    rate.NewLimiter(ownQuotes, 2*ownQuotes),
	}
	if b.group, err = b.obtain(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// Limits that need no setting.
const (
	// ownQuotes bounds the quotes per second made for callers of VerbAttest and VerbJoin.
	ownQuotes = 5
	// callWindow is how old a sealed call may be; within it a repeated call is recognised.
	callWindow = 2 * time.Minute
	// maxSeen bounds the calls and the verified submissions remembered.
	maxSeen = 1 << 17
)

// Handle answers one call. Errors carry a schemas.Kind and cross the wire as such.
func (b *Broker) Handle(ctx context.Context, verb enclave.Verb, request []byte) ([]byte, error) {
	if len(request) > schemas.MaxCall {
		return nil, &schemas.Error{Kind: schemas.KindTooLarge, Message: "call is longer than 768 KiB"}
	}
	switch verb {
	case enclave.VerbChallenge:
		return b.challenge(request)
	case enclave.VerbSession:
		return b.session(ctx, request)
	case enclave.VerbGrant:
		return b.grant(ctx, request)
	case enclave.VerbRenew:
		return b.renew(ctx, request)
	case enclave.VerbRelease:
		return b.release(request)
	case enclave.VerbAttest:
		return b.attest(ctx, request)
	case enclave.VerbJoin:
		return b.join(ctx, request)
	}
	return nil, &schemas.Error{Kind: schemas.KindUnsupported, Field: "verb", Message: "is not a call to a broker"}
}

var _ enclave.Call = (*Broker)(nil).Handle

// Environment is the environment of the policy in force.
func (b *Broker) Environment() (schemas.Environment, error) {
	policy, err := b.cfg.Policies.Current()
	if err != nil {
		return "", err
	}
	return policy.Environment, nil
}

// Decision is one entry of the audit record: who asked for what, and the answer. It has hashes and ids, no content.
type Decision struct {
	// Time is when, Verb what was asked.
	Time time.Time    `json:"time"`
	Verb enclave.Verb `json:"verb"`
	// Kind is 0 when it was granted.
	Kind   schemas.Kind `json:"kind"`
	Reason string       `json:"reason,omitempty"`
	// Worker and Evidence say who asked.
	Worker   schemas.WorkerID `json:"worker,omitempty"`
	Evidence schemas.Hash     `json:"evidence,omitzero"`
	// Policy is the version that decided.
	Policy uint64 `json:"policy,omitempty"`
	// Envelope, Grant and Attempt say what about.
	Envelope schemas.Hash    `json:"envelope,omitzero"`
	Grant    schemas.Hash    `json:"grant,omitzero"`
	Attempt  int             `json:"attempt,omitempty"`
	Model    schemas.ModelID `json:"model,omitempty"`
	// Finding is what was found in evidence that was examined for this decision; nil for the others.
	Finding *schemas.Finding `json:"finding,omitempty"`
}

// audit records a decision; err is nil when it was granted.
func (b *Broker) audit(d Decision, err error) {
	d.Time = time.Now().UTC()
	if err != nil {
		if d.Kind = schemas.KindOf(err); d.Kind == schemas.KindUnknown {
			d.Kind = schemas.KindInternal
		}
		d.Reason = err.Error()
	}
	b.cfg.Audit(d)
}
