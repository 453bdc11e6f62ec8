package cli

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/schemas"
)

// TestGPUs: everything that the driver tells reaches the guard, faults too.
func TestGPUs(t *testing.T) {
	t.Parallel()
	list := []nvidia.Vitals{
		{Name: "NVIDIA H100 PCIe", CC: "on", Utilisation: 37, MemoryUsed: 70 << 30, MemoryTotal: 80 << 30},
		{Name: "GPU 1", CC: "on", Fault: "lost: GPU is lost"},
	}
	broken := errors.New("no driver")
	g := GPUs(func() ([]nvidia.Vitals, error) { return list, broken })
	if _, err := g.Read(t.Context()); !errors.Is(err, broken) {
		t.Errorf("a driver that fails: %v", err)
	}
	broken = nil
	got, err := g.Read(t.Context())
	want := consumers.Vitals{GPUs: []consumers.GPUVitals{
		{Name: "NVIDIA H100 PCIe", CC: "on", Utilisation: 37, MemoryUsed: 70 << 30, MemoryTotal: 80 << 30},
		{Name: "GPU 1", CC: "on", Fault: "lost: GPU is lost"},
	}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestGPUsHang: a driver that hangs fails each reading in time, has one question to answer and is believed again afterwards.
func TestGPUsHang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls, release := 0, make(chan struct{})
		g := GPUs(func() ([]nvidia.Vitals, error) {
			calls++
			<-release
			return nil, nil
		})
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.Read(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a driver that hangs: %v", err)
		}
		if _, err := g.Read(t.Context()); !errors.Is(err, schemas.KindUnavailable) || calls != 1 {
			t.Errorf("and is asked again: %v, %d calls", err, calls)
		}
		close(release)
		synctest.Wait()
		if _, err := g.Read(t.Context()); err != nil || calls != 2 {
			t.Errorf("and answers again: %v, %d calls", err, calls)
		}
	})
}
