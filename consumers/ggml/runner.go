package ggml

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/ollama/ollama/kvcache"
	"github.com/ollama/ollama/ml"
	"github.com/ollama/ollama/model"
	"github.com/ollama/ollama/model/input"
	_ "github.com/ollama/ollama/model/models/gemma2" // the architectures that package gguf admits
	_ "github.com/ollama/ollama/model/models/gemma3"
	_ "github.com/ollama/ollama/model/models/llama"
	_ "github.com/ollama/ollama/model/models/mistral3"
	_ "github.com/ollama/ollama/model/models/qwen2"
	_ "github.com/ollama/ollama/model/models/qwen3"

	"github.com/cocoon-network/cocoon/consumers/ggml/batcher"
	"github.com/cocoon-network/cocoon/consumers/ggml/gguf"
	_ "github.com/cocoon-network/cocoon/consumers/ggml/kernels" // fast on any build
	"github.com/cocoon-network/cocoon/schemas"
)

// native serialises all computation of the process: ggml has one CPU backend, with one work buffer, for all models.
var native sync.Mutex

// runner computes forward passes. The batcher's goroutine is the only one that calls it.
type runner struct {
	path  string
	bytes []byte // the file itself if it has no lasting path
	file  *gguf.Model
	o     Options

	m     model.Model
	cache kvcache.Cache // nil for models without memory
}

var _ batcher.Model = (*runner)(nil)

// newRunner loads a checked file.
func newRunner(path string, file *gguf.Model, o Options) (*runner, error) {
	r := &runner{path: path, file: file, o: o}
	if err := r.load(); err != nil {
		return nil, &schemas.Error{Kind: schemas.KindUnsupported, Field: "model", Message: "ggml cannot load the model", Err: err}
	}
	return r, nil
}

// load builds the model and its memory.
func (r *runner) load() error {
	native.Lock()
	defer native.Unlock()
	return guard(func() error {
		params := ml.BackendParams{AllocMemory: true, NumThreads: r.o.Threads, FlashAttention: ml.FlashAttentionEnabled}
		if r.o.GPU {
			layers, err := gpuLayers(r.path, r.file.Layers)
			if err != nil {
				return err
			}
			params.GPULayers = layers
		}
		m, err := model.New(r.path, params)
		if err != nil {
			return err
		}
		r.m = m
		if err := m.Backend().Load(context.Background(), nil); err != nil {
			return err
		}
		r.cache = m.Config().Cache
		if r.cache == nil {
			return nil
		}
		dtype := ml.DTypeF32
		if r.o.HalfCache {
			dtype = ml.DTypeF16
		}
		r.cache.Init(m.Backend(), dtype, r.o.Slots, r.o.Cells/r.o.Slots, r.o.StepTokens)
		return r.reserve()
	})
}

// gpuLayers puts every layer onto the first GPU. The caller holds native and loads the model next.
func gpuLayers(path string, layers int) (ml.GPULayersList, error) {
	b, err := ml.NewBackend(path, ml.BackendParams{})
	if err != nil {
		return nil, err
	}
	devices := b.BackendDevices()
	b.Close()
	if len(devices) == 0 {
		// A backend that was opened only to look has switched allocation off for the whole process, other engines
		// included. One that allocates switches it on again; the model itself does that otherwise.
		if b, err = ml.NewBackend(path, ml.BackendParams{AllocMemory: true}); err == nil {
			b.Close()
		}
		return nil, errors.New("ggml sees no GPU; its library for it is looked for in OLLAMA_LIBRARY_PATH")
	}
	all := ml.GPULayers{DeviceID: devices[0].DeviceID}
	for i := range layers + 1 {
		all.Layers = append(all.Layers, i)
	}
	return ml.GPULayersList{all}, nil
}

// reserve allocates the largest graph once, so that no later pass has to grow it.
func (r *runner) reserve() error {
	ctx := r.m.Backend().NewContext()
	defer ctx.Close()
	n := r.o.StepTokens
	b := input.Batch{
		Inputs: ctx.Input().Empty(ml.DTypeI32, n), Outputs: ctx.Input().Empty(ml.DTypeI32, min(n, r.o.Slots)),
		Positions: make([]int32, n), Sequences: make([]int, n),
	}
	ctx.SetBatchSize(n)
	if err := r.cache.StartForward(ctx, b, true); err != nil {
		return err
	}
	t, err := r.m.Forward(ctx, b)
	if err != nil {
		return err
	}
	ctx.Forward(t).Reserve()
	return nil
}

// Step runs one forward pass.
func (r *runner) Step(b batcher.Batch) (logits []float32, err error) {
	native.Lock()
	defer native.Unlock()
	err = guard(func() error {
		out := b.Out
		if len(out) == 0 { // ggml wants to give something back; it is thrown away
			out = []int32{int32(len(b.Tokens) - 1)}
		}
		logits, err = r.forward(b, out)
		if len(b.Out) == 0 {
			logits = nil
		}
		return err
	})
	if errors.Is(err, kvcache.ErrKvCacheFull) {
		err = batcher.ErrFull
	}
	return logits, err
}

