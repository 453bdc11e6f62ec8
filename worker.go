package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/consumers"
	consumerscli "github.com/cocoon-network/cocoon/consumers/cli"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	enclavecli "github.com/cocoon-network/cocoon/enclave/cli"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// defaultSlots is how many sequences the embedded engine runs at one time.
const defaultSlots = 16

// workerConfig is the section "worker" of the configuration.
type workerConfig struct {
	// NATS and Creds reach the network; empty takes NATS_CONTEXT, NATS_URL and NATS_CREDS.
	NATS  string `koanf:"nats"`
	Creds string `koanf:"creds"`
	// Attested logs the worker in with its evidence, as servers with the production layout want it; the credentials are
	// then those of the host, which reads policy and catalogue.
	Attested bool `koanf:"attested_login"`
	// Trust is the file with the root keys and the environment that this worker believes in. Required.
	Trust string `koanf:"trust"`
	// Owner is the TON address that earns. Required.
	Owner string `koanf:"owner"`
	// Models are names or full ids; empty serves every model that the policy admits on this machine.
	Models []string `koanf:"models"`
	// Ask is the lowest price multiplier served, such as "1.5"; empty serves every class.
	Ask float64 `koanf:"ask"`
	// Engine is "child" (the embedded engine as a supervised process), "embedded" (inside this process), or the URL of
	// an OpenAI-compatible server.
	Engine string `koanf:"engine"`
	// Slots is how many sequences the embedded engine runs at one time, Threads how many threads it uses; 0 lets it
	// choose.
	Slots   int `koanf:"slots"`
	Threads int `koanf:"threads"`
	// GPU puts all layers of the embedded engine onto the first GPU; see deploy/gpu.
	GPU bool `koanf:"gpu"`
	// Weights is a folder in memory for opened weights; Plain one with weights that are not sealed, by model slug.
	Weights string `koanf:"weights_dir"`
	Plain   string `koanf:"plain_dir"`
	// Measured is the configuration bundle that is measured into the machine's log. Required on real hardware.
	Measured string `koanf:"measured"`
	// Simulated is the folder of simulated hardware; Image the simulated image. Not in worker builds.
	Simulated string `koanf:"simulated"`
	Image     string `koanf:"image"`
	// Host names the machine to operators. Default: its host name.
	Host string `koanf:"host"`
	// Drain is how long running jobs may take after the end was asked for.
	Drain time.Duration `koanf:"drain_timeout"`
	// Metrics is the address of /metrics, /healthz and /readyz; empty serves none.
	Metrics string `koanf:"metrics"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `koanf:"log_level"`
}

// workerCommand runs one worker.
func workerCommand() *cobra.Command {
	conf := workerConfig{Engine: "child", Slots: defaultSlots, Host: hostname(), Drain: consumers.DefaultDrainTimeout, LogLevel: "info"}
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run a worker: attest, pull jobs, run them, earn",
		Long: `Run a worker inside a confidential machine.

It attests itself to the key brokers, gets the models' weights and verifies them, and then
pulls exactly as many jobs as its engines have room for. Ctrl-C or SIGTERM drains it: no
new jobs, running ones finish or go back. "cocoon doctor" says why a machine is refused.`,
		Example: `  cocoon worker --trust trust.json --owner 0:83df… --nats tls://nats.example:4222
  cocoon worker --trust trust.json --owner 0:83df… --engine http://127.0.0.1:8000 --models llama-3.1-8b`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.String("nats", "", "NATS server (env NATS_URL)")
	f.String("creds", "", "NATS credentials file (env NATS_CREDS)")
	f.Bool("attested-login", false, "log in to NATS with evidence (production layout); the credentials are the host's")
	f.String("trust", "", "file with the root keys and the environment to believe in (required)")
	f.String("owner", "", "TON address that earns, raw form (required)")
	f.StringSlice("models", nil, "models to serve, names or full ids (default all that are admitted)")
	f.Float64("ask", 0, "lowest price multiplier to serve (default any)")
	f.String("engine", conf.Engine, "child, embedded, or the URL of an OpenAI-compatible server")
	f.Int("slots", conf.Slots, "sequences that the embedded engine runs at one time")
	f.Int("threads", 0, "threads of the embedded engine (default: one less than there are cores)")
	f.Bool("gpu", false, "put all layers of the embedded engine onto the first GPU")
	f.String("weights-dir", "", "folder in memory for opened weights (default the system's temporary folder)")
	f.String("plain-dir", "", "folder with weights that are not sealed, one folder per model slug")
	f.String("measured", "", "configuration bundle to measure (required on real hardware)")
	f.String("host", conf.Host, "name of this machine for operators")
	f.Duration("drain-timeout", conf.Drain, "how long running jobs may take after the end was asked for")
	f.String("metrics", "", "address of /metrics, /healthz and /readyz (default none)")
	f.String("log-level", conf.LogLevel, "debug, info, warn or error")
	simulatedFlags(f)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := cli.Load(cmd, "worker", &conf); err != nil {
			return err
		}
		return runWorker(cmd.Context(), conf, cmd)
	}
	return cmd
}

