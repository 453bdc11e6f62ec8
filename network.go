//go:build !worker

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/consumers"
	consumerscli "github.com/cocoon-network/cocoon/consumers/cli"
	"github.com/cocoon-network/cocoon/consumers/ggml"
	"github.com/cocoon-network/cocoon/consumers/ggml/tiny"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	enclavecli "github.com/cocoon-network/cocoon/enclave/cli"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/weights"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/tracing"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/service"
	"github.com/cocoon-network/cocoon/streams"
	streamscli "github.com/cocoon-network/cocoon/streams/cli"
	"github.com/cocoon-network/cocoon/streams/control"
	"github.com/cocoon-network/cocoon/streams/embedded"
)

// Timing of a network on one machine.
const (
	// upBlockTime is the time between blocks of the embedded chain while something waits.
	upBlockTime = 400 * time.Millisecond
	// chainPoll is the pause between looks at the embedded chain, which is in this process.
	chainPoll = 500 * time.Millisecond
	// upDrain is how long running jobs may take after Ctrl-C; then they go back to the queue.
	upDrain = 10 * time.Second
	// readyTimeout bounds the time from the start to the first key that jobs can be sealed to.
	readyTimeout = 60 * time.Second
)

// networkConfig says what network to open.
type networkConfig struct {
	// Data is the folder that keeps everything.
	Data string
	// NATS is where the message system listens.
	NATS string
	// Sync makes acknowledged writes survive a power loss.
	Sync bool
	// BlockTime is the time between blocks of the embedded chain.
	BlockTime time.Duration
	// Lease is how long a job stays with a silent worker; 0 means 30 s.
	Lease time.Duration
	// Stake is what of each tenant's deposit stays locked; it bounds the work that may be in flight before it is booked.
	Stake schemas.NanoTON
	// Payouts says when earnings are paid; the zero value is the program's default policy.
	Payouts settlement.PayerConfig
	// Metrics takes what worker and control count; nil counts into the void.
	Metrics *prometheus.Registry
	// Tracer opens spans of jobs; nil opens none.
	Tracer *tracing.Tracer
	// Log hears what happens.
	Log *slog.Logger
}

// network is the whole network in one process, except for its workers, which may be elsewhere.
type network struct {
	conf     networkConfig
	data     *dataDir
	server   *embedded.Server
	bus      *streams.Bus
	platform *sim.Platform
	trust    schemas.Trust
	keeper   *attest.Keeper
	verifier *attest.Verifier
	money    *money
	model    schemas.Model

	serving   chan struct{} // closed when keys are published and calls are answered
	serveOnce sync.Once
}

// openNetwork opens the state and everything that must be there before a role can run. What it opened is closed again
// when it fails. Nothing serves until run.
func openNetwork(ctx context.Context, c networkConfig) (n *network, err error) {
	n = &network{conf: c, serving: make(chan struct{})}
	defer func() {
		if err != nil {
			n.close()
			n = nil
		}
	}()
	if n.data, err = openData(c.Data); err != nil {
		return n, err
	}
	if err := n.openStreams(ctx); err != nil {
		return n, err
	}
	if err := n.openTrust(ctx); err != nil {
		return n, err
	}
	n.money, err = openMoney(ctx, n.data, c.BlockTime, c.Log)
	return n, err
}

// openStreams starts the message system and gives it its shape.
func (n *network) openStreams(ctx context.Context) error {
	host, portText, err := net.SplitHostPort(n.conf.NATS)
	if err != nil {
		return schemas.FieldError("nats", "must be host:port")
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return schemas.FieldError("nats", "must be host:port")
	}
	if port == 0 {
		port = -1 // the server's word for any free one
	}
	n.server, err = embedded.Start(embedded.Options{
		Dir: n.data.sub("nats"), Host: host, Port: port, Sync: n.conf.Sync, Logger: n.conf.Log,
	})
	if err != nil {
		return err
	}
	n.bus, err = streams.Connect(ctx, streams.Config{InProcess: n.server.InProcess(), Name: "cocoon up", Logger: n.conf.Log})
	if err != nil {
		return err
	}
	_, err = n.bus.Apply(ctx, streams.Topology{Lease: streams.Duration(n.conf.Lease)})
	return err
}

