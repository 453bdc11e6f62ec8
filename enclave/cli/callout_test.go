//go:build !worker

package cli_test

import (
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

// TestAttestedLogin: on a server with the production layout, evidence is what a worker logs in with; the session and the
// grant then go through the workers' account, and who is not admitted does not get in.
func TestAttestedLogin(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	layout := access.Network{Server: access.Server{Listen: "127.0.0.1:" + strconv.Itoa(port)}, Services: map[access.Role]string{}}
	services := map[access.Role]string{}
	for _, role := range append(access.Services(), access.RoleHost) {
		layout.Services[role], services[role] = seedFile(t, nkeys.CreateUser)
	}
	layout.System, _ = seedFile(t, nkeys.CreateUser)
	var user, issuer, xkey string
	layout.Callout, user = seedFile(t, nkeys.CreateUser)
	layout.Issuer, issuer = seedFile(t, nkeys.CreateAccount)
	layout.XKey, xkey = seedFile(t, nkeys.CreateCurveKeys)
	conf, err := access.Production(layout)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	url := streamstest.Server(t, embedded.Options{ConfigFile: file}).URL()
	as := func(role access.Role) *streams.Bus {
		return streamstest.Connect(t, nil, streams.Config{URL: url, NKeySeedFile: services[role], Inbox: access.Inbox(string(role))})
	}
	operator := as(access.RoleOperator)
	if _, err := operator.Apply(t.Context(), streams.Topology{}); err != nil {
		t.Fatal(err)
	}
	n := &network{net: enclavetest.New(t), bus: operator}
	n.documents(t)
	n.bus = as(access.RoleBroker)
	own := streamstest.Connect(t, nil, streams.Config{URL: url, NKeySeedFile: user})
	_, stop := n.serve(t, cli.BrokerOptions{Found: true, Callout: &cli.CalloutOptions{Bus: own, Issuer: issuer, XKey: xkey, Lanes: 16}})
	defer stop()

	login := func(s *enclave.Session) (*streams.Bus, error) {
		return cli.AttestedLogin(t.Context(), streams.Config{URL: url, Name: "worker"}, s)
	}
	worker := n.net.NewSession(t)
	bus, err := login(worker)
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close(t.Context())
	if err := worker.Attest(t.Context(), cli.BrokerCall(bus)); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Bucket(streams.BucketPolicy).Put(t.Context(), "current", []byte("x")); !errors.Is(err, schemas.KindDenied) {
		t.Errorf("a worker publishes a policy: %v", err)
	}
	stranger := n.net.NewSession(t, func(c *enclave.SessionConfig) {
		c.Attester = n.net.World.Boot(t, sim.MachineSpec{Name: "x", Image: "stranger", GPUs: 1, PolicyRoot: n.net.World.Trust.Roots.Hash()})
	})
	if bus, err := login(stranger); !errors.Is(err, schemas.KindDenied) {
		t.Errorf("a stranger logged in: %v", err)
		if err == nil {
			_ = bus.Close(t.Context())
		}
	}
}
