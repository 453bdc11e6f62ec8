package ggml

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ollama/ollama/kvcache"
	"github.com/ollama/ollama/model/input"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/ggml/batcher"
	"github.com/cocoon-network/cocoon/consumers/ggml/gguf"
	"github.com/cocoon-network/cocoon/schemas"
)

// completion asks for raw text, greedily.
func completion(prompt string, max int) *consumers.Request {
	b, _ := json.Marshal(map[string]any{"model": "m", "prompt": prompt, "max_tokens": max, "temperature": 0, "ignore_eos": true})
	return &consumers.Request{URL: consumers.PathCompletions, Body: b}
}

// TestArchitectures: every architecture that is admitted really runs, in 16 and in 8 bits, alone and in a batch, past a
// sliding window and through a wipe.
func TestArchitectures(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"llama", "mistral3", "qwen2", "qwen3", "gemma2", "gemma3"} {
		for _, w := range []gguf.Type{gguf.F16, gguf.Q8_0} {
			t.Run(fmt.Sprintf("%s %v", arch, w), func(t *testing.T) {
				t.Parallel()
				layers := 2
				if arch == "gemma3" {
					layers = 7 // the sixth is the first without a window
				}
				e := openModel(t, randomModel(t, gguf.Shape{Architecture: arch, Layers: layers, Weights: w, Seed: 3}), Options{Slots: 4, Context: 256})
				prompts := []string{"one", "two words", strings.Repeat("long ", 25), "x"}
				alone := make([]string, len(prompts))
				for i, p := range prompts {
					d, o, err := ask(t, e, completion(p, 20))
					if err != nil {
						t.Fatal(err)
					}
					if d.Usage.Completion != 20 {
						t.Errorf("%+v", d.Usage)
					}
					alone[i] = o.Choices[0].Text
				}
				together := make([]string, len(prompts))
				var wg sync.WaitGroup
				for i, p := range prompts {
					wg.Go(func() {
						_, o, err := ask(t, e, completion(p, 20))
						if err != nil {
							t.Error(err)
							return
						}
						together[i] = o.Choices[0].Text
					})
				}
				wg.Wait()
				same := 0
				for i := range prompts {
					if alone[i] == together[i] {
						same++
					}
				}
				if same < len(prompts)-1 { // random weights have near ties, which the batch's shape may flip
					t.Errorf("only %d of %d answers are the same in a batch", same, len(prompts))
				}
				if _, _, err := ask(t, e, completion(strings.Repeat("window ", 12), 150)); err != nil {
					t.Errorf("past the window: %v", err)
				}
				if err := e.Drain(t.Context()); err != nil {
					t.Fatal(err)
				}
				if c := e.Counts(); c["wipes"] == 0 || c["step_failures"] != 0 {
					t.Errorf("%v", c)
				}
				if left := stored(t, e); left != 0 {
					t.Errorf("%d numbers in memory are not zero after the drain", left)
				}
			})
		}
	}
}

// stored counts the numbers in the key-value memory that are not zero.
func stored(t *testing.T, e *Engine) (n int) {
	t.Helper()
	<-e.batcher.Watch() // every request has ended; the batcher rests and does not touch the model
	native.Lock()
	defer native.Unlock()
	r := e.runner
	ctx := r.m.Backend().NewContext()
	defer ctx.Close()
	for layer := range r.file.Layers {
		in := input.Batch{Positions: []int32{0}, Sequences: []int{0}}
		if err := r.cache.StartForward(ctx, in, true); err != nil {
			t.Fatal(err)
		}
		r.cache.SetLayer(layer)
		if w, ok := r.cache.(*kvcache.WrapperCache); ok {
			w.SetLayerType(map[bool]int{true: 0, false: 1}[r.file.Windowed(layer)])
		}
		k, v, _ := r.cache.Get(ctx)
		k, v = k.Contiguous(ctx), v.Contiguous(ctx)
		ctx.Forward(k, v).Compute(k, v)
		for _, x := range slices.Concat(k.Floats(), v.Floats()) {
			if x != 0 {
				n++
			}
		}
	}
	return n
}

// TestWipeReally: the helper above sees what is there, and a wipe of the memory of one tenant leaves the other's alone.
func TestWipeReally(t *testing.T) {
	t.Parallel()
	e := openTiny(t, Options{Slots: 4})
	r := chatRequest("a", "Translate to French: the red cat sleeps and the red cat sleeps and the red cat sleeps")
	if _, _, err := ask(t, e, r); err != nil {
		t.Fatal(err)
	}
	if stored(t, e) == 0 {
		t.Fatal("the memory of a kept prefix is blank")
	}
	d, _, err := ask(t, e, r)
	if err != nil || d.Usage.Cached == 0 {
		t.Errorf("%+v %v", d, err)
	}
	d, _, err = ask(t, e, chatRequest("b", "Translate to French: the red cat sleeps and the red cat sleeps and the red cat sleeps"))
	if err != nil || d.Usage.Cached != 0 {
		t.Errorf("another tenant: %+v %v", d, err)
	}
	if err := e.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := stored(t, e); n != 0 {
		t.Errorf("%d numbers are left", n)
	}
}

func chatRequest(tenant schemas.TenantID, text string) *consumers.Request {
	return &consumers.Request{URL: consumers.PathChat, Tenant: tenant, Body: chatBody(40, turn{"role": "user", "content": text})}
}

// TestSharedPrefix: an answer on shared memory is the answer on computed memory.
func TestSharedPrefix(t *testing.T) {
	t.Parallel()
	e := openTiny(t, Options{Slots: 4})
	for _, x := range examples(t)[:80] {
		body := x.body()
		_, alone, err := ask(t, e, &consumers.Request{URL: consumers.PathChat, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		_, first, err := ask(t, e, &consumers.Request{URL: consumers.PathChat, Body: body, Tenant: "t"})
		if err != nil {
			t.Fatal(err)
		}
		_, second, err := ask(t, e, &consumers.Request{URL: consumers.PathChat, Body: body, Tenant: "t"})
		if err != nil {
			t.Fatal(err)
		}
		a, b, c := alone.Choices[0].Message.Content, first.Choices[0].Message.Content, second.Choices[0].Message.Content
		if a != b || a != c {
			t.Errorf("%q: %q alone, %q first, %q on shared memory", x.Prompt, a, b, c)
		}
	}
	if e.Counts()["shared"] == 0 {
		t.Error("nothing was shared")
	}
}

// TestReset: after a failed pass the model is loaded anew and answers as before.
func TestReset(t *testing.T) {
	t.Parallel()
	e := openTiny(t, Options{Slots: 2})
	e.stop()
	<-e.stopped
	if err := e.runner.Reset(); err != nil {
		t.Fatal(err)
	}
	logits, err := e.runner.Step(batcher.Batch{Tokens: []int32{1, 4}, Pos: []int32{0, 1}, Seq: []int{0, 0}, Out: []int32{1}})
	if err != nil || len(logits) != len(e.file.Tokens) || math.IsNaN(float64(logits[0])) {
		t.Errorf("%d logits, %v", len(logits), err)
	}
	if none, err := e.runner.Step(batcher.Batch{Tokens: []int32{5}, Pos: []int32{2}, Seq: []int{0}}); err != nil || none != nil {
		t.Errorf("a pass without outputs: %d logits, %v", len(none), err)
	}
	if _, err := e.runner.Step(batcher.Batch{Tokens: make([]int32, 4), Pos: make([]int32, 2), Seq: make([]int, 4), Out: []int32{3}}); err == nil {
		t.Error("a batch that does not fit together is no error")
	}
}
