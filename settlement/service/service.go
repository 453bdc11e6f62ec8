package service

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/streams"
)

// Config says what to settle, and how.
type Config struct {
	// Ledger is the open book; Run does not close it.
	Ledger *settlement.Ledger
	// Bus is the network.
	Bus *streams.Bus
	// Trust and Verifier say whose catalogues and whose brokers count; see LibraryConfig.
	Trust    schemas.Trust
	Verifier enclave.Verifier
	// Brokers is the number of broker replicas; 0 means 1.
	Brokers int
	// Intake tunes the intake; Ledger, Feed, keys, prices and Environment are filled in.
	Intake settlement.IntakeConfig
	// Deposits is a wallet where tenants pay instead of the treasury; nil for none.
	Deposits settlement.Wallet
	// Treasury is the wallet that pays and where tenants may pay; nil makes no payouts.
	Treasury settlement.Treasury
	// Poll is the pause between looks at the chain, for deposits and payouts; 0 means 5 s.
	Poll time.Duration
	// Metrics is the address of /metrics, /healthz and /readyz; empty for none.
	Metrics string
	// Payouts tunes the payer; Ledger, Treasury, Journal and Poll are filled in.
	Payouts settlement.PayerConfig
	Logger  *slog.Logger
}

// Services are the parts of a running settlement, for those who want to steer or watch them.
type Services struct {
	Library  *Library
	Feed     *Feed
	Intake   *settlement.Intake
	Credit   *settlement.CreditPublisher
	Deposits *settlement.Deposits // nil without a deposit wallet
	Payer    *settlement.Payer    // nil without a treasury
	ledger   *settlement.Ledger
	metrics  string
}

// New makes the parts and starts none.
func New(cfg Config) (*Services, error) {
	if cfg.Bus == nil {
		return nil, schemas.FieldError("service", "needs Bus")
	}
	s := &Services{Feed: NewFeed(cfg.Bus), ledger: cfg.Ledger, metrics: cfg.Metrics}
	var err error
	s.Library, err = NewLibrary(LibraryConfig{
		Ledger: cfg.Ledger, Catalogues: cfg.Bus.Bucket(streams.BucketCatalogue), Keys: cfg.Bus.Bucket(streams.BucketKeys),
		Trust: cfg.Trust, Verifier: cfg.Verifier, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	in := cfg.Intake
	in.Ledger, in.Feed, in.Catalogues, in.BrokerKeys = cfg.Ledger, s.Feed, s.Library, s.Library
	in.Environment, in.Logger = cfg.Trust.Environment, cfg.Logger
	if s.Intake, err = settlement.NewIntake(in); err != nil {
		return nil, err
	}
	s.Credit, err = settlement.NewCreditPublisher(settlement.CreditConfig{
		Ledger: cfg.Ledger, Store: NewCreditStore(cfg.Bus.Bucket(streams.BucketCredit)), Brokers: cfg.Brokers, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	return s, s.chain(cfg)
}

// chain makes the parts that need a chain.
func (s *Services) chain(cfg Config) (err error) {
	if cfg.Deposits != nil {
		s.Deposits, err = settlement.NewDeposits(settlement.DepositsConfig{
			Ledger: cfg.Ledger, Wallet: cfg.Deposits, Poll: cfg.Poll, Logger: cfg.Logger,
		})
		if err != nil {
			return err
		}
	}
	if cfg.Treasury != nil {
		pay := cfg.Payouts
		pay.Ledger, pay.Treasury, pay.Logger = cfg.Ledger, cfg.Treasury, cfg.Logger
		if cfg.Poll > 0 {
			pay.Poll = cfg.Poll
		}
		pay.Journal = NewJournal(cfg.Bus.Bucket(streams.BucketStatements))
		s.Payer, err = settlement.NewPayer(pay)
	}
	return err
}

// Run runs the parts until ctx ends, which is no error, or one of them fails.
func (s *Services) Run(ctx context.Context) error {
	defer s.Feed.Close()
	ops, err := s.ops()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Library.Run(ctx) })
	g.Go(func() error { return s.Intake.Run(ctx) })
	g.Go(func() error { return s.Credit.Run(ctx) })
	g.Go(func() error { return ops.Run(ctx) })
	if s.Deposits != nil {
		g.Go(func() error { return s.Deposits.Run(ctx) })
	}
	if s.Payer != nil {
		g.Go(func() error { return s.Payer.Run(ctx) })
	}
	return g.Wait()
}

// pauseTime is how long something that was lost is left alone.
const pauseTime = time.Second

// Pause waits a moment before something that was lost is taken up again; false when ctx ended.
func Pause(ctx context.Context) bool {
	timer := time.NewTimer(pauseTime)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Run makes the parts and runs them until ctx ends, which is no error, or one of them fails.
func Run(ctx context.Context, cfg Config) error {
	s, err := New(cfg)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}
