//go:build !worker

package cli_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/cli"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/access"
	"github.com/cocoon-network/cocoon/streams/embedded"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// seedFile makes a key pair with its seed in a file.
func seedFile(t *testing.T, make func() (nkeys.KeyPair, error)) (public, file string) {
	t.Helper()
	pair, err := make()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	return public, file
}

// realServer is a server with the production layout, and the logins of its services.
type realServer struct {
	url      string
	services map[access.Role]string
	// user, issuer and xkey are the seeds of those who answer the server's questions about workers.
	user, issuer, xkey string
}

// newRealServer starts one and shapes its streams.
func newRealServer(t *testing.T) *realServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	s := &realServer{services: map[access.Role]string{}}
	layout := access.Network{Server: access.Server{Listen: "127.0.0.1:" + strconv.Itoa(port)}, Services: map[access.Role]string{}}
	for _, role := range append(access.Services(), access.RoleHost) {
		layout.Services[role], s.services[role] = seedFile(t, nkeys.CreateUser)
	}
	layout.System, _ = seedFile(t, nkeys.CreateUser)
	layout.Callout, s.user = seedFile(t, nkeys.CreateUser)
	layout.Issuer, s.issuer = seedFile(t, nkeys.CreateAccount)
	layout.XKey, s.xkey = seedFile(t, nkeys.CreateCurveKeys)
	conf, err := access.Production(layout)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	s.url = streamstest.Server(t, embedded.Options{ConfigFile: file}).URL()
	if _, err := s.as(t, access.RoleOperator).Apply(t.Context(), streams.Topology{}); err != nil {
		t.Fatal(err)
	}
	return s
}

// as connects as a service.
func (s *realServer) as(t *testing.T, role access.Role) *streams.Bus {
	t.Helper()
	return streamstest.Connect(t, nil, streams.Config{URL: s.url, NKeySeedFile: s.services[role], Inbox: access.Inbox(string(role))})
}

// callout has a broker answer the server's questions, over a connection of its own.
func (s *realServer) callout(t *testing.T) *cli.CalloutOptions {
	t.Helper()
	own := streamstest.Connect(t, nil, streams.Config{URL: s.url, NKeySeedFile: s.user})
	return &cli.CalloutOptions{Bus: own, Issuer: s.issuer, XKey: s.xkey, Lanes: 16}
}

// login logs a worker in.
func (s *realServer) login(t *testing.T, worker *enclave.Session) (*streams.Bus, error) {
	t.Helper()
	bus, err := cli.AttestedLogin(t.Context(), streams.Config{URL: s.url, Name: "worker"}, worker)
	if err == nil {
		t.Cleanup(func() { _ = bus.Close(context.WithoutCancel(t.Context())) })
	}
	return bus, err
}

// TestAttestedLogin: on a server with the production layout, evidence is what a worker logs in with; the session and the
// grant then go through the workers' account, and who is not admitted does not get in.
func TestAttestedLogin(t *testing.T) {
	t.Parallel()
	server := newRealServer(t)
	n := &network{net: enclavetest.New(t), bus: server.as(t, access.RoleOperator)}
	n.documents(t)
	n.bus = server.as(t, access.RoleBroker)
	_, stop := n.serve(t, cli.BrokerOptions{Found: true, Callout: server.callout(t)})
	defer stop()

	worker := n.net.NewSession(t)
	bus, err := server.login(t, worker)
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Attest(t.Context(), cli.BrokerCall(bus)); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Bucket(streams.BucketPolicy).Put(t.Context(), "current", []byte("x")); !errors.Is(err, schemas.KindDenied) {
		t.Errorf("a worker publishes a policy: %v", err)
	}
	stranger := n.net.NewSession(t, func(c *enclave.SessionConfig) {
		c.Attester = n.net.World.Boot(t, sim.MachineSpec{Name: "x", Image: "stranger", GPUs: 1, PolicyRoot: n.net.World.Trust.Roots.Hash()})
	})
	if _, err := server.login(t, stranger); !errors.Is(err, schemas.KindDenied) {
		t.Errorf("a stranger logged in: %v", err)
	}
}

// TestBrokersJoinInProduction: with the rights of production, each broker on a connection of its own, a second one joins by
// mutual attestation; the two answer as one queue group, tell each other about leases, and the second goes on alone.
func TestBrokersJoinInProduction(t *testing.T) {
	t.Parallel()
	server := newRealServer(t)
	n := &network{net: enclavetest.New(t), bus: server.as(t, access.RoleOperator)}
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
	n.bus = server.as(t, access.RoleSettler)
	n.put(t, streams.BucketCredit, string(n.tenant.ID()), encoded)
	n.bus = server.as(t, access.RoleBroker)
	first, stop := n.serve(t, cli.BrokerOptions{Found: true, Callout: server.callout(t)})
	n.bus = server.as(t, access.RoleBroker)
	second, stopSecond := n.serve(t, cli.BrokerOptions{Join: true, Callout: server.callout(t)})
	defer stopSecond()
	if !first.Public().Equal(second.Public()) {
		t.Fatal("the brokers are not one group")
	}
	worker := n.net.NewSession(t)
	if n.bus, err = server.login(t, worker); err != nil {
		t.Fatal(err)
	}
	if err := worker.Attest(t.Context(), cli.BrokerCall(n.bus)); err != nil {
		t.Fatal(err)
	}
	for range 8 { // whoever of the two answers
		n.granted(t, worker)
	}
	stop()
	n.granted(t, worker)
	again := n.net.NewSession(t)
	if _, err := server.login(t, again); err != nil {
		t.Errorf("a login at the second broker: %v", err)
	}
}

// granted has a worker granted one job and checks that its lease is known to whoever answers next.
func (n *network) granted(t *testing.T, worker *enclave.Session) {
	t.Helper()
	published, err := n.bus.Bucket(streams.BucketKeys).Get(t.Context(), enclavetest.NewCatalogue().Models[0].Slug)
	if err != nil {
		t.Fatal(err)
	}
	key, err := enclave.VerifyKey(t.Context(), n.net, enclavetest.Model, published.Value)
	if err != nil {
		t.Fatal(err)
	}
	sealed := n.net.Seal(t, enclave.NewSubmission(n.tenant, key), "hello")
	granted, err := worker.Grant(t.Context(), cli.BrokerCall(n.bus), []enclave.Candidate{enclavetest.Candidate(sealed)})
	if err != nil || granted[0].Err != nil {
		t.Fatalf("no grant: %v, %+v", err, granted)
	}
	if errs, err := worker.Renew(t.Context(), cli.BrokerCall(n.bus), []*enclave.OpenJob{granted[0].Job}); err != nil || errs[0] != nil {
		t.Errorf("not renewed: %v, %v", err, errs)
	}
}
