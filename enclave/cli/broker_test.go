//go:build !worker

package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/enclave/cli"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// network is a bus with a policy, a catalogue and one funded tenant.
type network struct {
	net    *enclavetest.Net
	bus    *streams.Bus
	tenant *enclave.Tenant
}

// setup makes a bus on which everything is published that brokers follow.
func setup(t *testing.T) *network {
	t.Helper()
	n := &network{net: enclavetest.New(t), bus: streamstest.New(t)}
	n.documents(t)
	n.tenant = n.net.Tenant(t)
	credit, err := n.net.Credit.Account(t.Context(), n.tenant.ID())
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := credit.Encode()
	if err != nil {
		t.Fatal(err)
	}
	n.put(t, streams.BucketCredit, string(n.tenant.ID()), encoded)
	return n
}

// documents publishes policy and catalogue.
func (n *network) documents(t *testing.T) {
	t.Helper()
	policy := n.net.World.Policy()
	policy.Version++
	signed := n.net.World.Sign(t, policy)
	if _, err := n.net.World.Keeper.Offer(signed); err != nil {
		t.Fatal(err)
	}
	n.put(t, streams.BucketPolicy, "current", signed)
	n.put(t, streams.BucketCatalogue, "current", n.net.World.Sign(t, enclavetest.NewCatalogue()))
}

// put sets one value.
func (n *network) put(t *testing.T, bucket streams.BucketName, key string, value []byte) {
	t.Helper()
	if _, err := n.bus.Bucket(bucket).Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

// serve runs a broker until stop is called, and returns when it is ready.
func (n *network) serve(t *testing.T, o cli.BrokerOptions) (b *broker.Broker, stop func()) {
	t.Helper()
	o.Bus, o.Trust, o.Collateral = n.bus, n.net.World.Trust, n.net.World.Platform.Collateral()
	o.Attester = n.net.World.Boot(t, sim.MachineSpec{Name: "broker", Image: attesttest.BrokerImage, PolicyRoot: o.Trust.Roots.Hash()})
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan *broker.Broker, 1), make(chan error, 1)
	o.Ready = func(b *broker.Broker) { ready <- b }
	go func() { ended <- cli.ServeBroker(ctx, o) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the broker ended with %v", err)
		}
	}
	select {
	case b = <-ready:
		return b, stop
	case err := <-ended:
		t.Fatalf("the broker did not start: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("the broker was not ready in time")
	}
	return nil, nil
}

