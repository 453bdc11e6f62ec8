package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/enclave/attest"
	enclavecli "github.com/cocoon-network/cocoon/enclave/cli"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/service"
	"github.com/cocoon-network/cocoon/streams"
)

// Settle is the verb "settle": settlement as a service of its own.
func Settle() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "settle",
		Short: "Run settlement: book receipts, publish credit, take deposits, pay workers",
		Long: `Run settlement until it is stopped. It may be killed at any moment and started again.

Without --chain receipts are booked and credit is published, and nothing is paid. Tenants pay to the treasury, naming
themselves by the memo that 'cocoon account create' prints; the operator's own money for payouts comes with the comment
"` + settlement.TopUpMemo + `". With --deposits tenants pay to another wallet, which is only looked at: its key stays with the
operator, who moves money to the treasury when payouts need it. With --deposits but without --treasury-key nothing is paid.`,
		Args: cobra.NoArgs,
	}
	addLedgerFlag(cmd)
	f := cmd.Flags()
	f.String("trust", "", "trust file of the network: root keys and environment")
	f.String("simulated", "", "folder of the simulated hardware (default: the network's store of collateral)")
	f.String("nats", "", "NATS servers (env NATS_URL)")
	f.String("creds", "", "NATS credentials (env NATS_CREDS)")
	f.Int("brokers", 0, "number of brokers that share a tenant's credit window (default 1)")
	f.String("chain", "", "global config of the TON network")
	f.String("treasury-key", "", "file with the treasury's seed, 64 hex digits")
	f.Duration("timeout", 0, "how long a payout batch can be accepted; part of the treasury's address (default 1h)")
	f.String("deposits", "", "address where tenants pay (default: the treasury)")
	f.String("threshold", "", "pay an owner who is owed this much, in TON (default 0.1)")
	f.Duration("max-age", 0, "pay an owner who has waited this long (default 24h)")
	f.String("least", "", "smallest amount paid for its age, in TON (default 0.02)")
	f.String("floor", "", "what the treasury keeps, in TON (default 1)")
	f.Duration("poll", 0, "pause between looks at the chain (default 5s)")
	f.String("metrics", "", "address of /metrics, /healthz and /readyz (default: none)")
	f.Bool("accept-gap", false, "go on although outcomes have left the stream before they were booked")
	f.Bool("new-stream", false, "the outcome stream was made anew: read it from its beginning")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg := DefaultConfig()
		if err := cli.Load(cmd, section, &cfg); err != nil {
			return err
		}
		return Run(cmd.Context(), cfg, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
	}
	return cmd
}

// Run runs settlement as configured until ctx ends.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	trust, err := readTrust(cfg.Trust)
	if err != nil {
		return err
	}
	if cfg.Simulated != "" && trust.Environment != schemas.Simulated {
		return cli.Usagef("--simulated is set, but the network's environment is %s", trust.Environment)
	}
	payouts, err := cfg.payer()
	if err != nil {
		return err
	}
	keeper, err := attest.NewKeeper(trust, attest.KeeperOptions{})
	if err != nil {
		return err
	}
	bus, err := streams.Connect(ctx, streams.Config{URL: cfg.NATS, Creds: cfg.Creds, Name: "cocoon settle", Logger: log})
	if err != nil {
		return err
	}
	defer bus.Close(context.WithoutCancel(ctx))
	collateral, err := cfg.collateral(trust, bus, log)
	if err != nil {
		return err
	}
	verifier, err := attest.NewVerifier(attest.Options{Policy: keeper, Collateral: collateral})
	if err != nil {
		return err
	}
	ledger, err := settlement.OpenLedger(ctx, cfg.Ledger, settlement.LedgerOptions{Logger: log})
	if err != nil {
		return err
	}
	defer ledger.Close()
	w, err := cfg.connect(ctx, log)
	if err != nil {
		return err
	}
	defer w.close()
	if err := cfg.reposition(ctx, ledger, bus); err != nil {
		return err
	}
	tracer, stopTraces, err := cli.Traces(ctx, "cocoon-settle", log)
	if err != nil {
		return err
	}
	defer stopTraces()
	treasury, deposits := w.payers()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return followPolicy(ctx, keeper, bus, log) })
	g.Go(func() error {
		return service.Run(ctx, service.Config{
			Ledger: ledger, Bus: bus, Trust: trust, Verifier: verifier, Brokers: cfg.Brokers,
			Deposits: deposits, Treasury: treasury, Poll: cfg.Poll, Metrics: cfg.Metrics, Payouts: payouts, Intake: settlement.IntakeConfig{Tracer: tracer}, Logger: log,
		})
	})
	return g.Wait()
}

// reposition does what the operator decided about a stream that does not go on where the ledger stands.
func (c Config) reposition(ctx context.Context, ledger *settlement.Ledger, bus *streams.Bus) error {
	if c.NewStream {
		return ledger.NewStream(ctx)
	}
	if !c.AcceptGap {
		return nil
	}
	feed := service.NewFeed(bus)
	defer feed.Close()
	first, err := feed.First(ctx)
	if err != nil {
		return err
	}
	return ledger.AcceptGap(ctx, first)
}

