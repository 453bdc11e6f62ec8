package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/consumers"
	consumerscli "github.com/cocoon-network/cocoon/consumers/cli"
	"github.com/cocoon-network/cocoon/consumers/stub"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	enclavecli "github.com/cocoon-network/cocoon/enclave/cli"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/service"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/control"
	"github.com/cocoon-network/cocoon/streams/embedded"
)

// What the benchmarks of producers run on.
const (
	benchModel  = "bench"
	benchWorker = "bench-worker"
	benchBroker = "bench-broker"
	benchOwner  = schemas.Owner("0:00000000000000000000000000000000000000000000000000000000000000bf")
	benchSlots  = 64
	// benchFunds is more than any benchmark spends.
	benchFunds = 10_000_000 * schemas.TON
)

// benchNet is a whole network in this process: server with file storage, broker on simulated hardware, control, and
// settlement with a SQLite ledger; only the chain is not there. A worker comes when it is wanted.
type benchNet struct {
	dir      string
	server   *embedded.Server
	bus      *streams.Bus
	platform *sim.Platform
	trust    schemas.Trust
	root     ed25519.PrivateKey
	verifier *attest.Verifier
	model    schemas.Model
	ledger   *settlement.Ledger
	settle   *service.Services
	tenant   *enclave.Tenant

	services *errgroup.Group
	life     context.Context // of the services
	stop     context.CancelFunc
}

// newBenchNet starts the network on a temporary folder. Close it.
func newBenchNet(ctx context.Context) (n *benchNet, err error) {
	n = &benchNet{services: &errgroup.Group{}}
	n.life, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if n.dir, err = os.MkdirTemp("", "cocoon-bench-"); err != nil {
		return n, err
	}
	if n.server, err = embedded.Start(embedded.Options{Dir: filepath.Join(n.dir, "nats"), Port: -1}); err != nil {
		return n, err
	}
	if n.bus, err = n.connect(ctx); err != nil {
		return n, err
	}
	if _, err = n.bus.Apply(ctx, streams.Topology{TenantQueue: 2_000_000}); err != nil {
		return n, err
	}
	for _, step := range []func(context.Context) error{n.publish, n.broker, n.money, n.control} {
		if err = step(ctx); err != nil {
			return n, err
		}
	}
	return n, nil
}

// connect opens a connection for one part of the network.
func (n *benchNet) connect(ctx context.Context) (*streams.Bus, error) {
	return streams.Connect(ctx, streams.Config{InProcess: n.server.InProcess(), Name: "bench"})
}

// run runs a part on a connection of its own until the network closes.
func (n *benchNet) run(ctx context.Context, part func(ctx context.Context, bus *streams.Bus) error) error {
	bus, err := n.connect(ctx)
	if err != nil {
		return err
	}
	n.services.Go(func() error {
		err := part(n.life, bus)
		if n.life.Err() != nil {
			err = nil
		}
		return errors.Join(err, bus.Close(context.Background()))
	})
	return nil
}

// publish makes hardware, root key, policy and catalogue, and publishes what others must know.
func (n *benchNet) publish(ctx context.Context) error {
	var seed [sim.SeedSize]byte
	rand.Read(seed[:])
	var err error
	if n.platform, err = sim.New(seed, sim.Options{}); err != nil {
		return err
	}
	var public ed25519.PublicKey
	if public, n.root, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return err
	}
	n.trust.Environment = schemas.Simulated
	if n.trust.Roots, err = schemas.NewRootKeys(1, public); err != nil {
		return err
	}
	ref := schemas.ModelRef{Name: benchModel, Revision: "1", Root: schemas.HashOf([]byte("no weights"))}
	n.model = schemas.Model{
		ID: ref.ID(), Slug: ref.Slug(), Format: "gguf", Context: 1 << 16, Endpoints: []string{consumers.PathChat},
		Price: schemas.Price{Prompt: 1_000_000, Cached: 100_000, Completion: 4_000_000, Reasoning: 4_000_000},
	}
	now := time.Now().UTC().Truncate(time.Second)
	catalogue := &schemas.Catalogue{
		V: 1, Version: 1, Issued: now, Expires: now.Add(24 * time.Hour), Environment: schemas.Simulated, FeeBP: 500,
		Classes: map[schemas.Class]schemas.BasisPoints{schemas.Priority: 20_000, schemas.Standard: 10_000, schemas.Batch: 5_000},
		Models:  []schemas.Model{n.model},
	}
	policy := n.platform.Policy(sim.PolicySpec{
		Images: []sim.ImageRule{{Name: benchWorker, Role: schemas.RoleWorker, MaxGPUs: 1}, {Name: benchBroker, Role: schemas.RoleBroker}},
		Models: []schemas.ModelID{n.model.ID},
	})
	keeper, err := attest.NewKeeper(n.trust, attest.KeeperOptions{})
	if err != nil {
		return err
	}
	signed, err := n.post(ctx, streams.BucketPolicy, policy)
	if err != nil {
		return err
	}
	if _, err := keeper.Offer(signed); err != nil {
		return err
	}
	if _, err := n.post(ctx, streams.BucketCatalogue, catalogue); err != nil {
		return err
	}
	n.verifier, err = attest.NewVerifier(attest.Options{Policy: keeper, Collateral: n.platform.Collateral()})
	return err
}

