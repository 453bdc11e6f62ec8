package consumers

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// gaugeFunc is a Gauge.
type gaugeFunc func() (Vitals, error)

func (f gaugeFunc) Read(context.Context) (Vitals, error) { return f() }

// guardBundle is a guard over one gauge that the test sets.
type guardBundle struct {
	*guard
	vitals Vitals
	err    error
	reason string
	faults []string
}

func setupGuard(t *testing.T) *guardBundle {
	t.Helper()
	b := &guardBundle{}
	c := GuardConfig{
		Gauges:     []Gauge{gaugeFunc(func() (Vitals, error) { return b.vitals, b.err })},
		MemoryHigh: 0.9, GPUHigh: 0.95,
	}.withDefaults()
	b.guard = &guard{
		c: c, log: slog.New(slog.DiscardHandler),
		pause:  func(reason string) { b.reason = reason },
		broken: func(reason string) { b.faults = append(b.faults, reason) },
	}
	return b
}

func TestGuardPausesAndResumes(t *testing.T) {
	t.Parallel()
	b := setupGuard(t)
	for _, step := range []struct {
		name   string
		v      Vitals
		reason string
	}{
		{"room", Vitals{MemoryUsed: 80, MemoryTotal: 100}, ""},
		{"tight", Vitals{MemoryUsed: 91, MemoryTotal: 100}, "memory"},
		{"just below the mark is not enough to resume", Vitals{MemoryUsed: 87, MemoryTotal: 100}, "memory"},
		{"well below is", Vitals{MemoryUsed: 84, MemoryTotal: 100}, ""},
		{"just below the mark is fine when not paused", Vitals{MemoryUsed: 87, MemoryTotal: 100}, ""},
		{"device memory counts", Vitals{GPUs: []GPUVitals{{MemoryUsed: 96, MemoryTotal: 100}}}, "gpu_memory"},
		{"unknown is not full", Vitals{MemoryUsed: 5}, ""},
	} {
		b.vitals = step.v
		b.look(t.Context())
		if b.reason != step.reason {
			t.Errorf("%s: paused for %q, want %q", step.name, b.reason, step.reason)
		}
	}
	if len(b.faults) != 0 {
		t.Errorf("reported faults %q", b.faults)
	}
}

func TestGuardReportsBrokenGPU(t *testing.T) {
	t.Parallel()
	b := setupGuard(t)
	b.vitals = Vitals{GPUs: []GPUVitals{{Name: "H100"}, {Name: "H100", Fault: "fallen off the bus"}}}
	b.look(t.Context())
	if len(b.faults) != 1 || !strings.Contains(b.faults[0], "fallen off the bus") {
		t.Errorf("faults %q, want the one of the second device", b.faults)
	}
	if got := b.gpus(); len(got) != 2 {
		t.Errorf("devices %v, want both devices", got)
	}
}

// TestGuardBlind: a gauge that fails for a moment changes nothing; one that keeps failing stops new work.
func TestGuardBlind(t *testing.T) {
	t.Parallel()
	b := setupGuard(t)
	b.err = errors.New("no driver")
	for range maxGuardBlindTimes - 1 {
		b.look(t.Context())
	}
	if b.reason != "" {
		t.Fatalf("paused for %q too early", b.reason)
	}
	b.look(t.Context())
	if b.reason != "gauge_failed" {
		t.Fatalf("not paused after %d failed readings", maxGuardBlindTimes)
	}
	b.err = nil
	b.look(t.Context())
	if b.reason != "" {
		t.Errorf("still paused for %q after a good reading", b.reason)
	}
}

func TestMemInfo(t *testing.T) {
	t.Parallel()
	v := memInfo([]byte("MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    400 kB\n"))
	if v.MemoryTotal != 1000*1024 || v.MemoryUsed != 600*1024 {
		t.Errorf("got %+v", v)
	}
	if v := memInfo([]byte("nonsense")); v.MemoryTotal != 0 {
		t.Errorf("nonsense gave %+v, want unknown", v)
	}
}

func TestHostMemory(t *testing.T) {
	t.Parallel()
	v, err := HostMemory{}.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v.MemoryTotal != 0 && (v.MemoryUsed == 0 || v.MemoryUsed > v.MemoryTotal) {
		t.Errorf("implausible memory of this machine: %+v", v)
	}
}
