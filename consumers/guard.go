package consumers

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/streams"
)

// Defaults of GuardConfig.
const (
	DefaultGuardEvery  = 5 * time.Second
	DefaultMemoryHigh  = 0.92
	DefaultGPUHigh     = 0.99
	guardHysteresis    = 0.05
	guardReadTimeout   = 3 * time.Second
	maxGuardBlindTimes = 6
)

// Vitals is what a machine tells of itself. Numbers that it does not tell are zero in Total, which means unknown and
// never "nothing used".
type Vitals struct {
	// MemoryUsed and MemoryTotal are bytes of main memory, of the narrowest limit that holds for this process.
	MemoryUsed, MemoryTotal uint64
	// GPUs has one entry per accelerator.
	GPUs []GPUVitals
}

// GPUVitals is the state of one accelerator.
type GPUVitals struct {
	// Name is the product name, such as "NVIDIA H100 80GB HBM3".
	Name string
	// CC is the state of confidential computing, for people.
	CC string
	// Utilisation is in percent.
	Utilisation int
	// MemoryUsed and MemoryTotal are bytes of device memory.
	MemoryUsed, MemoryTotal uint64
	// Fault says in a few words that the device can no longer be trusted to compute (fallen off the bus, uncorrectable
	// memory errors, confidential computing turned off). Empty means healthy.
	Fault string
}

// Gauge reads vitals. HostMemory is one; enclave/nvidia's collector feeds another. Read may be slow but must obey ctx.
type Gauge interface {
	Read(ctx context.Context) (Vitals, error)
}

// GuardConfig says when a worker stops taking jobs for its machine's sake.
type GuardConfig struct {
	// Gauges are read one after the other; an empty list means HostMemory alone.
	Gauges []Gauge
	// Every is the time between two looks; 0 means DefaultGuardEvery.
	Every time.Duration
	// MemoryHigh and GPUHigh are the shares of memory, 0 to 1, above which no further job is taken; taking resumes 0.05
	// below. 0 means DefaultMemoryHigh and DefaultGPUHigh; 1 and more turn the check off. GPUHigh is high because
	// engines take the whole device at their start.
	MemoryHigh, GPUHigh float64
}

// withDefaults fills in what is zero.
func (c GuardConfig) withDefaults() GuardConfig {
	if len(c.Gauges) == 0 {
		c.Gauges = []Gauge{HostMemory{}}
	}
	if c.Every == 0 {
		c.Every = DefaultGuardEvery
	}
	if c.MemoryHigh == 0 {
		c.MemoryHigh = DefaultMemoryHigh
	}
	if c.GPUHigh == 0 {
		c.GPUHigh = DefaultGPUHigh
	}
	return c
}

// guard watches the machine. It never interrupts running jobs: it only keeps new ones away, and reports a device that
// broke so that the worker drains.
type guard struct {
	c      GuardConfig
	log    *slog.Logger
	pause  func(reason string) // "" resumes
	broken func(reason string)

	// mu guards seen, which the presence entry reads.
	mu   sync.Mutex
	seen []streams.WorkerGPU

	paused bool
	blind  int
}

// run looks every GuardConfig.Every until ctx ends; the first look is at once.
func (g *guard) run(ctx context.Context) {
	tick := time.NewTicker(g.c.Every)
	defer tick.Stop()
	for {
		g.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look reads all gauges once and acts.
func (g *guard) look(ctx context.Context) {
	var seen []streams.WorkerGPU
	var reason string
	for _, gauge := range g.c.Gauges {
		v, err := g.read(ctx, gauge)
		if err != nil {
			if ctx.Err() == nil {
				g.unseen(err)
			}
			return
		}
		for _, gpu := range v.GPUs {
			seen = append(seen, streams.WorkerGPU{
				Name: gpu.Name, CC: gpu.CC, Utilisation: gpu.Utilisation, MemoryUsed: int64(gpu.MemoryUsed), MemoryTotal: int64(gpu.MemoryTotal),
			})
			if gpu.Fault != "" {
				g.broken(fmt.Sprintf("%s: %s", gpu.Name, gpu.Fault))
			}
		}
		if r := g.tight(v); reason == "" {
			reason = r
		}
	}
	g.blind = 0
	g.mu.Lock()
	g.seen = seen
	g.mu.Unlock()
	g.paused = reason != ""
	g.pause(reason)
}

// read asks one gauge with a limit of its own.
func (g *guard) read(ctx context.Context, gauge Gauge) (Vitals, error) {
	ctx, cancel := context.WithTimeout(ctx, guardReadTimeout)
	defer cancel()
	return gauge.Read(ctx)
}

// unseen keeps the last decision while a gauge fails for a moment, and pauses when it keeps failing: a machine that
// cannot tell its state is not given work.
func (g *guard) unseen(err error) {
	g.blind++
	if g.blind == maxGuardBlindTimes {
		g.log.Warn("the machine's state cannot be read: no further jobs", "error", err)
		g.paused = true
		g.pause("gauge_failed")
	}
}

// tight says which memory is too full, "" for none. A guard that is already paused asks for more room before it
// resumes.
func (g *guard) tight(v Vitals) string {
	slack := 0.0
	if g.paused {
		slack = guardHysteresis
	}
	if above(v.MemoryUsed, v.MemoryTotal, g.c.MemoryHigh, slack) {
		return "memory"
	}
	for _, gpu := range v.GPUs {
		if above(gpu.MemoryUsed, gpu.MemoryTotal, g.c.GPUHigh, slack) {
			return "gpu_memory"
		}
	}
	return ""
}

// above reports whether used is more than the share high-slack of total. An unknown total is never above, and a mark
// of 1 or more is off.
func above(used, total uint64, high, slack float64) bool {
	return total > 0 && high < 1 && float64(used) > (high-slack)*float64(total)
}

// gpus lists the accelerators as they were last seen.
func (g *guard) gpus() []streams.WorkerGPU {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen
}
