package access_test

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/access"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// keyFolder makes a folder of keys for a server on this machine, which is to be a member of a cluster.
func keyFolder(t *testing.T, url string) (access.Keys, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	keys := access.OpenKeys(dir)
	if err := keys.Make(access.KeysOptions{URL: url, Hosts: []string{"127.0.0.1", "nats.example"}}); err != nil {
		t.Fatal(err)
	}
	return keys, dir
}

// secured are the settings of a server with the folder's certificates.
func secured(dir, address string) access.Server {
	server := filepath.Join(dir, access.FolderServer)
	return access.Server{
		Listen:   address,
		CertFile: filepath.Join(server, access.FileCert), KeyFile: filepath.Join(server, access.FileKey), CAFile: filepath.Join(server, access.FileCA),
	}
}

// as logs in with the folder of a user.
func as(t *testing.T, dir, user string, change ...func(*streams.Config)) (*streams.Bus, error) {
	t.Helper()
	c := streams.Config{Context: filepath.Join(dir, user, access.FileContext)}
	for _, f := range change {
		f(&c)
	}
	b, err := streams.Connect(streamstest.Context(t), c)
	if err == nil {
		t.Cleanup(func() { _ = b.Close(t.Context()) }) // the test has ended
	}
	return b, err
}

// seed reads a key pair of a folder of keys.
func seed(t *testing.T, path ...string) nkeys.KeyPair {
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

// door runs the callout service of a folder of keys.
func door(t *testing.T, dir string) {
	t.Helper()
	bus, err := as(t, dir, access.FolderCallout)
	if err != nil {
		t.Fatal(err)
	}
	admitPasses(t, bus, seed(t, dir, access.FolderCallout, access.FileIssuer), seed(t, dir, access.FolderCallout, access.FileXKey))
}

// TestKeysCluster runs three servers on nothing but a folder of keys: TLS to clients and between servers, an account per
// tenant. Roles log in with the folder made for them and have streams with three replicas.
func TestKeysCluster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three servers")
	}
	clients, routes := make([]string, 3), make([]string, 3)
	var urls, routeURLs []string
	for i := range clients {
		clients[i], routes[i] = listen(t), listen(t)
		urls, routeURLs = append(urls, "tls://"+clients[i]), append(routeURLs, "nats://"+routes[i])
	}
	keys, dir := keyFolder(t, strings.Join(urls, ","))
	tenant := schemas.NewTenantID()
	if _, err := keys.AddTenant(tenant); err != nil {
		t.Fatal(err)
	}
	n, err := keys.Network()
	if err != nil {
		t.Fatal(err)
	}
	for i := range clients {
		n.Server = secured(dir, clients[i])
		n.Server.Name, n.Server.Cluster, n.Server.Routes, n.Server.Store = "nats-"+clients[i][10:], routes[i], routeURLs, t.TempDir()
		start(t, n)
	}
	ctx := streamstest.Context(t)
	var operator *streams.Bus
	waitFor(t, "the cluster has a leader", func() bool {
		if operator == nil {
			if operator, err = as(t, dir, string(access.RoleOperator)); err != nil {
				return false
			}
		}
		_, err = operator.Apply(ctx, streams.Topology{Lanes: lanes, Replicas: 3})
		return err == nil
	})
	door(t, dir)
	producer, err := as(t, dir, string(tenant))
	if err != nil {
		t.Fatal(err)
	}
	job := streamstest.Job(tenant, []byte("sealed"), nil)
	if _, err := producer.PublishJob(ctx, job); err != nil {
		t.Errorf("the tenant publishes: %v", err)
	}
	for _, role := range append(access.Services(), access.RoleHost) {
		b, err := as(t, dir, string(role))
		if err != nil {
			t.Errorf("%s: %v", role, err)
			continue
		}
		if _, err := b.Bucket(streams.BucketPolicy).Get(ctx, "current"); !errors.Is(err, schemas.KindNotFound) {
			t.Errorf("%s looks for a policy: %v", role, err)
		}
	}
}

