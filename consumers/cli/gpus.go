package cli

import (
	"context"
	"sync/atomic"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/schemas"
)

// GPUs is the gauge of a machine's GPUs: it pauses a worker whose device memory is full, and drains one whose GPU broke. vitals
// is what reads them, such as (*nvidia.NVML).Vitals, and need not be fast: a call that hangs, as calls into a driver do when a
// GPU dies, fails every reading until it returns, and is never made twice at one time.
func GPUs(vitals func() ([]nvidia.Vitals, error)) consumers.Gauge {
	return &gpuGauge{vitals: vitals}
}

// gpuGauge implements GPUs.
type gpuGauge struct {
	vitals func() ([]nvidia.Vitals, error)
	asking atomic.Bool
}

// gpuReading is an answer of the driver.
type gpuReading struct {
	list []nvidia.Vitals
	err  error
}

// Read implements consumers.Gauge.
func (g *gpuGauge) Read(ctx context.Context) (v consumers.Vitals, err error) {
	if !g.asking.CompareAndSwap(false, true) {
		return v, &schemas.Error{Kind: schemas.KindUnavailable, Field: "gpus", Message: "the driver has not answered the last question yet"}
	}
	answer := make(chan gpuReading, 1)
	go func() {
		defer g.asking.Store(false)
		list, err := g.vitals()
		answer <- gpuReading{list, err}
	}()
	select {
	case <-ctx.Done():
		return v, ctx.Err()
	case a := <-answer:
		for _, gpu := range a.list {
			v.GPUs = append(v.GPUs, consumers.GPUVitals{
				Name: gpu.Name, CC: gpu.CC, Utilisation: gpu.Utilisation, MemoryUsed: gpu.MemoryUsed, MemoryTotal: gpu.MemoryTotal, Fault: gpu.Fault,
			})
		}
		return v, a.err
	}
}
