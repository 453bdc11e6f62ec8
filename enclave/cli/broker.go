package cli

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/tracing"
	"github.com/cocoon-network/cocoon/streams"
)

// Limits of the service around a broker.
const (
	// auditBacklog bounds the decisions that wait to be stored, auditBatch those stored with one call, auditLinger how long
	// one waits for others, and auditFlush how long the end of the service waits for the last ones.
	auditBacklog = 8192
	auditBatch   = 256
	auditLinger  = 200 * time.Millisecond
	auditFlush   = 5 * time.Second
	// joinTimeout bounds the wait for another broker's answer.
	joinTimeout = 3 * time.Second
	// grantWorkers bounds the calls of one verb handled at one time.
	grantWorkers = 16
)

// BrokerOptions say what ServeBroker runs.
type BrokerOptions struct {
	// Bus, Attester, Trust and Collateral are required.
	Bus        *streams.Bus
	Attester   attest.Attester
	Trust      schemas.Trust
	Collateral *tdx.Collateral
	// Store and Sealer keep the group's state over restarts; see broker.Config.
	Store  broker.Store
	Sealer broker.Sealer
	// Join asks other brokers on the bus for the group's state when there is none stored; Found allows to found a group
	// when nobody answers.
	Join, Found bool
	// EpochLength, DecryptWindow and LeaseTerm are as in broker.Config.
	EpochLength, DecryptWindow, LeaseTerm time.Duration
	// Ready is called once, when the keys are published and calls are answered; nil: nobody is told.
	Ready func(*broker.Broker)
	// Documents, if set, gives collateral that is published for those who cannot reach its source: simulated hardware's.
	Documents func(context.Context) (tdx.Bundle, error)
	// Callout, if set, also answers the message system's questions about workers who log in.
	Callout *CalloutOptions
	// Metrics is where the broker's metrics are registered; nil: nowhere.
	Metrics prometheus.Registerer
	// Tracer opens the network's spans of jobs; nil opens none.
	Tracer *tracing.Tracer
	// Log may be nil.
	Log *slog.Logger
}

// BrokerCall is the transport to the brokers of a network.
func BrokerCall(bus *streams.Bus) enclave.Call {
	return func(ctx context.Context, verb enclave.Verb, request []byte) ([]byte, error) {
		return bus.Call(ctx, streams.SubjectBroker(string(verb)), request)
	}
}

// brokerService is a broker with everything it follows and feeds.
type brokerService struct {
	o          BrokerOptions
	keeper     *attest.Keeper
	catalogues *Catalogues
	credits    *credits
	standings  *standings
	decisions  chan broker.Decision
	dropped    atomic.Uint64
	refusals   *rate.Limiter
	broker     *broker.Broker
	metrics    *brokerMetrics
	ready      sync.Once
}

// ServeBroker runs a broker on a bus until ctx ends: it follows policy, catalogue and credit, answers every verb in the
// brokers' queue group, publishes the keys and renews them, and stores the decisions. It returns nil when ctx ended.
func ServeBroker(ctx context.Context, o BrokerOptions) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	keeper, err := attest.NewKeeper(o.Trust, attest.KeeperOptions{})
	if err != nil {
		return err
	}
	s := &brokerService{
		o: o, keeper: keeper, catalogues: NewCatalogues(o.Trust, o.Log), credits: newCredits(o.Log), standings: newStandings(),
		decisions: make(chan broker.Decision, auditBacklog), refusals: rate.NewLimiter(rate.Every(refusalEvery), refusalBurst),
	}
	parent := ctx
	group, ctx := errgroup.WithContext(ctx)
	follow := func(what string, f func(context.Context) error) {
		group.Go(func() error { return s.keepFollowing(ctx, what, f) })
	}
	follow("policy", func(ctx context.Context) error { return keeper.Follow(ctx, PolicyFeed(o.Bus), o.Log) })
	follow("catalogue", func(ctx context.Context) error { return s.catalogues.Follow(ctx, o.Bus) })
	follow("credit", func(ctx context.Context) error { return s.credits.follow(ctx, o.Bus) })
	follow("standing", func(ctx context.Context) error { return s.standings.follow(ctx, o.Bus) })
	group.Go(func() error { return s.serve(ctx, group) })
	err = group.Wait()
	if parent.Err() != nil {
		return nil
	}
	return err
}

// retryFollow is the wait before something that was lost is followed again.
const retryFollow = time.Second

// keepFollowing follows something until ctx ends, and again when it was lost.
func (s *brokerService) keepFollowing(ctx context.Context, what string, follow func(context.Context) error) error {
	for {
		err := follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.o.Log.Warn("lost what the broker follows", "what", what, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryFollow):
		}
	}
}