// openTrust makes the simulated hardware, and signs and publishes what it may run.
func (n *network) openTrust(ctx context.Context) error {
	var err error
	if n.platform, err = sim.Open(n.data.sub("sim"), sim.Options{}); err != nil {
		return err
	}
	roots, err := n.data.key("roots.key")
	if err != nil {
		return err
	}
	if n.trust, err = trustOf(roots); err != nil {
		return err
	}
	if _, err := n.trustFile(); err != nil { // verbs in other processes read it: cocoon job --data …
		return err
	}
	if n.model, err = tinyModel(ctx); err != nil {
		return err
	}
	if err := publishPolicy(ctx, n.bus, n.platform, roots, n.trust, []schemas.ModelID{n.model.ID}); err != nil {
		return fmt.Errorf("publish the policy: %w", err)
	}
	if err := publishCatalogue(ctx, n.bus, roots, n.trust, []schemas.Model{n.model}); err != nil {
		return fmt.Errorf("publish the catalogue: %w", err)
	}
	if n.keeper, err = attest.NewKeeper(n.trust, attest.KeeperOptions{}); err != nil {
		return err
	}
	policy, err := n.bus.Bucket(streams.BucketPolicy).Get(ctx, "current")
	if err != nil {
		return err
	}
	if _, err := n.keeper.Offer(policy.Value); err != nil {
		return err
	}
	n.verifier, err = attest.NewVerifier(attest.Options{Policy: n.keeper, Collateral: n.platform.Collateral()})
	return err
}

// tinyModel is the catalogue's entry of the embedded model.
func tinyModel(ctx context.Context) (schemas.Model, error) {
	_, root, err := weights.Root(ctx, tiny.FS())
	if err != nil {
		return schemas.Model{}, err
	}
	ref := schemas.ModelRef{Name: tiny.Name, Revision: tiny.Revision, Root: root}
	slug := ref.Slug()
	return schemas.Model{
		ID: ref.ID(), Slug: slug, Shard: 0, Format: "gguf", Context: tiny.Context,
		Endpoints: []string{"/v1/chat/completions", "/v1/completions"}, Price: tinyPrice(),
		Locations: []string{"object:" + slug}, Sealed: true,
	}, nil
}

// modelName is what people type.
func (n *network) modelName() string { return tiny.Name }

// natsURL is where clients outside this process connect.
func (n *network) natsURL() string { return n.server.URL() }

// run runs chain, broker, control and settlement until ctx ends. The first part that fails ends the others.
func (n *network) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	part := func(name string, f func(context.Context) error) {
		group.Go(func() error {
			if err := f(ctx); err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	part("embedded chain", n.money.net.Run)
	part("broker", n.runBroker)
	part("control", n.runControl)
	part("settlement", n.runSettlement)
	return group.Wait()
}

// runControl serves the queues, and judges workers by outcomes whose signatures verify.
func (n *network) runControl(ctx context.Context) error {
	judge := streamscli.NewJudge(n.verifier, n.conf.Log)
	service := control.New(n.bus, control.Options{Verify: judge.Verify, Floor: n.floor, Logger: n.conf.Log})
	if n.conf.Metrics != nil {
		if err := n.conf.Metrics.Register(service); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return service.Run(ctx) })
	group.Go(func() error {
		for ctx.Err() == nil {
			err := judge.Follow(ctx, n.bus)
			n.conf.Log.Debug("followed the brokers' keys", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(retryFollow):
			}
		}
		return nil
	})
	return group.Wait()
}

// retryFollow is the wait before something that was lost is followed again.
const retryFollow = time.Second

// floor is the good behaviour that the policy in force demands of workers.
func (n *network) floor() schemas.Reputation {
	policy, err := n.keeper.Current()
	if err != nil {
		return schemas.Reputation{} // no policy, no judgement
	}
	return policy.Reputation
}

// runBroker boots a simulated machine and runs the key broker on it.
func (n *network) runBroker(ctx context.Context) error {
	machine, err := n.platform.Boot(ctx, sim.MachineSpec{Name: "broker", Image: imageBroker, PolicyRoot: n.trust.Roots.Hash()})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(n.data.sub("broker"), 0o700); err != nil {
		return denied(n.data.path, err)
	}
	sealer, err := broker.NewFileSealer(n.data.sub("broker/sealing.key"))
	if err != nil {
		return err
	}
	return enclavecli.ServeBroker(ctx, enclavecli.BrokerOptions{
		Bus: n.bus, Attester: machine, Trust: n.trust, Collateral: n.platform.Collateral(),
		Store: broker.NewFileStore(n.data.sub("broker/state")), Sealer: sealer, Found: true, LeaseTerm: n.conf.Lease, Documents: n.platform.Documents,
		Ready: func(*broker.Broker) { n.serveOnce.Do(func() { close(n.serving) }) }, Tracer: n.conf.Tracer, Log: n.conf.Log,
	})
}

// runSettlement books, credits, takes deposits and pays.
func (n *network) runSettlement(ctx context.Context) error {
	return service.Run(ctx, service.Config{
		Ledger: n.money.ledger, Bus: n.bus, Trust: n.trust, Verifier: n.verifier,
		Treasury: n.money.treasury, Payouts: n.conf.Payouts, Poll: chainPoll, Intake: settlement.IntakeConfig{Tracer: n.conf.Tracer}, Logger: n.conf.Log,
	})
}

// runWorker boots a simulated machine and runs a worker with the embedded engine on it, inside this process.
func (n *network) runWorker(ctx context.Context, slots int) error {
	machine, err := n.platform.Boot(ctx, sim.MachineSpec{Name: "worker-1", Image: imageWorker, GPUs: 1, PolicyRoot: n.trust.Roots.Hash()})
	if err != nil {
		return err
	}
	wallet, err := n.data.wallet(n.money.chain, "owner-1.key")
	if err != nil {
		return err
	}
	err = consumerscli.RunWorker(ctx, consumerscli.WorkerOptions{
		Bus: n.bus, Trust: n.trust, Attester: machine, Collateral: n.platform.Collateral(), Owner: wallet.Address(),
		OpenEngine: openEmbedded(ggml.Options{Slots: slots, Log: n.conf.Log}), Host: hostname(), Version: thisBuild().Version,
		DrainTimeout: upDrain, Metrics: consumers.NewMetrics(n.conf.Metrics), Tracer: n.conf.Tracer, Log: n.conf.Log,
	})
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	return nil
}

// ready waits until jobs can be submitted and workers can load the model: keys are published, and the sealed weights
// lie in the object store.
func (n *network) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("the key broker did not start within %s", readyTimeout))
	defer cancel()
	select {
	case <-n.serving:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := n.sealWeights(ctx); err != nil {
		return fmt.Errorf("seal the model's weights: %w", err)
	}
	return n.money.fillTreasury(ctx)
}

