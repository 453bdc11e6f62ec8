package embedded_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/embedded"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// start runs a server on a folder and a bus on it with the topology.
func start(t *testing.T, o embedded.Options) (*embedded.Server, *streams.Bus) {
	t.Helper()
	s, err := embedded.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	bus, err := streams.Connect(t.Context(), streams.Config{InProcess: s.InProcess()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Apply(t.Context(), streams.Topology{}); err != nil {
		t.Fatal(err)
	}
	return s, bus
}

// TestContinues: what was stored is there after a restart: jobs, outcomes, entries; the queue's consumer is made anew.
func TestContinues(t *testing.T) {
	t.Parallel()
	for _, sync := range []bool{false, true} {
		dir, ctx := t.TempDir(), streamstest.Context(t)
		s, bus := start(t, embedded.Options{Dir: dir, InProcessOnly: true, Sync: sync})
		if s.URL() != "" || s.Dir() == "" || s.Version() == "" {
			t.Errorf("url %q, folder %q, version %q", s.URL(), s.Dir(), s.Version())
		}
		job := streamstest.Job(schemas.NewTenantID(), []byte("sealed"), nil)
		if _, err := bus.PublishJob(ctx, job); err != nil {
			t.Fatal(err)
		}
		done := streamstest.Job(job.Attributes.Tenant, []byte("done"), nil)
		if _, err := bus.PublishOutcome(ctx, streamstest.Outcome(done.Attributes, []byte("result"))); err != nil {
			t.Fatal(err)
		}
		if err := bus.CreateConsumer(ctx, streamstest.Route, schemas.Standard); err != nil {
			t.Fatal(err)
		}
		if err := bus.Close(ctx); err != nil {
			t.Error(err)
		}
		s.Close()
		s.Close()

		s, bus = start(t, embedded.Options{Dir: dir, InProcessOnly: true, Sync: sync})
		p, err := bus.NewPuller(ctx, streams.PullerOptions{Route: streamstest.Route})
		if err != nil {
			t.Fatal(err)
		}
		if ds, err := p.Next(ctx, 1); err != nil || ds[0].Attributes != job.Attributes {
			t.Errorf("the job after a restart: %v", err)
		}
		p.Close()
		if first, err := bus.PublishOutcome(ctx, streamstest.Outcome(done.Attributes, []byte("another"))); err != nil || first {
			t.Errorf("the outcome after a restart: %v %v", first, err)
		}
		if weak, err := bus.Weaknesses(ctx); err != nil || len(weak) != 0 {
			t.Errorf("weaknesses: %q %v", weak, err)
		}
		_ = bus.Close(ctx)
		s.Close()
	}
}

// TestRefusals: each reason why a server cannot start has a kind of its own.
func TestRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, bus := start(t, embedded.Options{Dir: dir, Port: -1})
	defer s.Close()
	if _, err := embedded.Start(embedded.Options{Dir: dir, Port: -1}); !errors.Is(err, schemas.KindConflict) {
		t.Errorf("a folder in use: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := embedded.Start(embedded.Options{Dir: t.TempDir(), Port: l.Addr().(*net.TCPAddr).Port}); !errors.Is(err, schemas.KindConflict) {
		t.Errorf("a port in use: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Start(embedded.Options{Dir: filepath.Join(file, "below"), Port: -1}); !errors.Is(err, schemas.KindDenied) {
		t.Errorf("a folder that cannot be made: %v", err)
	}
	if _, err := embedded.Start(embedded.Options{}); !errors.Is(err, schemas.KindInvalid) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := embedded.Start(embedded.Options{Dir: t.TempDir(), ConfigFile: file + "x"}); !errors.Is(err, schemas.KindInvalid) {
		t.Errorf("no configuration: %v", err)
	}

	other, err := streams.Connect(t.Context(), streams.Config{URL: s.URL()})
	if err != nil {
		t.Fatalf("over TCP: %v", err)
	}
	_ = other.Close(t.Context())
	_ = bus.Close(t.Context())
	s.Close()
	meta := filepath.Join(dir, "jetstream", "$G", "streams", "OUT", "meta.inf")
	if err := os.WriteFile(meta, []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if broken, err := embedded.Start(embedded.Options{Dir: dir, Port: -1}); !errors.Is(err, schemas.KindCorrupt) {
		t.Errorf("a stream that cannot be read: %v", err)
		if broken != nil {
			broken.Close()
		}
	}
	if _, err := os.Stat(meta); err != nil {
		t.Errorf("the broken state was removed: %v", err)
	}
}

// TestNoLeaks: a server that is closed leaves nothing running.
func TestNoLeaks(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s, bus := start(t, embedded.Options{Dir: t.TempDir(), Port: -1})
	ctx, cancel := context.WithCancel(t.Context())
	if err := bus.Close(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	s.Close()
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"))
}
