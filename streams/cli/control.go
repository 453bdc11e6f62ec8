//go:build !worker

package cli

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/enclave/attest"
	enclavecli "github.com/cocoon-network/cocoon/enclave/cli"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/control"
)

// controlConfig is the section "control" of the configuration.
type controlConfig struct {
	// Trust is the file with root keys and environment; without it there is no reputation.
	Trust string `koanf:"trust"`
	// Simulated is the folder of the simulated hardware; empty: real hardware.
	Simulated string `koanf:"simulated"`
	// Poll and Hot are as in control.Options.
	Poll time.Duration `koanf:"poll"`
	Hot  uint64        `koanf:"hot"`
	// Metrics is the address of /metrics, /healthz and /readyz; empty: none.
	Metrics string `koanf:"metrics"`
}

// Control is `cocoon control`: the operator's service beside the streams.
func Control(connect Connect) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "control",
		Short: "Run the operator's service beside the streams",
		Long: `Control makes queues on demand and splits hot ones by tenant, gives jobs that expired, were cancelled or died in the queue
their outcome, says what waits, and keeps the reputation of workers. It holds no secrets and never touches money. Run
two: each may be killed at any time.

With --trust it checks the signatures of outcomes and so can judge workers; without it nobody is judged.`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.String("trust", "", "file with the root keys and the environment that are believed")
	f.String("simulated", "", "folder of the simulated hardware; only for networks whose environment is simulated")
	f.Duration("poll", 2*time.Second, "how often the queues are looked at")
	f.Uint64("hot", 64, "waiting jobs at which a queue is split by tenant")
	f.String("metrics", "", "address of /metrics, /healthz and /readyz (default: none)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c := controlConfig{Poll: 2 * time.Second, Hot: 64}
		if err := cli.Load(cmd, "control", &c); err != nil {
			return err
		}
		if c.Poll < 100*time.Millisecond || c.Hot == 0 {
			return cli.Usagef("--poll must be at least 100ms and --hot at least 1")
		}
		log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error { return c.run(ctx, bus, log) })
	}
	return cmd
}

// run runs control, and what it needs to judge, until ctx ends.
func (c controlConfig) run(ctx context.Context, bus *streams.Bus, log *slog.Logger) error {
	o := control.Options{Poll: c.Poll, Hot: c.Hot, Logger: log}
	group, ctx := errgroup.WithContext(ctx)
	if c.Trust != "" {
		keeper, judge, err := c.judge(log)
		if err != nil {
			return err
		}
		o.Verify = judge.Verify
		o.Floor = func() schemas.Reputation {
			if p, err := keeper.Current(); err == nil {
				return p.Policy.Reputation
			}
			return schemas.Reputation{}
		}
		group.Go(func() error {
			return untilDone(ctx, func() error { return keeper.Follow(ctx, enclavecli.PolicyFeed(bus), log) })
		})
		group.Go(func() error { return untilDone(ctx, func() error { return judge.Follow(ctx, bus) }) })
	}
	service := control.New(bus, o)
	if c.Metrics != "" {
		registry := prometheus.NewRegistry()
		if err := registry.Register(service); err != nil {
			return err
		}
		group.Go(func() error {
			return cli.Ops{Address: c.Metrics, Metrics: registry, Ready: bus.Flush, Log: log}.Run(ctx)
		})
	}
	group.Go(func() error { return service.Run(ctx) })
	log.Info("control runs", "reputation", c.Trust != "")
	return group.Wait()
}

// judge prepares what the signatures are checked with.
func (c controlConfig) judge(log *slog.Logger) (*attest.Keeper, *Judge, error) {
	text, err := os.ReadFile(c.Trust)
	if err != nil {
		return nil, nil, cli.Usagef("--trust: %w", err)
	}
	trust, err := schemas.ParseTrust(text)
	if err != nil {
		return nil, nil, err
	}
	collateral := tdx.NewCollateral(tdx.CollateralOptions{Source: &tdx.Service{}, Log: log})
	switch {
	case c.Simulated == "":
	case trust.Environment != schemas.Simulated:
		return nil, nil, cli.Usagef("--simulated is set, but the trusted environment is %s", trust.Environment)
	default:
		platform, err := sim.Open(c.Simulated, sim.Options{})
		if err != nil {
			return nil, nil, err
		}
		collateral = platform.Collateral()
	}
	keeper, err := attest.NewKeeper(trust, attest.KeeperOptions{})
	if err != nil {
		return nil, nil, err
	}
	verifier, err := attest.NewVerifier(attest.Options{Policy: keeper, Collateral: collateral})
	if err != nil {
		return nil, nil, err
	}
	return keeper, NewJudge(verifier, log), nil
}

// untilDone repeats f, with a pause, until ctx ends: a feed that breaks must not end the service.
func untilDone(ctx context.Context, f func() error) error {
	for {
		_ = f() // it has logged; what it knew stays in force
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}