// start runs a server on the production layout, and returns what reloads it.
func start(t *testing.T, n access.Network) (reload func(access.Network)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	write := func(n access.Network) {
		text, err := access.Production(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(n)
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	options.NoSigs, options.NoLog = true, true
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return func(n access.Network) {
		write(n)
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeysTLS: who cannot show a certificate of the network, trusts another authority, or speaks in the clear, does not get
// in; a tenant gets in once the servers have read the new configuration, without a restart.
func TestKeysTLS(t *testing.T) {
	t.Parallel()
	address := listen(t)
	keys, dir := keyFolder(t, "tls://"+address)
	_, foreign := keyFolder(t, "tls://"+address)
	n, err := keys.Network()
	if err != nil {
		t.Fatal(err)
	}
	n.Server = secured(dir, address)
	n.Server.Store = t.TempDir()
	reload := start(t, n)
	waitFor(t, "the server listens", func() bool { _, err := as(t, dir, string(access.RoleOperator)); return err == nil })

	door(t, dir)
	other := filepath.Join(foreign, string(access.RoleOperator))
	var tries sync.WaitGroup // each of them tries until its time is up
	for what, change := range map[string]func(*streams.Config){
		"without a certificate": func(c *streams.Config) {
			// The context's certificate is left out by naming everything but it.
			*c = streams.Config{URL: "tls://" + address, NKeySeedFile: filepath.Join(dir, "operator", access.FileUser), CAFile: filepath.Join(dir, access.FileCA)}
		},
		"with a certificate of another network": func(c *streams.Config) {
			c.CertFile, c.CertKeyFile = filepath.Join(other, access.FileCert), filepath.Join(other, access.FileKey)
		},
		"trusting another authority": func(c *streams.Config) { c.CAFile = filepath.Join(other, access.FileCA) },
		"trusting only the system":   func(c *streams.Config) { c.CAFile = ""; c.Context = ""; c.URL = "tls://" + address },
		"with an old version of TLS": func(c *streams.Config) { c.TLS = &tls.Config{MaxVersion: tls.VersionTLS11} }, //nolint:gosec // refused is the point
		"with the key of a stranger": func(c *streams.Config) { c.NKeySeedFile = filepath.Join(other, access.FileUser) },
		"without any key of the file": func(c *streams.Config) {
			c.User, c.Password = "operator", "operator"
			c.Context = ""
			c.URL = "tls://" + address
		},
	} {
		tries.Go(func() {
			if _, err := as(t, dir, string(access.RoleOperator), change); err == nil {
				t.Errorf("%s one gets in", what)
			}
		})
	}
	tries.Wait()

	tenant := schemas.NewTenantID()
	folder, err := keys.AddTenant(tenant)
	if err != nil || folder != filepath.Join(dir, string(tenant)) {
		t.Fatalf("%s %v", folder, err)
	}
	if _, err := as(t, dir, string(tenant)); !errors.Is(err, schemas.KindDenied) {
		t.Errorf("a tenant that the server does not know: %v", err)
	}
	server := n.Server
	if n, err = keys.Network(); err != nil {
		t.Fatal(err)
	}
	n.Server = server
	reload(n)
	reload(n)                                    // a server begins the imports of an account that is new at the reload after that
	moved := filepath.Join(t.TempDir(), "moved") // a folder works wherever it is put
	if err := os.Rename(folder, moved); err != nil {
		t.Fatal(err)
	}
	ctx := streamstest.Context(t)
	operator, err := as(t, dir, string(access.RoleOperator))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operator.Apply(ctx, streams.Topology{Lanes: lanes}); err != nil {
		t.Fatal(err)
	}
	producer, err := as(t, filepath.Dir(moved), "moved")
	if err != nil {
		t.Fatalf("a tenant after the reload: %v", err)
	}
	if _, err := producer.PublishJob(ctx, streamstest.Job(tenant, []byte("sealed"), nil)); err != nil {
		t.Errorf("a tenant publishes after the reload: %v", err)
	}
}

// TestKeysAgain: what exists is never overwritten, and a folder that was damaged says so.
func TestKeysAgain(t *testing.T) {
	t.Parallel()
	keys, dir := keyFolder(t, "tls://nats.example:4222")
	tenant := schemas.NewTenantID()
	if _, err := keys.AddTenant(tenant); err != nil {
		t.Fatal(err)
	}
	before, err := keys.Network()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, access.FolderServer, access.FileCert)); err != nil {
		t.Fatal(err)
	}
	if err := keys.Make(access.KeysOptions{URL: "tls://other.example:4222", Hosts: []string{"other.example"}}); err != nil {
		t.Fatal(err)
	}
	if after, err := keys.Network(); err != nil || after.Users()[0] != before.Users()[0] || !slices.Equal(after.Tenants, before.Tenants) || after.Issuer != before.Issuer {
		t.Errorf("a second call changed keys: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, access.FolderServer, access.FileCert)); err != nil {
		t.Errorf("a deleted certificate was not made again: %v", err)
	}
	for _, file := range []string{"ca.key", filepath.Join(access.FolderCallout, access.FileIssuer), filepath.Join(string(access.RoleBroker), access.FileUser), filepath.Join(string(tenant), access.FileKey)} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", file, info.Mode(), err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, string(access.RoleBroker), access.FileUser), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Network(); !errors.Is(err, schemas.KindCorrupt) {
		t.Errorf("a damaged seed: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.AddTenant(schemas.NewTenantID()); !errors.Is(err, schemas.KindCorrupt) {
		t.Errorf("a damaged authority: %v", err)
	}
	if _, err := access.OpenKeys(t.TempDir()).AddTenant(tenant); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("a tenant of no network: %v", err)
	}
	for _, o := range []access.KeysOptions{{}, {URL: "tls://x"}, {URL: "tls://x\"", Hosts: []string{"x"}}} {
		if err := access.OpenKeys(t.TempDir()).Make(o); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