// run takes one job the whole way over the bus.
func (n *network) run(t *testing.T) error {
	t.Helper()
	ref, err := schemas.ParseModelID(string(enclavetest.Model))
	if err != nil {
		t.Fatal(err)
	}
	published, err := n.bus.Bucket(streams.BucketKeys).Get(t.Context(), ref.Slug())
	if err != nil {
		t.Fatal(err)
	}
	key, err := enclave.VerifyKey(t.Context(), n.net, enclavetest.Model, published.Value)
	if err != nil {
		t.Fatal(err)
	}
	sealed := n.net.Seal(t, enclave.NewSubmission(n.tenant, key), "hello")
	worker := n.net.NewSession(t)
	granted, err := worker.Grant(t.Context(), cli.BrokerCall(n.bus), []enclave.Candidate{enclavetest.Candidate(sealed)})
	if err != nil {
		return err
	}
	if granted[0].Err != nil {
		return granted[0].Err
	}
	outcome, err := granted[0].Job.Finish(enclavetest.Result([]byte("hi")), time.Now(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := n.tenant.OpenResult(outcome, enclave.Expect{Envelope: sealed.Hash, Broker: key.Broker()})
	if err != nil || string(answer.Result.Body) != "hi" {
		t.Errorf("%s, %v", answer.Result.Body, err)
	}
	return nil
}

func TestServeBroker(t *testing.T) {
	t.Parallel()
	n := setup(t)
	dir := t.TempDir()
	sealer, err := broker.NewFileSealer(filepath.Join(dir, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	stored := cli.BrokerOptions{Documents: n.net.World.Platform.Documents, Store: broker.NewFileStore(filepath.Join(dir, "state")), Sealer: sealer, Found: true}
	metrics := prometheus.NewPedanticRegistry()
	stored.Metrics = metrics
	first, stop := n.serve(t, stored)
	if err := n.run(t); err != nil {
		t.Fatal(err)
	}
	if got := counted(t, metrics, "cocoon_broker_decisions_total"); got < 2 { // a session and a grant
		t.Errorf("%v decisions were counted", got)
	}
	if got := counted(t, metrics, "cocoon_epoch_ends_timestamp_seconds"); time.Unix(int64(got), 0).Before(time.Now()) {
		t.Errorf("the epoch ends at %v", got)
	}
	n.shown(t)
	stored.Metrics = nil
	err = &schemas.Error{Kind: schemas.KindNotFound}
	for deadline := time.Now().Add(10 * time.Second); errors.Is(err, schemas.KindNotFound) && time.Now().Before(deadline); {
		_, err = cli.CollateralStore(n.bus).Load(t.Context(), "qe")
	}
	if err != nil {
		t.Errorf("no collateral: %v", err)
	}
	// Another broker joins the group over the bus; the two answer as one.
	second, stopSecond := n.serve(t, cli.BrokerOptions{Join: true})
	if !first.Public().Equal(second.Public()) {
		t.Fatal("the brokers are not one group")
	}
	stop()
	if err := n.run(t); err != nil {
		t.Fatal(err)
	}
	stopSecond()
	// All brokers stop; the first starts again from its sealed state.
	again, stopAgain := n.serve(t, stored)
	defer stopAgain()
	if !first.Public().Equal(again.Public()) {
		t.Fatal("the broker came back as another group")
	}
	if err := n.run(t); err != nil {
		t.Fatal(err)
	}
}

// shown holds what operators are shown about evidence against what was decided: the session of run, and a worker of an image
// that the policy does not name.
func (n *network) shown(t *testing.T) {
	t.Helper()
	stranger := n.net.NewSession(t, func(c *enclave.SessionConfig) {
		c.Attester = n.net.World.Boot(t, sim.MachineSpec{Name: "host-9", Image: "stranger", GPUs: 1, PolicyRoot: n.net.World.Trust.Roots.Hash()})
	})
	if err := stranger.Attest(t.Context(), cli.BrokerCall(n.bus)); !errors.Is(err, schemas.KindPolicy) {
		t.Fatalf("a stranger got %v", err)
	}
	for _, c := range []struct {
		prefix string
		right  func(schemas.Finding) bool
	}{
		{streams.PrefixAdmitted, func(f schemas.Finding) bool {
			return f.Kind == schemas.KindUnknown && f.Image == attesttest.WorkerImage && f.TDX != nil && len(f.GPUs) == 1 && f.Broker != "" && !f.NotAfter.IsZero()
		}},
		{streams.PrefixRefused, func(f schemas.Finding) bool {
			return f.Kind == schemas.KindPolicy && f.Worker == stranger.ID() && f.Field != "" && f.Advice != "" && f.TDX != nil && f.Image == ""
		}},
	} {
		var entries []streams.Entry
		for deadline := time.Now().Add(20 * time.Second); len(entries) == 0 && time.Now().Before(deadline); {
			var err error
			if entries, err = n.bus.Bucket(streams.BucketEvidence).List(t.Context(), c.prefix+"*"); err != nil {
				t.Fatal(err)
			}
		}
		if len(entries) != 1 {
			t.Fatalf("%s: %d findings", c.prefix, len(entries))
		}
		if f, err := streams.ParseFinding(entries[0].Value); err != nil || !c.right(f) {
			t.Errorf("%s: %s, %v", c.prefix, entries[0].Value, err)
		}
	}
}

// counted sums a metric.
func counted(t *testing.T, g prometheus.Gatherer, name string) (sum float64) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func TestServeBrokerWithoutCredit(t *testing.T) {
	t.Parallel()
	n := setup(t)
	_, stop := n.serve(t, cli.BrokerOptions{Found: true})
	defer stop()
	n.tenant = n.net.Tenant(t) // its credit is never published
	if err := n.run(t); !errors.Is(err, schemas.KindCredit) {
		t.Errorf("got %v, want %s", err, schemas.KindCredit)
	}
}

func TestServeBrokerMustNotFound(t *testing.T) {
	t.Parallel()
	n := setup(t)
	world := n.net.World
	err := cli.ServeBroker(t.Context(), cli.BrokerOptions{
		Bus: n.bus, Trust: world.Trust, Collateral: world.Platform.Collateral(),
		Attester: world.Boot(t, sim.MachineSpec{Name: "broker", Image: attesttest.BrokerImage, PolicyRoot: world.Trust.Roots.Hash()}),
	})
	if !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("got %v, want %s", err, schemas.KindNotFound)
	}
}

// TestServeBrokerFollowsStanding: what control thinks of a worker's owner reaches the grants.
func TestServeBrokerFollowsStanding(t *testing.T) {
	t.Parallel()
	n := setup(t)
	_, stop := n.serve(t, cli.BrokerOptions{Found: true})
	defer stop()
	value, err := json.Marshal(streams.Reputation{
		Owner: attesttest.Owner, Standing: streams.StandingSuspended, Windows: []streams.ReputationWindow{}, Updated: time.Now().UTC().Truncate(time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.run(t); err != nil {
		t.Fatal(err)
	}
	n.put(t, streams.BucketWorkers, streams.KeyOwner(attesttest.Owner), value)
	for deadline := time.Now().Add(10 * time.Second); ; {
		if err = n.run(t); err != nil || time.Now().After(deadline) {
			break
		}
	}
	if !errors.Is(err, schemas.KindDenied) {
		t.Errorf("got %v, want %s", err, schemas.KindDenied)
	}
}
