package enginebench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/ggml"
	"github.com/cocoon-network/cocoon/consumers/ggml/gguf"
	"github.com/cocoon-network/cocoon/schemas"
)

// Plan says how much is measured.
type Plan struct {
	// Requests per round; 0 means 16.
	Requests int
	// Tokens is the longest answer; 0 means 64.
	Tokens int
	// Rounds taken in turns; 0 means 3.
	Rounds int
	// Threads of the CPU; 0 means 1, which is what CPU time can be compared by.
	Threads int
	// Shape of the random model; the zero value is the one of 15.2 million parameters that the goals are stated for.
	Shape gguf.Shape
}

// Figures are the results.
type Figures struct {
	// BatchingGain, TTFTGain, GreedySame and Overload as in the package's doc.
	BatchingGain, TTFTGain, GreedySame, Overload float64
	// Sequential and Batched are generated tokens per CPU-second with one and with 16 slots.
	Sequential, Batched float64
	// FirstAlone and FirstBatched are the median times to the first token.
	FirstAlone, FirstBatched time.Duration
	// Preempted counts sequences that gave way under overload.
	Preempted int
}

// Round is one run over all requests.
type Round struct {
	// Tokens were generated. Firsts are the times to the first one, Answers the texts, by request.
	Tokens  int
	Firsts  []time.Duration
	Answers []string

	cpu      time.Duration
	preempts int
}

// perCPU is generated tokens per second of CPU time.
func (r Round) perCPU() float64 { return float64(r.Tokens) / r.cpu.Seconds() }

// MedianFirst is the median of the times to the first token.
func (r Round) MedianFirst() time.Duration {
	sorted := slices.Sorted(slices.Values(r.Firsts))
	return sorted[len(sorted)/2]
}

// Run measures everything.
func Run(ctx context.Context, p Plan) (Figures, error) {
	p = p.WithDefaults()
	var model bytes.Buffer
	if err := gguf.Random(&model, p.Shape); err != nil {
		return Figures{}, err
	}
	var f Figures
	var one, sixteen, roomy, tight []Round
	crowd := p // four times as many requests: with a quarter of the memory, as much fits as runs at a time
	crowd.Requests, crowd.Tokens = 4*p.Requests, p.Tokens/2
	for range p.Rounds {
		for _, m := range []struct {
			into  *[]Round
			slots int
			cells int
			plan  Plan
		}{{&one, 1, 0, p}, {&sixteen, 16, 0, p}, {&roomy, 16, crowd.work(), crowd}, {&tight, 16, crowd.work() / 4, crowd}} {
			r, err := m.plan.round(ctx, model.Bytes(), m.slots, m.cells)
			if err != nil {
				return f, err
			}
			*m.into = append(*m.into, r)
		}
	}
	four, err := p.round(ctx, model.Bytes(), 4, 0)
	if err != nil {
		return f, err
	}
	f.Sequential, f.Batched = best(one, Round.perCPU), best(sixteen, Round.perCPU)
	f.BatchingGain = f.Batched / f.Sequential
	f.FirstAlone, f.FirstBatched = fastest(one), fastest(sixteen)
	f.TTFTGain = f.FirstAlone.Seconds() / f.FirstBatched.Seconds()
	f.GreedySame = (same(one[0].Answers, four.Answers) + same(one[0].Answers, sixteen[0].Answers)) / 2
	f.Overload = best(tight, Round.perCPU) / best(roomy, Round.perCPU)
	for _, r := range tight {
		f.Preempted += r.preempts
	}
	return f, nil
}

// WithDefaults fills in what is zero.
func (p Plan) WithDefaults() Plan {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&p.Requests, 16)
	set(&p.Tokens, 64)
	set(&p.Rounds, 3)
	set(&p.Threads, 1)
	if p.Shape == (gguf.Shape{}) {
		p.Shape = gguf.Shape{Layers: 6, Width: 288, Heads: 6, KVHeads: 6, FeedForward: 768, Vocab: 32000, Context: 2048, Seed: 7}
	}
	return p
}

// words that prompts are made of.
const words = "the quick brown fox jumps over the lazy dog and runs into the dark green wood where nobody has ever seen it before "

