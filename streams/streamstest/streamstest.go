package streamstest

import (
	"context"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/embedded"
)

// Options steer [NewWith].
type Options struct {
	// Topology is applied. The zero value is one shard, one replica.
	Topology streams.Topology
	// Config is the base of the bus's configuration; the server is filled in.
	Config streams.Config
	// Dir is where the server keeps its state. Default: a folder that goes with the test.
	Dir string
	// TCP opens a port of its own beside the in-process connections.
	TCP bool
}

// New starts a private server with the default topology and returns a bus on it; both end with the test.
func New(t testing.TB) *streams.Bus {
	t.Helper()
	bus, _ := NewWith(t, Options{})
	return bus
}

// NewWith is New with options; it returns the server too.
func NewWith(t testing.TB, o Options) (*streams.Bus, *embedded.Server) {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	server := Server(t, embedded.Options{Dir: o.Dir, InProcessOnly: !o.TCP, Port: -1})
	bus := Connect(t, server, o.Config)
	if _, err := bus.Apply(Context(t), o.Topology); err != nil {
		t.Fatalf("topology: %v", err)
	}
	return bus, server
}

// Server starts a server that ends with the test. Without a folder it gets one that goes with the test.
func Server(t testing.TB, o embedded.Options) *embedded.Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	server, err := embedded.Start(o)
	if err != nil {
		t.Fatalf("server: %v", err)
	}
	t.Cleanup(server.Close)
	return server
}

// Connect opens another bus on a server; it ends with the test. A config that names a URL is used as it is.
func Connect(t testing.TB, server *embedded.Server, c streams.Config) *streams.Bus {
	t.Helper()
	if c.URL == "" {
		c.InProcess = server.InProcess()
	}
	bus, err := streams.Connect(Context(t), c)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = bus.Close(ctx) // a test may have stopped the server
	})
	return bus
}

// patience bounds what a test may wait for: for the sake of a broken test, not of a slow machine.
const patience = 3 * time.Minute

// Context ends with the test, or after three minutes.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
