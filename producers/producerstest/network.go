package producerstest

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/control"
	"github.com/cocoon-network/cocoon/streams/embedded"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// Model is the model of the network and ModelName what people type.
const (
	Model     = enclavetest.Model
	ModelName = "tiny"
)

// Network is the network.
type Network struct {
	// Net is its attested half.
	Net *enclavetest.Net
	// Bus is a connection of the operator's; Server is the nats-server.
	Bus    *streams.Bus
	Server *embedded.Server
	// Catalogue is the catalogue in force.
	Catalogue *schemas.Catalogue
	// DropChunk, when not nil, loses the n-th live chunk of a job, counted from 0. Set it before workers start.
	DropChunk func(n int) bool

	dir string
}

// Options change a network.
type Options struct {
	// Dir keeps the server's state. Default: a folder of the test.
	Dir string
	// Broker changes the broker.
	Broker func(*broker.Config)
	// Topology is applied to the server.
	Topology streams.Topology
	// Faults stand between the Bus and the server; clients have their own connections.
	Config streams.Config
}

// New starts a network without workers.
func New(t testing.TB) *Network {
	t.Helper()
	return NewWith(t, Options{})
}

// NewWith is New with options.
func NewWith(t testing.TB, o Options) *Network {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	n := &Network{dir: o.Dir}
	n.Server = streamstest.Server(t, embedded.Options{Dir: o.Dir, Port: -1})
	o.Config.URL = n.Server.URL() // not in process: it must outlive a restart of the server
	n.Bus = streamstest.Connect(t, n.Server, o.Config)
	if _, err := n.Bus.Apply(t.Context(), o.Topology); err != nil {
		t.Fatal(err)
	}
	adjust := o.Broker
	if adjust == nil {
		adjust = func(*broker.Config) {}
	}
	n.Net = enclavetest.New(t, adjust)
	n.Catalogue = enclavetest.NewCatalogue()
	n.Catalogue.Models[0].Endpoints = []string{
		"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/audio/speech", "/v1/audio/transcriptions",
	}
	n.Publish(t)
	return n
}

// Publish publishes policy, catalogue, collateral and the model's key as they are now.
func (n *Network) Publish(t testing.TB) {
	t.Helper()
	policy := n.Net.World.Policy()
	if current, err := n.Net.World.Keeper.Current(); err == nil {
		policy.Version = current.Version + 1
	}
	signed := n.Net.World.Sign(t, policy)
	if _, err := n.Net.World.Keeper.Offer(signed); err != nil {
		t.Fatal(err)
	}
	n.Put(t, streams.BucketPolicy, "current", signed)
	n.Net.Catalogue.Set(n.Catalogue)
	catalogue := n.Net.World.Sign(t, n.Catalogue)
	n.Put(t, streams.BucketCatalogue, "current", catalogue)
	n.Put(t, streams.BucketCatalogue, "v3", catalogue)
	documents, err := n.Net.World.Platform.Documents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range documents {
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		n.Put(t, streams.BucketCollateral, name, b)
	}
	n.PublishKey(t)
}

// PublishKey publishes the broker's current key for the model.
func (n *Network) PublishKey(t testing.TB) {
	t.Helper()
	key, err := n.Net.Broker.Key(t.Context(), Model)
	if err != nil {
		t.Fatal(err)
	}
	n.Put(t, streams.BucketKeys, n.Catalogue.Models[0].Slug, key)
}

// LoseKeys replaces the broker by one that never had its keys, as after a loss of all brokers, and publishes the new
// ones.
func (n *Network) LoseKeys(t testing.TB) {
	t.Helper()
	n.Net.Broker = n.Net.NewBroker(t, func(c *broker.Config) { c.Found = true })
	n.PublishKey(t)
}

// Put sets a key of a bucket.
func (n *Network) Put(t testing.TB, bucket streams.BucketName, key string, value []byte) {
	t.Helper()
	if _, err := n.Bus.Bucket(bucket).Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

// Trust is what a tenant of the network believes.
func (n *Network) Trust() schemas.Trust { return n.Net.World.Trust }

// Connect opens a connection of its own.
func (n *Network) Connect(t testing.TB) *streams.Bus {
	t.Helper()
	bus, err := streams.Connect(t.Context(), streams.Config{URL: n.Server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close(context.Background()) })
	return bus
}

// Client is a client of a fresh, funded tenant on a connection of its own. adjust may change its options.
func (n *Network) Client(t testing.TB, adjust ...func(*producers.Options)) *producers.Client {
	t.Helper()
	o := producers.Options{Tenant: n.Net.Tenant(t), Trust: n.Trust(), Logger: nil}
	for _, f := range adjust {
		f(&o)
	}
	c, err := producers.New(n.Connect(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// As has a client be a tenant that exists.
func As(tenant *enclave.Tenant) func(*producers.Options) {
	return func(o *producers.Options) { o.Tenant = tenant }
}

// With has a client keep a record.
func With(r producers.Record) func(*producers.Options) {
	return func(o *producers.Options) { o.Record = r }
}

// Owner is who earns.
const Owner = attesttest.Owner

// Wait is how long tests wait for what must happen.
const Wait = 30 * time.Second

// Control runs the operator's control service until the test ends: it cancels jobs, ends expired ones and splits queues.
func (n *Network) Control(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = control.New(n.Bus, control.Options{Poll: 100 * time.Millisecond}).Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	for {
		_, err := n.Bus.Cancel(t.Context(), schemas.NewTenantID(), schemas.NewJobID(), streams.Ack{})
		if errors.Is(err, schemas.KindNotFound) {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatalf("control does not answer: %v", err)
		}
	}
}

// Restart stops the server for a while and starts it again on the same folder and port. Connections come back by
// themselves.
func (n *Network) Restart(t testing.TB, away time.Duration) {
	t.Helper()
	address, err := url.Parse(n.Server.URL())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(address.Port())
	if err != nil {
		t.Fatal(err)
	}
	n.Server.Close()
	time.Sleep(away) // the outage is what is tested
	n.Server = streamstest.Server(t, embedded.Options{Dir: n.dir, Port: port})
}