// sealWeights puts the embedded model into the object store, sealed to the brokers, unless it lies there already: as a
// model owner does it, who lets nobody but admitted workers read the weights.
func (n *network) sealWeights(ctx context.Context) error {
	published, err := n.bus.Bucket(streams.BucketKeys).Get(ctx, broker.WeightsKeyName)
	if err != nil {
		return err
	}
	key, err := enclave.VerifyWeightsKey(ctx, n.verifier, published.Value)
	if err != nil {
		return err
	}
	store := n.bus.Store(streams.StoreWeights)
	if r, _, err := store.Open(ctx, n.model.Slug); err == nil {
		have, err := weights.Read(r)
		r.Close()
		if err == nil && have.Model() == n.model.ID && have.Key() == key.Key {
			return nil
		}
	} else if !errors.Is(err, schemas.KindNotFound) {
		return err
	}
	sealed, w := io.Pipe()
	go func() {
		_, err := weights.Seal(ctx, w, tiny.FS(), tiny.Name, tiny.Revision, key)
		w.CloseWithError(err)
	}()
	_, err = store.Put(ctx, n.model.Slug, sealed)
	return errors.Join(err, sealed.Close())
}

// tenant finds or makes a tenant with an account of its own.
func (n *network) tenant(ctx context.Context, name string) (*enclave.Tenant, settlement.Tenant, error) {
	t, err := n.data.tenant(name)
	if err != nil {
		return nil, settlement.Tenant{}, err
	}
	account, err := n.money.account(ctx, t, name, n.conf.Stake)
	return t, account, err
}

// close stops everything, the last opened first. The state stays.
func (n *network) close() {
	if n.money != nil {
		n.money.close()
	}
	if n.bus != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		n.bus.Close(ctx)
		cancel()
	}
	if n.server != nil {
		n.server.Close()
	}
	if n.data != nil {
		n.data.close()
	}
}

// reconcile names the sources of truth that the ledger is compared with.
func (n *network) reconcile() settlement.ReconcileConfig {
	return settlement.ReconcileConfig{
		Ledger: n.money.ledger, Treasury: n.money.treasury,
		Intake: &settlement.IntakeConfig{
			Ledger: n.money.ledger, Feed: service.NewFeed(n.bus), Environment: n.trust.Environment,
		},
	}
}

// trustFile writes what processes beside this one must believe, and says where.
func (n *network) trustFile() (string, error) {
	text, err := schemas.EncodeJSON(n.trust)
	if err != nil {
		return "", err
	}
	path := n.data.sub("trust.json")
	return path, writeFile(path, text)
}
