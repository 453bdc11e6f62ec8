//go:build !worker

package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/stub"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	enclavecli "github.com/cocoon-network/cocoon/enclave/cli"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/control"
	"github.com/cocoon-network/cocoon/streams/embedded"
)

// Names of what the benchmark runs on.
const (
	benchWorker = "bench-worker"
	benchBroker = "bench-broker"
	benchOwner  = schemas.Owner("0:00000000000000000000000000000000000000000000000000000000000000be")
)

// benchQueueCap is the most jobs of one tenant that wait: more than any benchmark submits.
const benchQueueCap = 2_000_000

// benchNet is a whole network in this process: a server with file storage, a broker on simulated hardware, and a rich
// tenant. Control and workers come when they are wanted.
type benchNet struct {
	dir      string
	server   *embedded.Server
	bus      *streams.Bus
	platform *sim.Platform
	trust    schemas.Trust
	tenant   *enclave.Tenant
	key      *enclave.TrustedKey
	model    schemas.Model
	request  []byte // the body of every job
	services *errgroup.Group
	life     context.Context // of the services
	stop     context.CancelFunc
}

// newBenchNet starts the network on a temporary folder. Close it.
func newBenchNet(ctx context.Context) (n *benchNet, err error) {
	dir, err := os.MkdirTemp("", "cocoon-bench-")
	if err != nil {
		return nil, err
	}
	n = &benchNet{dir: dir, request: benchRequest(), stop: func() {}}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if n.server, err = embedded.Start(embedded.Options{Dir: dir, InProcessOnly: true}); err != nil {
		return n, err
	}
	if n.bus, err = n.connect(ctx); err != nil {
		return n, err
	}
	if _, err = n.bus.Apply(ctx, streams.Topology{TenantQueue: benchQueueCap}); err != nil {
		return n, err
	}
	if err = n.publish(ctx); err != nil {
		return n, err
	}
	return n, n.serve(ctx)
}

// connect opens a connection of its own for one part of the network.
func (n *benchNet) connect(ctx context.Context) (*streams.Bus, error) {
	return streams.Connect(ctx, streams.Config{InProcess: n.server.InProcess(), Name: "bench"})
}

// publish makes hardware, a policy, a catalogue and a tenant, and publishes what others must know.
func (n *benchNet) publish(ctx context.Context) error {
	var seed [sim.SeedSize]byte
	rand.Read(seed[:])
	var err error
	if n.platform, err = sim.New(seed, sim.Options{}); err != nil {
		return err
	}
	public, root, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	n.trust.Environment = schemas.Simulated
	if n.trust.Roots, err = schemas.NewRootKeys(1, public); err != nil {
		return err
	}
	ref := schemas.ModelRef{Name: "bench", Revision: "1", Root: schemas.HashOf([]byte("no weights"))}
	n.model = schemas.Model{
		ID: ref.ID(), Slug: ref.Slug(), Format: "gguf", Context: 1 << 20, Endpoints: []string{consumers.PathChat},
		Price: schemas.Price{Prompt: 1_000_000, Cached: 100_000, Completion: 4_000_000, Reasoning: 4_000_000},
	}
	now := time.Now().UTC().Truncate(time.Second)
	catalogue := &schemas.Catalogue{
		V: 1, Version: 1, Issued: now, Expires: now.Add(24 * time.Hour), Environment: schemas.Simulated, FeeBP: 500,
		Classes: map[schemas.Class]schemas.BasisPoints{schemas.Priority: 20_000, schemas.Standard: 10_000, schemas.Batch: 5_000},
		Models:  []schemas.Model{n.model},
	}
	policy := n.platform.Policy(sim.PolicySpec{
		Images: []sim.ImageRule{
			{Name: benchWorker, Role: schemas.RoleWorker, MaxGPUs: 1}, {Name: benchBroker, Role: schemas.RoleBroker},
		},
		Models: []schemas.ModelID{n.model.ID},
	})
	if err := n.post(ctx, streams.BucketPolicy, policy, root); err != nil {
		return err
	}
	if err := n.post(ctx, streams.BucketCatalogue, catalogue, root); err != nil {
		return err
	}
	n.tenant, err = n.newTenant(ctx)
	return err
}

// post signs a document and publishes it as the current one.
func (n *benchNet) post(ctx context.Context, bucket streams.BucketName, d schemas.Document, root ed25519.PrivateKey) error {
	signed, err := schemas.SignDocument(d, root)
	if err != nil {
		return err
	}
	b, err := signed.Encode()
	if err != nil {
		return err
	}
	_, err = n.bus.Bucket(bucket).Put(ctx, "current", b)
	return err
}

// newTenant makes a tenant with more credit than any benchmark spends.
func (n *benchNet) newTenant(ctx context.Context) (*enclave.Tenant, error) {
	tenant, err := enclave.NewTenant()
	if err != nil {
		return nil, err
	}
	credit, err := json.Marshal(schemas.Credit{
		V: 1, Available: 1 << 60, Key: tenant.Public(), Updated: time.Now().UTC().Truncate(time.Second),
	})
	if err != nil {
		return nil, err
	}
	_, err = n.bus.Bucket(streams.BucketCredit).Put(ctx, string(tenant.ID()), credit)
	return tenant, err
}

