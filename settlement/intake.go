package settlement

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/tracing"
)

// Message is the public face of one outcome: its headers and its place in the outcome stream.
type Message struct {
	// Seq is the position, above 0 and growing.
	Seq uint64
	// Header holds the headers as schemas.ParseOutcome reads them.
	Header map[string][]string
}

// Feed reads the network's outcomes in the order of their stream.
type Feed interface {
	// Read returns up to limit outcomes after the given position, in order and without gaps, and waits until there is
	// at least one or ctx ends. Reading acknowledges nothing: the position lives in the ledger, and a ledger restored
	// from an old copy asks for older positions again.
	Read(ctx context.Context, after uint64, limit int) ([]Message, error)
}

// Catalogues finds price books by version; *Ledger is one. KindNotFound is final: no such version was ever signed.
type Catalogues interface {
	Catalogue(ctx context.Context, version uint64) (*schemas.Catalogue, error)
}

// BrokerKeys finds the signing keys of brokers, as they were verified from key bundles; *Ledger is one. KindNotFound is
// final: no verified bundle names this key, and the source has just looked. Other errors are tried again.
type BrokerKeys interface {
	BrokerKey(ctx context.Context, id schemas.KeyID) (ed25519.PublicKey, error)
}

// IntakeConfig configures an Intake.
type IntakeConfig struct {
	Ledger *Ledger
	Feed   Feed
	// Catalogues and BrokerKeys default to the ledger's own.
	Catalogues Catalogues
	BrokerKeys BrokerKeys
	// Environment is the only one whose grants are booked. Required.
	Environment schemas.Environment
	// Group is the largest number of outcomes in one commit; 0 means 1,000.
	Group int
	// Verifiers is the number of goroutines that verify; 0 means GOMAXPROCS.
	Verifiers int
	// Skew is how far a receipt's times may lie ahead of our clock; 0 means 5 min.
	Skew time.Duration
	// Retry is the pause after a failure that may pass; 0 means 1 s.
	Retry time.Duration
	// Tracer opens the network's spans of jobs; nil opens none.
	Tracer *tracing.Tracer
	Logger *slog.Logger
}

// Defaults of IntakeConfig.
const (
	defaultGroup = 1000
	maxGroup     = 10_000
	defaultSkew  = 5 * time.Minute
	defaultRetry = time.Second
)

// withDefaults fills in and checks.
func (c IntakeConfig) withDefaults() (IntakeConfig, error) {
	if c.Ledger == nil || c.Feed == nil {
		return c, schemas.FieldError("intake", "needs Ledger and Feed")
	}
	if c.Environment != schemas.Production && c.Environment != schemas.Simulated {
		return c, schemas.FieldError("environment", "must be production or simulated")
	}
	if c.Catalogues == nil {
		c.Catalogues = c.Ledger
	}
	if c.BrokerKeys == nil {
		c.BrokerKeys = c.Ledger
	}
	c.Group = min(positive(c.Group, defaultGroup), maxGroup)
	c.Verifiers = positive(c.Verifiers, runtime.GOMAXPROCS(0))
	c.Skew = positive(c.Skew, defaultSkew)
	c.Retry = positive(c.Retry, defaultRetry)
	c.Logger = logger(c.Logger)
	return c, nil
}

// positive returns n, or the default when n is not above 0.
func positive[T int | time.Duration | schemas.NanoTON](n, otherwise T) T {
	if n > 0 {
		return n
	}
	return otherwise
}

// logger returns l, or one that discards.
func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// judge makes the part that decides.
func (c *IntakeConfig) judge() *judge {
	return &judge{
		catalogues: c.Catalogues, keys: c.BrokerKeys, environment: c.Environment, skew: c.Skew, now: c.Ledger.now,
	}
}

// Intake books outcomes.
type Intake struct {
	cfg   IntakeConfig
	judge *judge
	stats struct{ booked, free, rejected, position atomic.Uint64 }
}

// IntakeStats counts what this Intake has done since it was made.
type IntakeStats struct {
	// Booked receipts, Free outcomes (failures, which cost nothing) and Rejected claims.
	Booked, Free, Rejected uint64
	// Position is the last outcome that is durable in the ledger.
	Position uint64
}

// NewIntake checks the configuration.
func NewIntake(cfg IntakeConfig) (*Intake, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Intake{cfg: cfg, judge: cfg.judge()}, nil
}

// Stats returns the counters.
func (in *Intake) Stats() IntakeStats {
	return IntakeStats{in.stats.booked.Load(), in.stats.free.Load(), in.stats.rejected.Load(), in.stats.position.Load()}
}

// Run books until ctx ends. It returns early only on KindCorrupt and KindInternal, which trying again cannot mend.
//
// One goroutine reads and verifies the next group while the other commits the one before.
func (in *Intake) Run(ctx context.Context) error {
	for {
		err := in.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if kind := schemas.KindOf(err); kind == schemas.KindCorrupt || kind == schemas.KindInternal {
			return err
		}
		in.cfg.Logger.Warn("intake interrupted", slog.Any("error", err))
		if !pause(ctx, in.cfg.Retry) {
			return nil
		}
	}
}