// runWorker runs the worker that the configuration describes until ctx ends.
func runWorker(ctx context.Context, conf workerConfig, cmd *cobra.Command) error {
	log, err := newWorkerLogger(cmd.ErrOrStderr(), conf.LogLevel)
	if err != nil {
		return err
	}
	if conf.Trust == "" {
		return cli.Usagef("--trust is required: the file says whose policies this worker obeys")
	}
	text, err := os.ReadFile(conf.Trust)
	if err != nil {
		return cli.Usagef("--trust: %w", err)
	}
	trust, err := schemas.ParseTrust(text)
	if err != nil {
		return fmt.Errorf("--trust %s: %w", conf.Trust, err)
	}
	owner, err := schemas.ParseOwner(conf.Owner)
	if err != nil {
		return cli.Usagef("--owner: %w", err)
	}
	open, err := engineOpener(conf, cmd.ErrOrStderr(), log)
	if err != nil {
		return err
	}
	hw, err := bootMachine(ctx, conf, trust)
	if err != nil {
		return err
	}
	network := streams.Config{URL: conf.NATS, Creds: conf.Creds, Name: "cocoon worker", Logger: log}
	bus, err := streams.Connect(ctx, network)
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		bus.Close(end)
	}()
	registry := prometheus.NewRegistry()
	stop, err := cli.Ops{Address: conf.Metrics, Metrics: registry, Ready: bus.Flush, Log: log}.Start(ctx)
	if err != nil {
		return err
	}
	defer stop()
	tracer, stopTraces, err := cli.Traces(ctx, "cocoon-worker", log)
	if err != nil {
		return err
	}
	defer stopTraces()
	o := consumerscli.WorkerOptions{
		Bus: bus, Trust: trust, Attester: hw.machine, Collateral: hw.collateral, Owner: owner, Models: conf.Models,
		OpenEngine: open, WeightsDir: conf.Weights, PlainDir: conf.Plain,
		Ask: schemas.BasisPoints(conf.Ask * float64(schemas.One)), Host: conf.Host, Version: thisBuild().Version,
		DrainTimeout: conf.Drain, Metrics: consumers.NewMetrics(registry), Tracer: tracer, Log: log,
		Guard: consumers.GuardConfig{Gauges: hw.gauges},
	}
	if conf.Attested {
		o.Login = func(ctx context.Context, s *enclave.Session) (*streams.Bus, error) {
			return enclavecli.AttestedLogin(ctx, network, s)
		}
	}
	return consumerscli.RunWorker(ctx, o)
}

// hardware is what a worker runs on.
type hardware struct {
	machine    *attest.Machine
	collateral *tdx.Collateral
	// gauges read what the machine has to spare; nil for main memory alone.
	gauges []consumers.Gauge
}

// bootMachine boots the machine that this worker runs on, real or, where the build has it, simulated.
func bootMachine(ctx context.Context, conf workerConfig, trust schemas.Trust) (hardware, error) {
	if conf.Simulated != "" {
		return bootSimulated(ctx, conf, trust)
	}
	return bootReal(ctx, conf, trust)
}

// closeTimeout bounds the flushing of a connection.
const closeTimeout = 5 * time.Second