// forward computes the rows out of a batch.
func (r *runner) forward(b batcher.Batch, out []int32) ([]float32, error) {
	ctx := r.m.Backend().NewContext()
	defer ctx.Close()
	in := input.Batch{
		Inputs: ctx.Input().FromInts(b.Tokens, len(b.Tokens)), Outputs: ctx.Input().FromInts(out, len(out)),
		Positions: b.Pos, Sequences: b.Seq,
	}
	ctx.SetBatchSize(len(b.Tokens))
	t, err := model.Forward(ctx, r.m, in)
	if err != nil {
		return nil, err
	}
	ctx.Compute(t)
	return t.Floats(), nil
}

// shares reports whether sequences may share memory: not where layers forget at different speeds.
func (r *runner) shares() bool { return r.cache != nil && r.file.Window == 0 }

// Share lets dst begin with the first n tokens of src.
func (r *runner) Share(src, dst, n int) bool {
	if !r.shares() {
		return false
	}
	r.cache.CopyPrefix(src, dst, int32(n))
	return true
}

// Forget drops a sequence.
func (r *runner) Forget(seq int) {
	if r.cache == nil {
		return
	}
	if err := guard(func() error { return r.cache.Remove(seq, 0, math.MaxInt32) }); err != nil {
		r.o.Log.Error("a sequence was not forgotten", "err", err)
	}
}

// Wipe overwrites free memory with zeros: a sequence of its own takes the free cells, its keys and values are written as
// zeros, and it is forgotten. ggml gives out the free cells that come first, which are those the batcher wants wiped.
func (r *runner) Wipe(n int) error {
	if r.cache == nil {
		return nil
	}
	native.Lock()
	defer native.Unlock()
	seq := r.o.Slots + max(r.o.Keep, r.o.Slots) // a number that the batcher does not use
	defer r.Forget(seq)
	return guard(func() error {
		for done := 0; done < n; {
			size := min(r.o.StepTokens, n-done)
			err := r.zero(seq, done, size)
			for errors.Is(err, kvcache.ErrKvCacheFull) && size > 1 { // some layers have less memory than the account says
				size /= 2
				err = r.zero(seq, done, size)
			}
			if errors.Is(err, kvcache.ErrKvCacheFull) {
				return nil
			}
			if err != nil {
				return err
			}
			done += size
		}
		return nil
	})
}

// zero writes n cells of the sequence, from position at.
func (r *runner) zero(seq, at, n int) error {
	ctx := r.m.Backend().NewContext()
	defer ctx.Close()
	b := input.Batch{Positions: make([]int32, n), Sequences: make([]int, n)}
	for i := range n {
		b.Positions[i], b.Sequences[i] = int32(at+i), seq
	}
	ctx.SetBatchSize(n)
	if err := r.cache.StartForward(ctx, b, false); err != nil {
		return err
	}
	zeros := make([]float32, r.file.HeadSize*r.file.KVHeads*n)
	for layer := range r.file.Layers {
		r.cache.SetLayer(layer)
		if w, ok := r.cache.(*kvcache.WrapperCache); ok {
			kind := 1 // causal; 0 is the one with a window
			if r.file.Windowed(layer) {
				kind = 0
			}
			w.SetLayerType(kind)
		}
		k := ctx.Input().FromFloats(zeros, r.file.HeadSize, r.file.KVHeads, n)
		v := ctx.Input().FromFloats(zeros, r.file.HeadSize, r.file.KVHeads, n)
		r.cache.Put(ctx, k, v)
	}
	ctx.Compute()
	return nil
}

// Reset loads the model anew: after a panic in native code nothing of it can be trusted.
func (r *runner) Reset() error {
	r.close()
	if r.bytes != nil {
		f, path, err := memoryFile(r.bytes)
		if err != nil {
			return err
		}
		defer f.Close()
		defer removeFile(path)
		r.path = path
	}
	return r.load()
}

// close frees the model. What its memory held is gone to the allocator, so the batcher wipes first.
func (r *runner) close() {
	native.Lock()
	defer native.Unlock()
	_ = guard(func() error {
		if r.cache != nil {
			r.cache.Close()
		}
		if r.m != nil {
			r.m.Backend().Close()
		}
		return nil
	})
	r.cache, r.m = nil, nil
}

// guard turns a panic of ollama's code into an error. It panics when memory runs out, on shapes that do not fit and when
// a computation fails.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if cause, ok := p.(error); ok {
				err = cause
			} else {
				err = fmt.Errorf("ggml: %v", p)
			}
		}
	}()
	return f()
}