// session books from the ledger's position on until something fails.
func (in *Intake) session(ctx context.Context) error {
	after, err := in.cfg.Ledger.Position(ctx)
	if err != nil {
		return err
	}
	in.stats.position.Store(after)
	g, ctx := errgroup.WithContext(ctx)
	groups := make(chan []verdict, 1)
	g.Go(func() error {
		defer close(groups)
		for {
			group, err := in.next(ctx, after)
			if err != nil {
				return err
			}
			after = group[len(group)-1].seq
			select {
			case groups <- group:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	g.Go(func() error {
		for group := range groups {
			if err := in.commit(ctx, group); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

// Group is a number of outcomes that were read and judged and are not booked yet.
type Group struct {
	in       *Intake
	verdicts []verdict
}

// Len is the number of outcomes.
func (g *Group) Len() int { return len(g.verdicts) }

// Book books the group in one commit.
func (g *Group) Book(ctx context.Context) error { return g.in.commit(ctx, g.verdicts) }

// Next reads and judges the group after the ledger's position; it waits for at least one outcome. It is for callers who
// want to see the steps that Run overlaps.
func (in *Intake) Next(ctx context.Context) (*Group, error) {
	after, err := in.cfg.Ledger.Position(ctx)
	if err != nil {
		return nil, err
	}
	verdicts, err := in.next(ctx, after)
	return &Group{in, verdicts}, err
}

// Step books at most one group and returns how many outcomes that were; it waits for at least one.
func (in *Intake) Step(ctx context.Context) (int, error) {
	group, err := in.Next(ctx)
	if err != nil {
		return 0, err
	}
	return group.Len(), group.Book(ctx)
}

// next reads one group and judges it.
func (in *Intake) next(ctx context.Context, after uint64) ([]verdict, error) {
	base, err := in.cfg.Ledger.streamBase(ctx)
	if err != nil {
		return nil, err
	}
	messages, err := in.cfg.Feed.Read(ctx, after-base, in.cfg.Group)
	if err != nil {
		return nil, err
	}
	if base > 0 { // a copy: the feed keeps its own
		messages = slices.Clone(messages)
		for i := range messages {
			messages[i].Seq += base
		}
	}
	if len(messages) == 0 {
		return nil, schemas.Errorf(schemas.KindUnavailable, "the outcome feed answered nothing")
	}
	last := after
	for _, m := range messages {
		if m.Seq <= last {
			return nil, schemas.Errorf(schemas.KindUnavailable, "the outcome feed went from %d to %d", last, m.Seq)
		}
		last = m.Seq
	}
	return in.judgeAll(ctx, messages)
}

// judgeAll verifies a group on all cores.
func (in *Intake) judgeAll(ctx context.Context, messages []Message) ([]verdict, error) {
	verdicts := make([]verdict, len(messages))
	errs := make([]error, in.cfg.Verifiers)
	var wg sync.WaitGroup
	var at atomic.Int64
	for w := range in.cfg.Verifiers {
		wg.Go(func() {
			for i := int(at.Add(1)) - 1; i < len(messages) && errs[w] == nil; i = int(at.Add(1)) - 1 {
				verdicts[i], errs[w] = in.judge.judge(ctx, messages[i])
			}
		})
	}
	wg.Wait()
	return verdicts, errors.Join(errs...)
}

// trace tells of each job how long booking took.
func (in *Intake) trace(ctx context.Context, group []verdict, began time.Time) {
	if in.cfg.Tracer == nil {
		return
	}
	for i := range group {
		v := &group[i]
		if v.outcome.Job == "" {
			continue // not even that could be read
		}
		span := in.cfg.Tracer.Job(ctx, "settlement.book", v.outcome.Job, began)
		var err error
		if v.reason != "" {
			err = schemas.KindDenied
		}
		if v.claim != nil {
			span.Attempt(v.claim.grant.Attempt)
			span.Tokens(v.claim.receipt.Usage.Total())
		}
		span.End(err)
	}
}

// commit books a group; what may pass is tried until it passes.
func (in *Intake) commit(ctx context.Context, group []verdict) error {
	began := time.Now()
	for {
		done, err := in.cfg.Ledger.book(ctx, group)
		if err == nil {
			in.trace(ctx, group, began)
			in.stats.booked.Add(done.Booked)
			in.stats.free.Add(done.Free)
			in.stats.rejected.Add(done.Rejected)
			in.stats.position.Store(group[len(group)-1].seq)
			return nil
		}
		if !schemas.Retriable(err) {
			return err
		}
		in.cfg.Logger.Warn("booking is tried again", slog.Any("error", err))
		if !pause(ctx, in.cfg.Retry) {
			return ctx.Err()
		}
	}
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
