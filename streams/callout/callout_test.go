package callout_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/access"
	"github.com/cocoon-network/cocoon/streams/callout"
	"github.com/cocoon-network/cocoon/streams/embedded"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// bundle is a production server with a callout service.
type bundle struct {
	ctx      context.Context
	url      string
	services map[access.Role]string // seed files
	life     atomic.Int64
	asked    atomic.Int64
}

// key makes a key pair with its seed in a file.
func key(t *testing.T, pair nkeys.KeyPair, err error) (public, file string) {
	t.Helper()
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

// evidence stands for a quote over a nonce, padded to a real size; the word before it says who the worker is.
func evidence(worker schemas.WorkerID, nonce [32]byte, size int) string {
	text := string(worker) + " " + hex.EncodeToString(nonce[:]) + " "
	return text + strings.Repeat("x", max(0, size-len(text)))
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{ctx: streamstest.Context(t), services: map[access.Role]string{}}
	b.life.Store(int64(time.Hour))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	n := access.Network{Server: access.Server{Listen: "127.0.0.1:" + strconv.Itoa(port)}, Services: map[access.Role]string{}}
	for _, role := range append(access.Services(), access.RoleHost) {
		pair, err := nkeys.CreateUser()
		n.Services[role], b.services[role] = key(t, pair, err)
	}
	system, err := nkeys.CreateUser()
	n.System, _ = key(t, system, err)
	user, err := nkeys.CreateUser()
	var userFile string
	n.Callout, userFile = key(t, user, err)
	issuer, err := nkeys.CreateAccount()
	n.Issuer, _ = key(t, issuer, err)
	curve, err := nkeys.CreateCurveKeys()
	n.XKey, _ = key(t, curve, err)
	conf, err := access.Production(n)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	b.url = streamstest.Server(t, embedded.Options{ConfigFile: file}).URL()
	operator := streamstest.Connect(t, nil, streams.Config{URL: b.url, NKeySeedFile: b.services[access.RoleOperator], Inbox: access.Inbox("operator")})
	if _, err := operator.Apply(b.ctx, streams.Topology{}); err != nil {
		t.Fatal(err)
	}
	if err := operator.CreateConsumer(b.ctx, streamstest.Route, schemas.Standard); err != nil {
		t.Fatal(err)
	}

	own := streamstest.Connect(t, nil, streams.Config{URL: b.url, NKeySeedFile: userFile})
	service, err := callout.New(own.Conn(), callout.Options{Issuer: issuer, XKey: curve, Decide: b.decide})
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(b.ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- service.Run(serving, func() { close(ready) }) }()
	<-ready
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return b
}

// decide admits evidence over the right nonce.
func (b *bundle) decide(_ context.Context, r callout.Request) (callout.Grant, error) {
	b.asked.Add(1)
	worker, rest, _ := strings.Cut(r.Token, " ")
	quoted, _, _ := strings.Cut(rest, " ")
	if quoted != hex.EncodeToString(r.Nonce[:]) {
		return callout.Grant{}, schemas.Errorf(schemas.KindAttestation, "the evidence is bound to another nonce")
	}
	id, err := schemas.ParseWorkerID(worker)
	if err != nil {
		return callout.Grant{}, err
	}
	return callout.Grant{User: worker, Life: time.Duration(b.life.Load()), Permissions: access.Worker(access.WorkerUser{
		Worker: id, Models: []streams.Route{streamstest.Route}, Lanes: 16, API: access.APIImported,
	})}, nil
}

// worker connects with evidence of a size.
func (b *bundle) worker(id schemas.WorkerID, size int) (*streams.Bus, error) {
	return streams.Connect(b.ctx, streams.Config{
		URL: b.url, Name: "worker", Inbox: access.Inbox(string(id)), APIPrefix: access.APIImported,
		TokenFunc: func(nonce []byte, nkey string) (string, error) {
			return evidence(id, callout.Nonce(nonce, nkey), size), nil
		},
	})
}

// TestAttestedLogin: fresh evidence buys a user that may do what a worker needs and no more, and buys it again when the user
// expires; small and large evidence alike.
func TestAttestedLogin(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := schemas.WorkerIDOf([]byte("worker"))
	for _, size := range []int{100, 7_000, 30_000, 200_000} {
		bus, err := b.worker(id, size)
		if err != nil {
			t.Fatalf("evidence of %d bytes: %v", size, err)
		}
		p, err := bus.NewPuller(b.ctx, streams.PullerOptions{Route: streamstest.Route, Classes: []schemas.Class{schemas.Standard}})
		if err != nil {
			t.Fatalf("evidence of %d bytes: %v", size, err)
		}
		p.Close()
		if _, err := bus.Call(b.ctx, "$KV.POLICY.current", []byte("x")); !errors.Is(err, schemas.KindDenied) {
			t.Errorf("a worker publishes a policy: %v", err)
		}
		if err := bus.Close(b.ctx); err != nil {
			t.Error(err)
		}
	}

	b.life.Store(int64(2 * time.Second))
	bus, err := b.worker(id, 7_000)
	if err != nil {
		t.Fatal(err)
	}
	before := b.asked.Load()
	reconnected := make(chan struct{})
	bus.Conn().SetReconnectHandler(func(*nats.Conn) { close(reconnected) })
	b.life.Store(int64(time.Hour))
	select {
	case <-reconnected:
	case <-b.ctx.Done():
		t.Fatal("the user did not expire")
	}
	if n := b.asked.Load() - before; n != 1 {
		t.Errorf("attested %d times again, want once", n)
	}
	if _, err := bus.Bucket(streams.BucketWorkers).Put(b.ctx, streams.PrefixWorker+string(id), []byte("{}")); err != nil {
		t.Errorf("after the reconnect: %v", err)
	}
	_ = bus.Close(b.ctx)
}

// TestRefusedLogins: everything but fresh evidence under the client's own key is refused.
func TestRefusedLogins(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := schemas.WorkerIDOf([]byte("worker"))
	var stale string
	first, err := streams.Connect(b.ctx, streams.Config{URL: b.url, TokenFunc: func(nonce []byte, nkey string) (string, error) {
		stale = evidence(id, callout.Nonce(nonce, nkey), 100)
		return stale, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close(b.ctx) }()
	for name, token := range map[string]func(nonce []byte, nkey string) (string, error){
		"evidence of another connection": func([]byte, string) (string, error) { return stale, nil },
		"evidence for another key": func(nonce []byte, _ string) (string, error) {
			return evidence(id, callout.Nonce(nonce, "UOTHER"), 100), nil
		},
		"no evidence": func([]byte, string) (string, error) { return "", nil },
		"too much of it": func(n []byte, k string) (string, error) {
			return evidence(id, callout.Nonce(n, k), callout.MaxToken+1), nil
		},
		"attesting fails": func([]byte, string) (string, error) { return "", errors.New("no TDX here") },
	} {
		bus, err := streams.Connect(b.ctx, streams.Config{URL: b.url, TokenFunc: token, ConnectTimeout: 6 * time.Second})
		if !errors.Is(err, schemas.KindDenied) {
			t.Errorf("%s: %v", name, err)
		}
		if bus != nil {
			_ = bus.Close(b.ctx)
		}
	}
	for name, c := range map[string]streams.Config{
		"a password": {User: "worker", Password: "worker"},
		"a token":    {Token: stale},
		"nothing":    {},
	} {
		c.URL = b.url
		if _, err := streams.Connect(b.ctx, c); !errors.Is(err, schemas.KindDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNewRefuses settings that would weaken the log-in.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	issuer, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	decide := func(context.Context, callout.Request) (callout.Grant, error) { return callout.Grant{}, nil }
	for name, o := range map[string]callout.Options{
		"no issuer":         {Decide: decide, Plain: true},
		"a user as issuer":  {Issuer: user, Decide: decide, Plain: true},
		"no decision":       {Issuer: issuer, Plain: true},
		"no xkey by chance": {Issuer: issuer, Decide: decide},
	} {
		if _, err := callout.New(nil, o); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNonce binds both parts, and the border between them.
func TestNonce(t *testing.T) {
	t.Parallel()
	a, b := callout.Nonce([]byte("ab"), "c"), callout.Nonce([]byte("a"), "bc")
	if bytes.Equal(a[:], b[:]) || a != callout.Nonce([]byte("ab"), "c") {
		t.Error("the nonce does not bind its parts")
	}
}
