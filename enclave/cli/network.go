//go:build !worker

package cli

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// NetworkConfig says which network a verb speaks to and what it believes about it.
type NetworkConfig struct {
	// NATS is the server's url, Creds a credentials file; empty values fall back to NATS_URL and NATS_CREDS.
	NATS  string `koanf:"nats"`
	Creds string `koanf:"creds"`
	// Trust is the file with root keys and environment.
	Trust string `koanf:"trust"`
	// Simulated is the folder of the simulated hardware; empty: real hardware.
	Simulated string `koanf:"simulated"`
}

// networkFlags adds the flags of a NetworkConfig.
func networkFlags(cmd *cobra.Command) {
	cmd.Flags().String("nats", os.Getenv("NATS_URL"), "url of the message system (env NATS_URL)")
	cmd.Flags().String("creds", os.Getenv("NATS_CREDS"), "credentials file (env NATS_CREDS)")
	cmd.Flags().String("trust", "", "file with the root keys and the environment that are believed; required")
	cmd.Flags().String("simulated", "", "folder of the simulated hardware; only for networks whose environment is simulated")
}

// networkConfig reads the flags of networkFlags.
func networkConfig(cmd *cobra.Command) (c NetworkConfig) {
	for name, to := range map[string]*string{"nats": &c.NATS, "creds": &c.Creds, "trust": &c.Trust, "simulated": &c.Simulated} {
		*to = cmd.Flags().Lookup(name).Value.String()
	}
	return c
}

// network is a connection with a verifier over it.
type network struct {
	bus        *streams.Bus
	trust      schemas.Trust
	platform   *sim.Platform // nil on real hardware
	collateral *tdx.Collateral
}

// open connects.
func (c NetworkConfig) open(ctx context.Context, name string, log *slog.Logger) (*network, error) {
	n := &network{}
	var err error
	if n.trust, err = readTrust(c.Trust); err != nil {
		return nil, err
	}
	if n.bus, err = streams.Connect(ctx, streams.Config{URL: c.NATS, Creds: c.Creds, Name: name, Logger: log}); err != nil {
		return nil, err
	}
	if err := n.hardware(c.Simulated, log); err != nil {
		n.close(ctx, log)
		return nil, err
	}
	return n, nil
}

// hardware finds where collateral comes from.
func (n *network) hardware(simulated string, log *slog.Logger) (err error) {
	switch {
	case simulated == "":
		n.collateral = tdx.NewCollateral(tdx.CollateralOptions{Source: &tdx.Service{}, Store: CollateralStore(n.bus), Log: log})
	case n.trust.Environment != schemas.Simulated:
		return cli.Usagef("--simulated is set, but the trusted environment is %s", n.trust.Environment)
	default:
		if n.platform, err = sim.Open(simulated, sim.Options{}); err != nil {
			return err
		}
		n.collateral = n.platform.Collateral()
	}
	return nil
}

// verifyTimeout bounds the wait for the first policy.
const verifyTimeout = 10 * time.Second

// verify calls f with a verifier under the policy that the network publishes.
func (n *network) verify(ctx context.Context, log *slog.Logger, f func(context.Context, *attest.Verifier) error) error {
	keeper, err := attest.NewKeeper(n.trust, attest.KeeperOptions{})
	if err != nil {
		return err
	}
	verifier, err := attest.NewVerifier(attest.Options{Policy: keeper, Collateral: n.collateral})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	group.Go(func() error {
		_ = keeper.Follow(ctx, PolicyFeed(n.bus), log) // it ends with ctx; a lost feed leaves the policy in force
		return nil
	})
	wait, stop := context.WithTimeout(ctx, verifyTimeout)
	defer stop()
	if err = waitPolicy(wait, keeper); err == nil {
		err = f(ctx, verifier)
	}
	cancel()
	_ = group.Wait()
	return err
}

// close ends the connection.
func (n *network) close(ctx context.Context, log *slog.Logger) {
	if err := n.bus.Close(context.WithoutCancel(ctx)); err != nil {
		log.Warn("the connection did not close cleanly", "error", err)
	}
}