// post signs a document and publishes it as the current one, and under its version.
func (n *benchNet) post(ctx context.Context, name streams.BucketName, d schemas.Document) ([]byte, error) {
	signed, err := schemas.SignDocument(d, n.root)
	if err != nil {
		return nil, err
	}
	b, err := signed.Encode()
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"v1", "current"} {
		if _, err := n.bus.Bucket(name).Put(ctx, key, b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// broker starts the key broker and waits until it has published its keys.
func (n *benchNet) broker(ctx context.Context) error {
	machine, err := n.platform.Boot(ctx, sim.MachineSpec{Name: benchBroker, Image: benchBroker, PolicyRoot: n.trust.Roots.Hash()})
	if err != nil {
		return err
	}
	ready, failed := make(chan struct{}), make(chan error, 1)
	err = n.run(ctx, func(ctx context.Context, bus *streams.Bus) error {
		err := enclavecli.ServeBroker(ctx, enclavecli.BrokerOptions{
			Bus: bus, Attester: machine, Trust: n.trust, Collateral: n.platform.Collateral(), Found: true,
			Ready: func(*broker.Broker) { close(ready) },
		})
		failed <- err
		return err
	})
	if err != nil {
		return err
	}
	return await(ctx, ready, failed)
}

// await waits for a part to be ready, or to have failed.
func await(ctx context.Context, ready <-chan struct{}, failed <-chan error) error {
	select {
	case <-ready:
		return nil
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// money starts settlement and funds a tenant.
func (n *benchNet) money(ctx context.Context) (err error) {
	if n.ledger, err = settlement.OpenLedger(ctx, filepath.Join(n.dir, "ledger.db"), settlement.LedgerOptions{}); err != nil {
		return err
	}
	if n.tenant, err = enclave.NewTenant(); err != nil {
		return err
	}
	if _, err := n.ledger.CreateTenant(ctx, settlement.Tenant{ID: n.tenant.ID(), Key: n.tenant.Public(), StakeTarget: benchFunds / 2}); err != nil {
		return err
	}
	if err := n.ledger.Fund(ctx, n.tenant.ID(), benchFunds, "bench"); err != nil {
		return err
	}
	bus, err := n.connect(ctx)
	if err != nil {
		return err
	}
	n.settle, err = service.New(service.Config{Ledger: n.ledger, Bus: bus, Trust: n.trust, Verifier: n.verifier})
	if err != nil {
		return errors.Join(err, bus.Close(ctx))
	}
	n.services.Go(func() error { return errors.Join(n.settle.Run(n.life), bus.Close(context.Background())) })
	return nil
}

// control starts the control service.
func (n *benchNet) control(ctx context.Context) error {
	return n.run(ctx, func(ctx context.Context, bus *streams.Bus) error { return control.New(bus, control.Options{}).Run(ctx) })
}

// work starts a worker with the stub engine and waits until it serves. stop drains it.
func (n *benchNet) work(ctx context.Context) (engine *stub.Engine, stop func() error, err error) {
	machine, err := n.platform.Boot(ctx, sim.MachineSpec{Name: benchWorker, Image: benchWorker, GPUs: 1, PolicyRoot: n.trust.Roots.Hash()})
	if err != nil {
		return nil, nil, err
	}
	bus, err := n.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	engine = stub.New(stub.Options{Slots: benchSlots})
	ready, failed := make(chan struct{}), make(chan error, 1)
	work, end := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		failed <- consumerscli.RunWorker(work, consumerscli.WorkerOptions{
			Bus: bus, Trust: n.trust, Attester: machine, Collateral: n.platform.Collateral(), Owner: benchOwner,
			Engines: map[schemas.ModelID]consumers.Engine{n.model.ID: engine},
			Guard:   consumers.GuardConfig{MemoryHigh: 1}, Ready: func(*consumers.Worker) { close(ready) },
		})
	}()
	if err := await(ctx, ready, failed); err != nil {
		end()
		return nil, nil, errors.Join(err, bus.Close(ctx))
	}
	return engine, func() error {
		end()
		return errors.Join(<-failed, bus.Close(context.Background()))
	}, nil
}

// client is a client of the tenant on a connection of its own; close ends both.
func (n *benchNet) client(ctx context.Context) (c *producers.Client, close func() error, err error) {
	bus, err := n.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	c, err = producers.New(bus, producers.Options{Tenant: n.tenant, Trust: n.trust, Verifier: n.verifier, Linkable: true})
	if err != nil {
		return nil, nil, errors.Join(err, bus.Close(ctx))
	}
	return c, func() error { return errors.Join(c.Close(context.Background()), bus.Close(context.Background())) }, nil
}

// close ends everything and removes the folder.
func (n *benchNet) close() error {
	n.stop()
	err := n.services.Wait()
	if n.bus != nil {
		err = errors.Join(err, n.bus.Close(context.Background()))
	}
	if n.server != nil {
		n.server.Close()
	}
	if n.ledger != nil {
		err = errors.Join(err, n.ledger.Close())
	}
	return errors.Join(err, os.RemoveAll(n.dir))
}
