package cli_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/cocoon-network/cocoon/schemas"
	shared "github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/access"
	"github.com/cocoon-network/cocoon/streams/callout"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestAccountLogsIn: what `account create` makes is a way into a server with the production configuration: to the
// tenant's own jobs and outcomes, and to nothing of others.
func TestAccountLogsIn(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	dir := filepath.Join(s.dir, "keys")
	address := freeAddress(t)
	keys := access.OpenKeys(dir)
	s.code(shared.ExitNotFound, "account", "create", "alice", "--identity", filepath.Join(s.dir, "alice.json"), "--nats-keys", dir) // no keys yet
	if err := keys.Make(access.KeysOptions{URL: "tls://" + address, Hosts: []string{"127.0.0.1"}}); err != nil {
		t.Fatal(err)
	}
	made := map[string]login{}
	for _, name := range []string{"alice", "bob"} {
		var l login
		s.ok(&l, "account", "create", name, "--identity", filepath.Join(s.dir, name+".json"), "--nats-keys", dir)
		made[name] = l
	}
	serveKeys(t, keys, dir, address)

	alice, bob := made["alice"], made["bob"]
	bus := connectContext(t, alice.Context)
	other := connectContext(t, bob.Context)
	operator := connectContext(t, filepath.Join(dir, string(access.RoleOperator), access.FileContext))
	if _, err := operator.Apply(t.Context(), streams.Topology{}); err != nil {
		t.Fatal(err)
	}
	job := func(of login) string { return "jobs.0.tiny.standard." + string(of.Tenant) }
	if _, err := bus.Call(t.Context(), job(alice), []byte("sealed")); err != nil {
		t.Errorf("alice submits: %v", err)
	}
	if _, err := other.Call(t.Context(), job(bob), []byte("sealed")); err != nil {
		t.Errorf("bob submits: %v", err)
	}
	for _, subject := range []string{
		job(bob), "$JS.API.DIRECT.GET.OUT.out." + string(bob.Tenant) + ".x", "$KV.CREDIT." + string(alice.Tenant), "$JS.API.STREAM.DELETE.OUT",
	} {
		if _, err := bus.Call(t.Context(), subject, []byte("x")); !errors.Is(err, schemas.KindDenied) {
			t.Errorf("alice may send to %s: %v", subject, err)
		}
	}
}

// login is what the test reads of a new account.
type login struct {
	Tenant  schemas.TenantID `json:"tenant"`
	Context string           `json:"nats_context"`
}

// freeAddress finds a port that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// serveKeys runs a server with the production configuration of a folder of keys, and the callout service beside it, which
// knows nobody without a pass.
func serveKeys(t *testing.T, keys access.Keys, dir, address string) {
	t.Helper()
	n, err := keys.Network()
	if err != nil {
		t.Fatal(err)
	}
	certificates := filepath.Join(dir, access.FolderServer)
	n.Server = access.Server{
		Listen: address, Store: t.TempDir(), CAFile: filepath.Join(certificates, access.FileCA),
		CertFile: filepath.Join(certificates, access.FileCert), KeyFile: filepath.Join(certificates, access.FileKey),
	}
	text, err := access.Production(n)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	options.NoSigs, options.NoLog = true, true
	nats, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	nats.Start()
	t.Cleanup(func() { nats.Shutdown(); nats.WaitForShutdown() })
	if !nats.ReadyForConnections(time.Minute) {
		t.Fatal("the server does not listen")
	}
	admit(t, connectContext(t, filepath.Join(dir, access.FolderCallout, access.FileContext)), filepath.Join(dir, access.FolderCallout))
}

// admit runs the callout service until the test ends.
func admit(t *testing.T, bus *streams.Bus, dir string) {
	t.Helper()
	service, err := callout.New(bus.Conn(), callout.Options{
		Issuer: seedOf(t, dir, access.FileIssuer), XKey: seedOf(t, dir, access.FileXKey),
		Decide: func(context.Context, callout.Request) (callout.Grant, error) {
			return callout.Grant{}, schemas.Errorf(schemas.KindDenied, "no pass")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- service.Run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() { stop(); <-ended })
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
}

// seedOf reads a key pair.
func seedOf(t *testing.T, path ...string) nkeys.KeyPair {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(text))))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// connectContext logs in as the context file of a user says.
func connectContext(t *testing.T, path string) *streams.Bus {
	t.Helper()
	bus, err := streams.Connect(streamstest.Context(t), streams.Config{Context: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close(context.WithoutCancel(t.Context())) })
	return bus
}
