package batcher

import (
	"errors"
	"math"
	"slices"
	"testing"
)

// draws counts what a sampler chooses in n tries from the same logits.
func draws(t *testing.T, s Sampling, logits []float32, n int) map[int32]int {
	t.Helper()
	got := map[int32]int{}
	p := newSampler(s, nil)
	for range n {
		token, err := p.next(slices.Clone(logits))
		if err != nil {
			t.Fatal(err)
		}
		got[token]++
	}
	return got
}

// logs are the logits of given probabilities.
func logs(p ...float64) []float32 {
	var l []float32
	for _, v := range p {
		l = append(l, float32(math.Log(v)))
	}
	return l
}

func TestSampling(t *testing.T) {
	t.Parallel()
	l := logs(0.4, 0.3, 0.2, 0.1)
	const n = 20000
	for name, c := range map[string]struct {
		s    Sampling
		want []float64 // probabilities
	}{
		"greedy":      {Sampling{}, []float64{1, 0, 0, 0}},
		"plain":       {Sampling{Temperature: 1}, []float64{0.4, 0.3, 0.2, 0.1}},
		"cool":        {Sampling{Temperature: 0.5}, []float64{16. / 30, 9. / 30, 4. / 30, 1. / 30}},
		"top k":       {Sampling{Temperature: 1, TopK: 2}, []float64{4. / 7, 3. / 7, 0, 0}},
		"top p":       {Sampling{Temperature: 1, TopP: 0.75}, []float64{4. / 9, 3. / 9, 2. / 9, 0}},
		"top p tiny":  {Sampling{Temperature: 1, TopP: 0.01}, []float64{1, 0, 0, 0}},
		"min p":       {Sampling{Temperature: 1, MinP: 0.6}, []float64{4. / 7, 3. / 7, 0, 0}},
		"bias":        {Sampling{Bias: map[int32]float64{3: 100}}, []float64{0, 0, 0, 1}},
		"ban":         {Sampling{Bias: map[int32]float64{0: -100}}, []float64{0, 1, 0, 0}},
		"top k and p": {Sampling{Temperature: 1, TopK: 3, TopP: 0.5}, []float64{4. / 7, 3. / 7, 0, 0}},
	} {
		got := draws(t, c.s, l, n)
		for i, p := range c.want {
			if share := float64(got[int32(i)]) / n; math.Abs(share-p) > 0.015 {
				t.Errorf("%s: token %d has share %.3f, want %.3f", name, i, share, p)
			}
		}
	}
}

func TestPenalties(t *testing.T) {
	t.Parallel()
	l := []float32{3, 2.5, 2, -1}
	seq := func(s Sampling, prompt ...int32) (out []int32) {
		p := newSampler(s, prompt)
		for range 4 {
			token, err := p.next(slices.Clone(l))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, token)
		}
		return out
	}
	for name, c := range map[string]struct {
		got, want []int32
	}{
		"presence counts once":         {seq(Sampling{Presence: 0.8}), []int32{0, 1, 0, 0}},
		"frequency adds up":            {seq(Sampling{Frequency: 0.6}), []int32{0, 1, 0, 2}},
		"repetition knows the prompt":  {seq(Sampling{Repetition: 2}, 0), []int32{1, 2, 0, 0}},
		"negative presence rewards":    {seq(Sampling{Presence: -1}), []int32{0, 0, 0, 0}},
		"repetition 1 changes nothing": {seq(Sampling{Repetition: 1}, 0), []int32{0, 0, 0, 0}},
		"presence ignores the prompt":  {seq(Sampling{Presence: 2}, 0), []int32{0, 1, 2, 0}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}

// TestSeed: the seed alone decides, whatever other samplers do in between.
func TestSeed(t *testing.T) {
	t.Parallel()
	l := logs(0.25, 0.25, 0.25, 0.25)
	run := func(seed uint64) (out []int32) {
		a, b := newSampler(Sampling{Temperature: 1, Seed: seed}, nil), newSampler(Sampling{Temperature: 1, Seed: seed + 1}, nil)
		for range 30 {
			token, _ := a.next(slices.Clone(l))
			b.next(slices.Clone(l))
			out = append(out, token)
		}
		return out
	}
	if !slices.Equal(run(7), run(7)) {
		t.Error("the same seed gave different tokens")
	}
	if slices.Equal(run(7), run(9)) {
		t.Error("different seeds gave the same tokens")
	}
}

func TestNotFinite(t *testing.T) {
	t.Parallel()
	inf := float32(math.Inf(1))
	for _, l := range [][]float32{{0, float32(math.NaN())}, {inf, 0}, {-inf, -inf}} {
		if _, err := newSampler(Sampling{Temperature: 1}, nil).next(l); !errors.Is(err, errNotFinite) {
			t.Errorf("%v: %v", l, err)
		}
	}
	if token, err := newSampler(Sampling{Temperature: 2}, nil).next([]float32{-inf, 0, -inf}); token != 1 || err != nil {
		t.Errorf("%d %v", token, err)
	}
}

func TestLogprobs(t *testing.T) {
	t.Parallel()
	l := logs(0.1, 0.4, 0.2, 0.3)
	top, of := logprobs(l, 2)
	if len(top) != 2 || top[0].Token != 1 || top[1].Token != 3 || math.Abs(math.Exp(top[0].Logprob)-0.4) > 1e-6 {
		t.Errorf("%v", top)
	}
	if math.Abs(math.Exp(of(0))-0.1) > 1e-6 {
		t.Errorf("%v", of(0))
	}
	if none, _ := logprobs(l, 0); len(none) != 0 {
		t.Errorf("%v", none)
	}
}