// request i: prompts of 8 to 40 characters and answers of a quarter to all of Tokens.
func (p Plan) request(i int) (prompt string, tokens int) {
	start := (i * 13) % 40
	return words[start : start+8+(i*7)%33], p.Tokens/4 + (i*37)%max(1, p.Tokens*3/4)
}

// work is the key-value memory that all requests need together, in tokens.
func (p Plan) work() int {
	n := 0
	for i := range p.Requests {
		prompt, tokens := p.request(i)
		n += 1 + len(prompt) + tokens // a character is a token at most
	}
	return n
}

// round runs all requests at once on a fresh engine.
func (p Plan) round(ctx context.Context, model []byte, slots, cells int) (Round, error) {
	e, err := ggml.OpenBytes(ctx, model, ggml.Options{
		Slots: slots, Context: 256, Cells: cells, StepTokens: 128, Queue: p.Requests, Threads: p.Threads, Keep: -1, Digest: "bench",
	})
	if err != nil {
		return Round{}, err
	}
	defer e.Close()
	before := processTime()
	r, err := p.Drive(ctx, e)
	r.cpu = processTime() - before
	r.preempts = int(e.Counts()["preempted"])
	return r, err
}

// Drive runs all requests at once on any engine that serves completions.
func (p Plan) Drive(ctx context.Context, e consumers.Engine) (Round, error) {
	r := Round{Firsts: make([]time.Duration, p.Requests), Answers: make([]string, p.Requests)}
	errs := make([]error, p.Requests)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range p.Requests {
		wg.Go(func() {
			d, text, err := p.ask(ctx, e, i)
			if errs[i] = err; err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			r.Tokens += int(d.Usage.Completion)
			r.Firsts[i], r.Answers[i] = d.TTFT, text
		})
	}
	wg.Wait()
	return r, errors.Join(errs...)
}

// ask runs one request and checks that it is answered in full.
func (p Plan) ask(ctx context.Context, e consumers.Engine, i int) (*consumers.Done, string, error) {
	prompt, tokens := p.request(i)
	body, err := json.Marshal(map[string]any{"model": "bench", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": true})
	if err != nil {
		return nil, "", err
	}
	s, err := e.Submit(ctx, &consumers.Request{URL: consumers.PathCompletions, Body: body})
	if err != nil {
		return nil, "", err
	}
	defer s.Close()
	for {
		ev, err := s.Next()
		if err != nil {
			return nil, "", err
		}
		if ev.Done == nil {
			continue
		}
		if got := ev.Done.Usage.Completion; got != uint64(tokens) {
			return nil, "", &schemas.Error{Kind: schemas.KindEngine, Message: fmt.Sprintf("%d tokens instead of %d", got, tokens)}
		}
		var o struct{ Choices []struct{ Text string } }
		if err := json.Unmarshal(ev.Done.Body, &o); err != nil {
			return nil, "", err
		}
		return ev.Done, o.Choices[0].Text, nil
	}
}

// best is the best of several rounds: the one that was disturbed least.
func best(rounds []Round, f func(Round) float64) float64 {
	v := 0.0
	for _, r := range rounds {
		v = max(v, f(r))
	}
	return v
}

func fastest(rounds []Round) time.Duration {
	v := rounds[0].MedianFirst()
	for _, r := range rounds[1:] {
		v = min(v, r.MedianFirst())
	}
	return v
}

// same is the share of equal answers.
func same(a, b []string) float64 {
	n := 0
	for i := range a {
		if a[i] == b[i] {
			n++
		}
	}
	return float64(n) / float64(len(a))
}

// String is for people.
func (f Figures) String() string {
	return strings.Join([]string{
		fmt.Sprintf("16 slots over 1: %.2f× tokens per CPU-second (%.0f over %.0f)", f.BatchingGain, f.Batched, f.Sequential),
		fmt.Sprintf("time to the first token: %.1f× (%v over %v)", f.TTFTGain, f.FirstAlone.Round(time.Millisecond), f.FirstBatched.Round(time.Millisecond)),
		fmt.Sprintf("same answers: %.2f", f.GreedySame),
		fmt.Sprintf("4× overload: %.2f of the throughput, %d preempted", f.Overload, f.Preempted),
	}, "\n")
}
