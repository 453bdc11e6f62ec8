package ggml

import (
	"log/slog"
	"runtime"
	"time"

	"github.com/cocoon-network/cocoon/consumers/ggml/gguf"
	"github.com/cocoon-network/cocoon/schemas"
)

// Options of an engine. The zero value is a good one.
type Options struct {
	// Name is the model id that Info tells; "" means the name in the file.
	Name string
	// Slots is the most requests that run together; 0 means 16.
	Slots int
	// Context is the most tokens of one request, prompt and answer; 0 means what the model was made for, at most 8192.
	Context int
	// Cells is the key-value memory in tokens, shared by all requests; 0 means Slots times Context, within Memory.
	Cells int
	// Memory bounds the key-value memory in bytes when Cells is 0; 0 means 1 GiB.
	Memory int64
	// StepTokens is the most tokens of one forward pass; 0 means 256.
	StepTokens int
	// Queue is the most requests that wait in the engine; beyond it Submit answers KindBusy. 0 means 4 per slot.
	Queue int
	// Keep and KeepFor bound the memory of finished requests that is kept for later prompts of the tenant; 0 means one per
	// slot and a minute, Keep -1 none.
	Keep    int
	KeepFor time.Duration
	// WipeEvery is how long memory may hold what a departed tenant left in it; 0 means a second.
	WipeEvery time.Duration
	// Threads of the CPU; 0 means one less than there are, at least 1. More than are really free is slow: they wait for
	// each other spinning.
	Threads int
	// GPU puts all layers onto the first GPU that ggml finds; KindUnsupported if there is none. It needs ggml's GPU
	// library, and has not been run yet: see deploy/gpu.
	GPU bool
	// HalfCache stores keys and values in 16 bits. Without it they take 32 on a CPU, where that is twice as fast; a GPU
	// always uses 16.
	HalfCache bool
	// Digest is the SHA-256 of the file in hex, if it is known already; "" computes it.
	Digest string
	// Log gets what happens, never text of a request; nil discards.
	Log *slog.Logger
}

// Limits and defaults.
const (
	defaultSlots   = 16
	defaultMemory  = 1 << 30
	defaultContext = 8192
	maxSlots       = 1024
	maxStep        = 1 << 14
	// MaxBody is the longest request body that is read.
	MaxBody = 64 << 20
	// cachePadding is what ggml rounds the key-value memory up to.
	cachePadding = 256
)

// withDefaults fills in what depends on the model.
func (o Options) withDefaults(m *gguf.Model) (Options, error) {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.Slots, defaultSlots)
	set(&o.Context, min(m.Context, defaultContext))
	set(&o.StepTokens, 256)
	set(&o.Threads, max(1, runtime.NumCPU()-1))
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	if o.Name == "" {
		o.Name = m.Name
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.GPU {
		o.HalfCache = true
	}
	set(&o.Cells, int(min(int64(o.Slots)*int64(o.Context), o.Memory/o.cellBytes(m))))
	switch {
	case o.Slots < 1 || o.Slots > maxSlots:
		return o, schemas.FieldError("slots", "must be 1 to 1024")
	case o.Context < 1 || o.Context > m.Context:
		return o, schemas.FieldError("context", "is longer than the model was made for")
	case o.StepTokens < 1 || o.StepTokens > maxStep:
		return o, schemas.FieldError("step tokens", "must be 1 to 16384")
	case o.Cells < o.Slots || int64(o.Cells) > 1<<31/int64(o.Slots+1):
		return o, schemas.FieldError("cells", "do not give every slot some memory, or too much of it")
	}
	per := (o.Cells + o.Slots - 1) / o.Slots // ggml counts per slot
	o.Cells = (per*o.Slots + cachePadding - 1) / cachePadding * cachePadding
	return o, nil
}

// cellBytes is the size of the keys and values of one token.
func (o *Options) cellBytes(m *gguf.Model) int64 {
	size := int64(4)
	if o.HalfCache {
		size = 2
	}
	return int64(m.Layers) * 2 * int64(m.KVHeads) * int64(m.HeadSize) * size
}