// serve starts the broker and verifies the model's key as a producer would.
func (n *benchNet) serve(ctx context.Context) error {
	machine, err := n.platform.Boot(ctx, sim.MachineSpec{Name: benchBroker, Image: benchBroker, PolicyRoot: n.trust.Roots.Hash()})
	if err != nil {
		return err
	}
	brokerBus, err := n.connect(ctx)
	if err != nil {
		return err
	}
	n.life, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	ready, failed := make(chan struct{}), make(chan error, 1)
	n.services = &errgroup.Group{}
	n.services.Go(func() error {
		err := enclavecli.ServeBroker(n.life, enclavecli.BrokerOptions{
			Bus: brokerBus, Attester: machine, Trust: n.trust, Collateral: n.platform.Collateral(), Found: true,
			Ready: func(*broker.Broker) { close(ready) },
		})
		failed <- err
		return errors.Join(err, brokerBus.Close(context.Background()))
	})
	select {
	case <-ready:
	case err := <-failed:
		return err
	}
	n.key, err = n.verifiedKey(ctx)
	return err
}

// control starts the control service. It is not there before: it would split a queue that is full into lanes, and the
// reference programs know nothing of lanes.
func (n *benchNet) control(ctx context.Context) error {
	bus, err := n.connect(ctx)
	if err != nil {
		return err
	}
	n.services.Go(func() error {
		err := control.New(bus, control.Options{}).Run(n.life)
		return errors.Join(err, bus.Close(context.Background()))
	})
	return nil
}

// verifiedKey is the model's key, verified under the policy.
func (n *benchNet) verifiedKey(ctx context.Context) (*enclave.TrustedKey, error) {
	keeper, err := attest.NewKeeper(n.trust, attest.KeeperOptions{})
	if err != nil {
		return nil, err
	}
	policy, err := n.bus.Bucket(streams.BucketPolicy).Get(ctx, "current")
	if err != nil {
		return nil, err
	}
	if _, err := keeper.Offer(policy.Value); err != nil {
		return nil, err
	}
	verifier, err := attest.NewVerifier(attest.Options{Policy: keeper, Collateral: n.platform.Collateral()})
	if err != nil {
		return nil, err
	}
	published, err := n.bus.Bucket(streams.BucketKeys).Get(ctx, n.model.Slug)
	if err != nil {
		return nil, err
	}
	return enclave.VerifyKey(ctx, verifier, n.model.ID, published.Value)
}

// close ends everything and removes the folder.
func (n *benchNet) close() error {
	n.stop()
	var err error
	if n.services != nil {
		err = n.services.Wait()
	}
	if n.bus != nil {
		err = errors.Join(err, n.bus.Close(context.Background()))
	}
	if n.server != nil {
		n.server.Close()
	}
	return errors.Join(err, os.RemoveAll(n.dir))
}

// benchCrew is some workers of the network, each with a connection, a machine and an engine of its own.
type benchCrew struct {
	stop    context.CancelFunc
	running *errgroup.Group
}

// crew starts n workers with stub engines and waits until all of them serve.
func (n *benchNet) crew(ctx context.Context, workers int, engine stub.Options) (*benchCrew, error) {
	return n.crewOf(ctx, workers, func() consumers.Engine { return stub.New(engine) })
}

// serveOn starts one worker on an engine, which stays the caller's, waits until it serves, and returns what ends it.
func (n *benchNet) serveOn(ctx context.Context, engine consumers.Engine) (end func() error, err error) {
	c, err := n.crewOf(ctx, 1, func() consumers.Engine { return engine })
	if err != nil {
		return nil, err
	}
	return c.end, nil
}

// crewOf starts n workers and waits until all of them serve. Each gets the engine that engine makes.
func (n *benchNet) crewOf(ctx context.Context, workers int, engine func() consumers.Engine) (*benchCrew, error) {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &benchCrew{stop: stop, running: &errgroup.Group{}}
	ready := make(chan struct{}, workers)
	failed := make(chan error, workers)
	for range workers {
		c.running.Go(func() error {
			err := n.work(work, engine(), func() { ready <- struct{}{} })
			failed <- err
			return err
		})
	}
	for range workers {
		select {
		case <-ready:
		case err := <-failed:
			return nil, errors.Join(err, c.end())
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), c.end())
		}
	}
	return c, nil
}

// work runs one worker until ctx ends.
func (n *benchNet) work(ctx context.Context, engine consumers.Engine, ready func()) error {
	bus, err := n.connect(ctx)
	if err != nil {
		return err
	}
	machine, err := n.platform.Boot(ctx, sim.MachineSpec{Name: benchWorker, Image: benchWorker, GPUs: 1, PolicyRoot: n.trust.Roots.Hash()})
	if err != nil {
		return err
	}
	err = RunWorker(ctx, WorkerOptions{
		Bus: bus, Trust: n.trust, Attester: machine, Collateral: n.platform.Collateral(), Owner: benchOwner,
		Engines: map[schemas.ModelID]consumers.Engine{n.model.ID: engine},
		Guard:   consumers.GuardConfig{MemoryHigh: 1},
		Ready:   func(*consumers.Worker) { ready() },
	})
	return errors.Join(err, bus.Close(context.WithoutCancel(ctx)))
}

// end drains the workers.
func (c *benchCrew) end() error {
	c.stop()
	return c.running.Wait()
}
