//go:build !worker

package cli

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx/guest"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// BrokerConfig is the section "broker" of the configuration.
type BrokerConfig struct {
	NetworkConfig `koanf:",squash"`
	// Data is the folder of the sealed state; empty: in memory only. Only simulated networks may keep one, because the key
	// that seals it lies beside it.
	Data string `koanf:"data"`
	// Found allows to found a new group when there is no state and no other broker.
	Found bool `koanf:"found"`
	// Measured is the configuration bundle that is measured into RTMR3.
	Measured string `koanf:"measured"`
	// CalloutNKey, CalloutIssuer and CalloutXKey are the seed files of the callout user, the issuing account and the curve key
	// of the server's configuration; all of them or none. With them the broker also opens the door to workers.
	CalloutNKey   string `koanf:"callout_nkey"`
	CalloutIssuer string `koanf:"callout_issuer"`
	CalloutXKey   string `koanf:"callout_xkey"`
	// Lanes is the number of lanes of the topology.
	Lanes int `koanf:"lanes"`
	// Metrics is the address of /metrics, /healthz and /readyz; empty: none.
	Metrics string `koanf:"metrics"`
	// Image and Host name the simulated image and machine.
	Image string `koanf:"image"`
	Host  string `koanf:"host"`
	// EpochLength, DecryptWindow and LeaseTerm are as in broker.Config.
	EpochLength   time.Duration `koanf:"epoch_length"`
	DecryptWindow time.Duration `koanf:"decrypt_window"`
	LeaseTerm     time.Duration `koanf:"lease_term"`
}

// Broker is the verb "broker".
func Broker() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "broker",
		Short: "Run an attested key broker",
		Long: `Run a key broker: it holds the keys that jobs are sealed to, admits workers by their evidence, and
grants them one job at a time. It never sees what a job says.

On a TDX guest the evidence is real. With --simulated DIR it comes from simulated hardware, which only networks
accept whose policy says so. A broker without state asks the others for it; --found lets the first one begin.`,
		Args: cobra.NoArgs,
	}
	networkFlags(cmd)
	f := cmd.Flags()
	f.String("data", "", "folder of the sealed state (simulated networks only; default: in memory)")
	f.Bool("found", false, "found a new group when there is no state and no other broker answers")
	f.String("measured", "", "configuration bundle that is measured (TDX guests)")
	f.String("callout-nkey", "", "seed file of the callout user: the broker also lets attested workers log in")
	f.String("callout-issuer", "", "seed file of the account that issues workers' log-ins")
	f.String("callout-xkey", "", "seed file of the curve key of the callout")
	f.Int("lanes", 16, "lanes of the topology")
	f.String("metrics", "", "address of /metrics, /healthz and /readyz (default: none)")
	f.String("image", "cocoon-broker", "simulated image")
	f.String("host", "broker", "simulated machine")
	f.Duration("epoch-length", 0, "how long one key is sealed to (default 6h; only when a group is founded)")
	f.Duration("decrypt-window", 0, "how long a key opens jobs after that (default 48h; only when a group is founded)")
	f.Duration("lease-term", 0, "how long a worker has a job before it must renew (default 30s)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg := BrokerConfig{Image: "cocoon-broker", Host: "broker", Lanes: 16, NetworkConfig: NetworkConfig{NATS: os.Getenv("NATS_URL"), Creds: os.Getenv("NATS_CREDS")}}
		if err := cli.Load(cmd, "broker", &cfg); err != nil {
			return err
		}
		return cfg.run(cmd.Context(), logger(cmd))
	}
	return cmd
}

// run runs the broker until ctx ends.
func (c BrokerConfig) run(ctx context.Context, log *slog.Logger) error {
	n, err := c.open(ctx, "cocoon broker", log)
	if err != nil {
		return err
	}
	defer n.close(ctx, log)
	o := BrokerOptions{
		Bus: n.bus, Trust: n.trust, Collateral: n.collateral, Join: true, Found: c.Found,
		EpochLength: c.EpochLength, DecryptWindow: c.DecryptWindow, LeaseTerm: c.LeaseTerm, Log: log,
		Ready: func(b *broker.Broker) {
			log.Info("broker ready", "key", schemas.KeyIDOf(b.Public()), "environment", n.trust.Environment)
		},
	}
	tracer, stopTraces, err := cli.Traces(ctx, "cocoon-broker", log)
	if err != nil {
		return err
	}
	defer stopTraces()
	o.Tracer = tracer
	if o.Attester, err = c.attester(ctx, n); err != nil {
		return err
	}
	if c.Data != "" {
		if n.trust.Environment != schemas.Simulated {
			return cli.Usagef("--data keeps the state's key beside the state, which only simulated networks may do; leave it out, and run two brokers or more")
		}
		if err := os.MkdirAll(c.Data, 0o700); err != nil {
			return schemas.Errorf(schemas.KindDenied, "broker state: %w", err)
		}
		sealer, err := broker.NewFileSealer(filepath.Join(c.Data, "seal.key"))
		if err != nil {
			return err
		}
		o.Sealer, o.Store = sealer, broker.NewFileStore(filepath.Join(c.Data, "state"))
	}
	if n.platform != nil {
		o.Documents = n.platform.Documents
	}
	if c.Metrics != "" {
		registry := prometheus.NewRegistry()
		o.Metrics = registry
		stop, err := cli.Ops{Address: c.Metrics, Metrics: registry, Ready: n.bus.Flush, Log: log}.Start(ctx)
		if err != nil {
			return err
		}
		defer stop()
	}
	if c.CalloutNKey != "" {
		bus, err := streams.Connect(ctx, streams.Config{URL: c.NATS, NKeySeedFile: c.CalloutNKey, Name: "cocoon broker callout", Logger: log})
		if err != nil {
			return err
		}
		defer bus.Close(context.WithoutCancel(ctx))
		o.Callout = &CalloutOptions{Bus: bus, Issuer: c.CalloutIssuer, XKey: c.CalloutXKey, Lanes: c.Lanes}
	}
	return ServeBroker(ctx, o)
}

// attester is the machine that the broker runs on.
func (c BrokerConfig) attester(ctx context.Context, n *network) (attest.Attester, error) {
	roots := n.trust.Roots.Hash()
	if n.platform != nil {
		return n.platform.Boot(ctx, sim.MachineSpec{Name: c.Host, Image: c.Image, PolicyRoot: roots})
	}
	td, err := guest.Open(guest.Options{})
	if err != nil {
		return nil, err
	}
	measured, err := os.ReadFile(c.Measured)
	if err != nil {
		return nil, cli.Usagef("--measured is required on a TDX guest: %v", err)
	}
	return attest.Boot(ctx, attest.MachineOptions{TD: td, Config: schemas.HashOf(measured), PolicyRoot: roots})
}