// serve makes the broker, once there are a policy and a catalogue, and runs it.
func (s *brokerService) serve(ctx context.Context, group *errgroup.Group) error {
	if err := waitPolicy(ctx, s.keeper); err != nil {
		return err
	}
	if err := s.catalogues.Wait(ctx); err != nil {
		return err
	}
	verifier, err := attest.NewVerifier(attest.Options{Policy: s.keeper, Collateral: s.o.Collateral})
	if err != nil {
		return err
	}
	cfg := broker.Config{
		Attester: s.o.Attester, Verifier: verifier, Policies: s.keeper, Catalogues: s.catalogues, Credit: s.credits,
		Store: s.o.Store, Sealer: s.o.Sealer, Found: s.o.Found, EpochLength: s.o.EpochLength, DecryptWindow: s.o.DecryptWindow,
		LeaseTerm: s.o.LeaseTerm, Standing: s.standings.of, Audit: s.audit, Gossip: s.gossip, Tracer: s.o.Tracer, Log: s.o.Log,
	}
	if s.o.Join {
		cfg.Join = s.join
	}
	if s.broker, err = broker.New(ctx, cfg); err != nil {
		return err
	}
	if s.metrics, err = s.newBrokerMetrics(s.o.Metrics); err != nil {
		return err
	}
	var answering sync.WaitGroup
	for _, verb := range enclave.Verbs() {
		answering.Add(1)
		group.Go(func() error { return s.answer(ctx, verb, answering.Done) })
	}
	group.Go(func() error { return s.hear(ctx) })
	if s.o.Documents != nil {
		group.Go(func() error { return publishCollateral(ctx, CollateralStore(s.o.Bus), s.o.Documents, s.o.Log) })
	}
	if s.o.Callout != nil {
		group.Go(func() error { return serveCallout(ctx, *s.o.Callout, s.broker, s.o.Log) })
	}
	group.Go(func() error { return s.store(ctx) })
	answering.Wait() // keys are published only when calls are answered
	return s.broker.Run(ctx, s)
}

// join is the transport to the other brokers while this one does not answer yet.
func (s *brokerService) join(ctx context.Context, verb enclave.Verb, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	return BrokerCall(s.o.Bus)(ctx, verb, request)
}

// answer serves one verb. ready is called once, also when it could not be served.
func (s *brokerService) answer(ctx context.Context, verb enclave.Verb, ready func()) error {
	once := sync.OnceFunc(ready)
	defer once()
	return s.o.Bus.Serve(ctx, streams.ServeOptions{
		Subject: streams.SubjectBroker(string(verb)), Queue: streams.BrokerGroup, Workers: grantWorkers, MaxBody: schemas.MaxCall,
		Ready: once,
	}, func(ctx context.Context, r streams.Request) ([]byte, error) {
		return s.broker.Handle(ctx, verb, r.Body)
	})
}

// gossip tells the other brokers. A message that cannot be sent costs at most double work.
func (s *brokerService) gossip(_ context.Context, message []byte) {
	if err := s.o.Bus.Gossip(message); err != nil {
		s.o.Log.Warn("leases could not be told", "error", err)
	}
}

// hear listens to the other brokers, and to this one, whose own words change nothing.
func (s *brokerService) hear(ctx context.Context) error {
	return s.o.Bus.HearGossip(ctx, func(message []byte) {
		if err := s.broker.Hear(message); err != nil {
			s.o.Log.Warn("gossip refused", "error", err)
		}
	})
}

// PublishKey implements broker.Publisher.
func (s *brokerService) PublishKey(ctx context.Context, name string, value []byte) error {
	if _, err := s.o.Bus.Bucket(streams.BucketKeys).Put(ctx, name, value); err != nil {
		return err
	}
	if name == broker.WeightsKeyName { // it comes last
		s.ready.Do(func() {
			if s.o.Ready != nil {
				s.o.Ready(s.broker)
			}
		})
	}
	return nil
}

// audit takes one decision. The record must not slow the grants: when the store is away for long, decisions are counted
// instead of kept, and the count is logged.
func (s *brokerService) audit(d broker.Decision) {
	s.metrics.count(d)
	select {
	case s.decisions <- d:
	default:
		s.metrics.dropped.Inc()
		s.dropped.Add(1)
	}
}

// store stores decisions in batches until ctx ends, and then those that wait.
func (s *brokerService) store(ctx context.Context) error {
	for {
		batch := s.gather(ctx)
		if ctx.Err() == nil {
			s.storeBatch(ctx, batch)
			continue
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditFlush)
		defer cancel()
		for range len(s.decisions) {
			batch = append(batch, s.note(last, <-s.decisions))
		}
		s.storeBatch(last, batch)
		return nil
	}
}

// gather waits for a decision, and then auditLinger for those that follow: under load a message in the audit stream costs
// more than the decisions in it.
func (s *brokerService) gather(ctx context.Context) (batch []streams.AuditRecord) {
	var linger <-chan time.Time
	for len(batch) < auditBatch {
		select {
		case d := <-s.decisions:
			if linger == nil {
				linger = time.After(auditLinger)
			}
			batch = append(batch, s.note(ctx, d))
		case <-linger:
			return batch
		case <-ctx.Done():
			return batch
		}
	}
	return batch
}

// storeBatch stores some decisions.
func (s *brokerService) storeBatch(ctx context.Context, batch []streams.AuditRecord) {
	if err := s.o.Bus.PublishAudit(ctx, batch...); err != nil {
		s.o.Log.Warn("decisions are not stored", "count", len(batch), "error", err)
	}
	if n := s.dropped.Swap(0); n > 0 {
		s.o.Log.Warn("decisions were dropped: the audit store is too slow", "count", n)
	}
}

// record is a decision as it is stored.
func (s *brokerService) record(d broker.Decision) streams.AuditRecord {
	return streams.AuditRecord{
		Time: d.Time, Broker: schemas.KeyIDOf(s.broker.Public()), Verb: string(d.Verb), Kind: d.Kind, Worker: d.Worker,
		Envelope: d.Envelope, Evidence: d.Evidence, Attempt: d.Attempt, Policy: d.Policy, Reason: clipReason(d.Reason),
	}
}
