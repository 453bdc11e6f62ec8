package ggml

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/ollama/ollama/tokenizer"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/ggml/batcher"
	"github.com/cocoon-network/cocoon/consumers/ggml/gguf"
	"github.com/cocoon-network/cocoon/consumers/ggml/jinja"
	"github.com/cocoon-network/cocoon/consumers/ggml/kernels"
	"github.com/cocoon-network/cocoon/schemas"
)

// Engine runs one model in this process.
type Engine struct {
	o           Options
	file        *gguf.Model
	words       *vocabulary
	template    *jinja.Template // nil if the model has none that we can run
	fingerprint string
	runner      *runner
	batcher     *batcher.Batcher

	stop    context.CancelFunc
	stopped chan struct{} // closed when the batcher's goroutine has ended
	once    sync.Once
}

var _ consumers.Engine = (*Engine)(nil)

// Open loads a model file. KindCorrupt and KindUnsupported say what is wrong with it.
func Open(ctx context.Context, path string, o Options) (*Engine, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &schemas.Error{Kind: schemas.KindNotFound, Field: "model", Message: "the model file cannot be opened", Err: err}
	}
	defer f.Close()
	return open(ctx, f, path, o)
}

// OpenBytes loads a model that is in memory. The weights are handed to ggml through memory as well, not through a file
// on a disk.
func OpenBytes(ctx context.Context, b []byte, o Options) (*Engine, error) {
	f, path, err := memoryFile(b)
	if err != nil {
		return nil, &schemas.Error{Kind: schemas.KindInternal, Message: "there is no place for the model", Err: err}
	}
	defer f.Close()
	defer removeFile(path)
	e, err := open(ctx, f, path, o)
	if err == nil {
		e.runner.bytes = b // for a reload
	}
	return e, err
}

// open checks, loads and starts.
func open(ctx context.Context, f *os.File, path string, o Options) (*Engine, error) {
	if err := checkProcessor(); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, &schemas.Error{Kind: schemas.KindNotFound, Field: "model", Message: "the model is no file", Err: err}
	}
	h, err := gguf.Parse(f, info.Size())
	if err != nil {
		return nil, err
	}
	file, err := gguf.Check(h, info.Size())
	if err != nil {
		return nil, err
	}
	if o, err = o.withDefaults(file); err != nil {
		return nil, err
	}
	if o.Digest == "" {
		if o.Digest, err = digest(ctx, f); err != nil {
			return nil, err
		}
	}
	e := &Engine{o: o, file: file, stopped: make(chan struct{})}
	if e.runner, err = newRunner(path, file, o); err != nil {
		return nil, err
	}
	if err := e.prepare(); err != nil {
		e.runner.close()
		return nil, err
	}
	e.start()
	return e, nil
}

// prepare sets up what turns text into tokens and back.
func (e *Engine) prepare() error {
	tok, ok := e.runner.m.(tokenizer.Tokenizer)
	if !ok {
		return &schemas.Error{Kind: schemas.KindUnsupported, Field: "tokenizer.ggml.model", Message: "the model has no tokenizer"}
	}
	e.words = newVocabulary(tok, e.file)
	vector := 0
	if e.file.Pooled {
		vector = e.file.Width
	}
	e.fingerprint = fmt.Sprintf("ggml-%s-%s-%s", version(), e.o.Digest[:min(16, len(e.o.Digest))], e.build())
	if e.file.ChatTemplate != "" && !e.file.Pooled {
		t, err := jinja.Parse(e.file.ChatTemplate)
		if err != nil {
			e.o.Log.Warn("the model is served without chat: its template is not understood", "model", e.o.Name, "err", err)
		}
		e.template = t
	}
	keep := e.o.Keep
	if !e.runner.shares() {
		keep = -1
	}
	var err error
	e.batcher, err = batcher.New(batcher.Config{
		Model: e.runner, Vocab: len(e.file.Tokens), Vector: vector, Context: e.o.Context, Cells: e.o.Cells, Slots: e.o.Slots,
		StepTokens: e.o.StepTokens, Queue: e.o.Queue, Keep: keep, KeepFor: e.o.KeepFor, WipeEvery: e.o.WipeEvery,
		Piece: e.words.piece, End: e.words.ends, Log: e.o.Log,
	})
	return err
}

// start runs the batcher until Close.
func (e *Engine) start() {
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	go func() {
		defer close(e.stopped)
		if err := e.batcher.Run(ctx); !errors.Is(err, context.Canceled) {
			e.o.Log.Error("the engine has stopped", "model", e.o.Name, "err", err)
		}
	}()
}

// build names the instruction set that computes.
func (e *Engine) build() string {
	s := "base"
	switch {
	case e.o.GPU:
		s = "gpu"
	case kernels.ISA() != "":
		s = kernels.ISA()
	}
	if e.o.HalfCache {
		return s + "-kv16"
	}
	return s + "-kv32"
}

// version is the version of the ggml packages.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/ollama/ollama" {
				return d.Version
			}
		}
	}
	return "unknown"
}

// digest is the SHA-256 of the file.
func digest(ctx context.Context, f *os.File) (string, error) {
	h := sha256.New()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", &schemas.Error{Kind: schemas.KindCorrupt, Message: "the model file cannot be read", Err: err}
	}
	for {
		if err := ctx.Err(); err != nil {
			return "", &schemas.Error{Kind: schemas.KindCancelled, Message: "loading was cancelled", Err: err}
		}
		switch _, err := io.CopyN(h, f, 16<<20); {
		case errors.Is(err, io.EOF):
			return hex.EncodeToString(h.Sum(nil)), nil
		case err != nil:
			return "", &schemas.Error{Kind: schemas.KindCorrupt, Message: "the model file cannot be read", Err: err}
		}
	}
}