// followPolicy keeps the policy in force up to date until ctx ends.
func followPolicy(ctx context.Context, keeper *attest.Keeper, bus *streams.Bus, log *slog.Logger) error {
	for {
		err := keeper.Follow(ctx, enclavecli.PolicyFeed(bus), log)
		if ctx.Err() != nil {
			return nil
		}
		log.Warn("lost the policy's bucket", slog.Any("error", err))
		if !service.Pause(ctx) {
			return nil
		}
	}
}

// readTrust reads the trust file.
func readTrust(path string) (schemas.Trust, error) {
	if path == "" {
		return schemas.Trust{}, cli.Usagef("--trust is required: the file with the network's root keys")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return schemas.Trust{}, err
	}
	return schemas.ParseTrust(b)
}

// collateral is where the documents about the hardware come from: the network's own store, behind it Intel's service,
// or for simulated hardware the folder that it lies in.
func (c Config) collateral(trust schemas.Trust, bus *streams.Bus, log *slog.Logger) (*tdx.Collateral, error) {
	if c.Simulated == "" {
		o := tdx.CollateralOptions{Store: enclavecli.CollateralStore(bus), Log: log}
		if trust.Environment == schemas.Production {
			o.Source = &tdx.Service{}
		}
		return tdx.NewCollateral(o), nil
	}
	p, err := sim.Open(c.Simulated, sim.Options{})
	if err != nil {
		return nil, err
	}
	return p.Collateral(), nil
}

// Reconcile is the verb "reconcile".
func Reconcile() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Rebuild the truth from chain and streams and name every difference to the ledger",
		Long: `Compare the ledger with what the chain and the outcome stream say, and name every difference. Nothing is changed.
Without --chain only the ledger itself is checked, and with --trust its receipts against the stream.
Exits with 1 when there are differences.`,
		Example: `  cocoon reconcile --trust trust.json --chain global.config.json --treasury-key treasury.key
  cd DATA && cocoon reconcile --ledger ledger.db --trust trust.json --chain chain.json --treasury-key treasury.key   # of "cocoon up"`,
		Args: cobra.NoArgs,
	}
	addLedgerFlag(cmd)
	out := cli.OutputFlags(cmd)
	f := cmd.Flags()
	f.String("trust", "", "trust file of the network; without it receipts are not compared with the stream")
	f.String("nats", "", "NATS servers (env NATS_URL)")
	f.String("creds", "", "NATS credentials (env NATS_CREDS)")
	f.String("chain", "", "global config of the TON network")
	f.String("treasury-key", "", "file with the treasury's seed; only its address is used")
	f.Duration("timeout", 0, "the treasury's timeout, part of its address (default 1h)")
	f.String("deposits", "", "address where tenants pay (default: the treasury)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg := DefaultConfig()
		if err := cli.Load(cmd, section, &cfg); err != nil {
			return err
		}
		r, err := cfg.reconcile(cmd.Context())
		if err != nil {
			return err
		}
		if err := cli.List(out, r.Differences, differenceTable); err != nil {
			return err
		}
		cmd.PrintErrf("%d receipts, %d payouts and %d deposits agree; %d differences\n", r.Receipts, r.Payouts, r.Deposits, len(r.Differences))
		if len(r.Differences) > 0 {
			return errDifferences
		}
		return nil
	}
	return cmd
}

// errDifferences makes reconcile exit with 1 when it found something.
var errDifferences = errors.New("ledger and truth differ")

// differenceTable is the view of differences.
func differenceTable(all []settlement.Difference) cli.Table {
	t := cli.Table{Header: []string{"KIND", "SUBJECT", "LEDGER", "TRUTH"}}
	for _, d := range all {
		t.Rows = append(t.Rows, []string{d.Kind, d.Subject, d.Ledger, d.Truth})
	}
	return t
}

// reconcile compares with everything that is configured.
func (c Config) reconcile(ctx context.Context) (*settlement.Report, error) {
	ledger, err := openLedger(ctx, c.Ledger)
	if err != nil {
		return nil, err
	}
	defer ledger.Close()
	w, err := c.connect(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer w.close()
	treasury, deposits := w.payers()
	cfg := settlement.ReconcileConfig{Ledger: ledger, Deposits: deposits}
	if treasury != nil {
		cfg.Treasury = treasury
	}
	if c.Trust == "" {
		return settlement.Reconcile(ctx, cfg)
	}
	trust, err := readTrust(c.Trust)
	if err != nil {
		return nil, err
	}
	bus, err := streams.Connect(ctx, streams.Config{URL: c.NATS, Creds: c.Creds, Name: "cocoon reconcile"})
	if err != nil {
		return nil, err
	}
	defer bus.Close(context.WithoutCancel(ctx))
	feed := service.NewFeed(bus)
	defer feed.Close()
	if cfg.First, err = feed.First(ctx); err != nil {
		return nil, err
	}
	cfg.Intake = &settlement.IntakeConfig{Ledger: ledger, Feed: feed, Environment: trust.Environment}
	return settlement.Reconcile(ctx, cfg)
}