// Info implements consumers.Engine.
func (e *Engine) Info(context.Context) (consumers.Info, error) {
	endpoints := []string{pathCompletions}
	switch {
	case e.file.Pooled:
		endpoints = []string{pathEmbeddings}
	case e.template != nil:
		endpoints = []string{pathChat, pathCompletions}
	}
	return consumers.Info{
		Model: e.o.Name, Architecture: e.file.Architecture, Flavour: "ggml", Context: min(e.o.Context, e.o.Cells), Slots: e.o.Slots,
		Endpoints: endpoints, ExactCounts: true, Logprobs: !e.file.Pooled, Fingerprint: e.fingerprint, Build: Build(),
	}, nil
}

// Submit implements consumers.Engine.
func (e *Engine) Submit(ctx context.Context, r *consumers.Request) (consumers.Stream, error) {
	if err := e.offers(ctx, r); err != nil {
		return nil, err
	}
	c, err := e.understand(r.URL, r.Body)
	if err != nil {
		return nil, err
	}
	c.Tenant, c.Priority, c.Deadline = string(r.Tenant), r.Priority, r.Deadline
	ticket, err := e.batcher.Submit(ctx, c.requests()...)
	if err != nil {
		return nil, err
	}
	if c.inputs != nil {
		return &vectors{e: e, c: c, ticket: ticket}, nil
	}
	id := r.ID
	if id == "" {
		id = rand.Text()
	}
	return e.newStream(id, c, ticket), nil
}

// offers refuses endpoints and content types that the model does not serve.
func (e *Engine) offers(ctx context.Context, r *consumers.Request) error {
	info, err := e.Info(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(info.Endpoints, r.URL) {
		return &schemas.Error{Kind: schemas.KindUnsupported, Field: "url", Message: "the model does not serve this endpoint"}
	}
	if r.ContentType != "" && r.ContentType != "application/json" {
		return &schemas.Error{Kind: schemas.KindUnsupported, Field: "content-type", Message: "must be application/json"}
	}
	return nil
}

// Count implements consumers.Engine.
func (e *Engine) Count(ctx context.Context, r *consumers.Request) (int, bool, error) {
	if err := e.offers(ctx, r); err != nil {
		return 0, false, err
	}
	c, err := e.understand(r.URL, r.Body)
	if err != nil {
		return 0, false, err
	}
	n := len(c.Prompt)
	for _, p := range c.inputs {
		n += len(p)
	}
	return n, true, nil
}

// Capacity implements consumers.Engine.
func (e *Engine) Capacity() consumers.Capacity {
	l := e.batcher.Load()
	ahead := max(1, l.Slots/8) // a little more than runs, so that a slot is never empty for a round trip
	c := consumers.Capacity{
		Running: l.Running, Waiting: l.Waiting, Slots: l.Slots, KVUsed: int64(min(l.CellsUsed, l.Cells)), KVTotal: int64(l.Cells),
		Free: max(0, l.Slots+ahead-l.Running-l.Waiting), FreeTokens: int64(max(0, l.Cells-l.CellsUsed)),
		Draining: l.Draining, Healthy: l.Err == nil, At: time.Now(),
	}
	if c.Draining || !c.Healthy {
		c.Free, c.FreeTokens = 0, 0
	}
	return c
}

// Load is the batcher's own account, for metrics.
func (e *Engine) Load() batcher.Load { return e.batcher.Load() }

// Watch implements consumers.Engine.
func (e *Engine) Watch() <-chan struct{} { return e.batcher.Watch() }

// Drain implements consumers.Engine.
func (e *Engine) Drain(ctx context.Context) error { return e.batcher.Drain(ctx) }

// Close implements consumers.Engine.
func (e *Engine) Close() error {
	e.once.Do(func() {
		e.stop()
		<-e.stopped
		e.runner.close()
	})
	return nil
}

// Build says how the native code of this program was compiled, for people.
func Build() string {
	switch isa := kernels.ISA(); {
	case isa != "" && !kernels.Baseline():
		return "x86-64-v3 with " + isa + " kernels"
	case isa != "":
		return "plain build with " + isa + " kernels; quantised weights are slow without CGO_CFLAGS=-march=x86-64-v3"
	case kernels.Baseline():
		return "plain build, and this processor lacks AVX2: slow"
	}
	return "native"
}

// Stepping is since when the model has been computing, zero while it rests. A server tells a hung engine by it.
func (e *Engine) Stepping() time.Time { return e.batcher.Load().Stepping }

// Counts are counters for metrics.
func (e *Engine) Counts() map[string]float64 {
	c := e.batcher.Load().Counters
	return map[string]float64{
		"steps": float64(c.Steps), "step_tokens": float64(c.Tokens), "prompt": float64(c.Prompt), "generated": float64(c.Generated),
		"shared": float64(c.Shared), "finished": float64(c.Finished), "failed": float64(c.Failed), "cancelled": float64(c.Cancelled),
		"preempted": float64(c.Preempted), "wipes": float64(c.Wipes), "step_failures": float64(c.StepFailures),
	}
}
