package batcher

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// readAll collects the answers of a call by their numbers.
func readAll(t *Ticket, n int) (texts []string, results []*Result, err error) {
	texts, results = make([]string, n), make([]*Result, n)
	for {
		p, err := t.Next()
		if err != nil {
			return texts, results, err
		}
		texts[p.Index] += p.Text
		if p.Result != nil {
			results[p.Index] = p.Result
		}
	}
}

// TestAnswersToOnePrompt: the prompt of several answers is computed once and counted once, without a tenant as well; with
// fewer slots than answers all of them come.
func TestAnswersToOnePrompt(t *testing.T) {
	for name, slots := range map[string]int{"together": 8, "two at a time": 2, "one by one": 1} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := setup(t, newFake(t, 1024), Config{Slots: slots})
				defer b.stop()
				const n, long, most = 5, 100, 20
				p := prompt(3, long)
				ticket := b.submit(Request{Prompt: p, MaxTokens: most, N: n})
				texts, results, err := readAll(ticket, n)
				if !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				for i, text := range texts {
					if text != answer(p, most) || results[i] == nil || results[i].Reason != "length" {
						t.Errorf("answer %d: %q %+v", i, text, results[i])
					}
				}
				if s := ticket.Stats(); s.Prompt != long || s.Cached != 0 || s.Generated != n*most {
					t.Errorf("%+v", s)
				}
				computed := int(b.Load().Tokens)
				if once := long + n*most; slots == 8 && computed > once { // each further one computes the last token of the prompt
					t.Errorf("%d tokens were computed for a prompt of %d and %d answers of %d", computed, long, n, most)
				}
			})
		})
	}
}

// TestSeedsOfAnswers: several answers to one prompt are drawn from seeds of their own, and repeat.
func TestSeedsOfAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 1024), Config{Slots: 4})
		defer b.stop()
		flat := Sampling{Temperature: 2, Seed: 7, Bias: map[int32]float64{}}
		for i := range int32(fakeVocab) {
			flat.Bias[i] = float64(i % 3)
		}
		ask := func() []string {
			texts, _, err := readAll(b.submit(Request{Prompt: prompt(1, 20), MaxTokens: 20, N: 4, Sampling: flat}), 4)
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return texts
		}
		a, again := ask(), ask()
		if !slices.Equal(a, again) {
			t.Errorf("%q, then %q", a, again)
		}
		if slices.Sort(a); len(slices.Compact(a)) != 4 {
			t.Errorf("answers are the same: %q", a)
		}
	})
}

// TestCallIsOne: a call is queued whole or not at all, and one sequence that fails, or a cancel, ends all of it.
func TestCallIsOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFake(t, 1024)
		bad := prompt(7, 9)
		m.failing = func(b Batch) error {
			for i := range b.Tokens {
				if b.Pos[i] == 20 && slices.Equal(m.context(b.Seq[i], 8), bad) {
					return errors.New("compute error")
				}
			}
			return nil
		}
		b := setup(t, m, Config{Slots: 4, Queue: 3})
		defer b.stop()
		mixed, err := b.Submit(t.Context(), Request{Prompt: prompt(1, 9), MaxTokens: 900}, Request{Prompt: bad, MaxTokens: 30})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := readAll(mixed, 2); schemas.KindOf(err) != schemas.KindEngine {
			t.Errorf("a call with a bad sequence: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
		if l := b.Load(); l.Running+l.Waiting != 0 {
			t.Errorf("the rest of the call goes on: %+v", l)
		}
		ctx, cancel := context.WithCancel(t.Context())
		many, err := b.Submit(ctx, Request{Prompt: prompt(1, 9), MaxTokens: 100, N: 20})
		if err != nil {
			t.Errorf("an empty queue refuses a call: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
		if _, err := b.Submit(t.Context(), Request{Prompt: prompt(1, 9), MaxTokens: 100}); schemas.KindOf(err) != schemas.KindBusy {
			t.Errorf("a full queue: %v", err)
		}
		cancel()
		if _, _, err := readAll(many, 20); schemas.KindOf(err) != schemas.KindCancelled {
			t.Errorf("a cancelled call: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
		if l := b.Load(); l.Running+l.Waiting+l.CellsUsed != 0 {
			t.Errorf("left over: %+v", l)
		}
		for name, rs := range map[string][]Request{
			"no sequence": {}, "too many": {{Prompt: bad, MaxTokens: 1, N: MaxSequences + 1}}, "one is wrong": {{Prompt: bad, MaxTokens: 1}, {}},
			"less than one": {{Prompt: bad, MaxTokens: 1, N: -1}},
		} {
			if _, err := b.Submit(t.Context(), rs...); err == nil || schemas.Retriable(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if l := b.Load(); l.Waiting != 0 {
			t.Errorf("a refused call is in the queue: %+v", l)
		}
	})
}

// TestVectors: a model that gives vectors is asked for one prompt after the other, in chunks; beginnings are shared within
// the tenant as usual.
func TestVectors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFake(t, 512)
		m.vector = 5
		b := setup(t, m, Config{Slots: 4, StepTokens: 16, Vector: 5})
		defer b.stop()
		head := prompt(3, 40)
		prompts := [][]int32{prompt(1, 50), append(slices.Clone(head), 1), append(slices.Clone(head), 2), prompt(2, 3)}
		ask := func(tenant string) Stats {
			var rs []Request
			for _, p := range prompts {
				rs = append(rs, Request{Tenant: tenant, Prompt: p})
			}
			ticket, err := b.Submit(t.Context(), rs...)
			if err != nil {
				t.Fatal(err)
			}
			_, results, err := readAll(ticket, len(prompts))
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			for i, r := range results {
				if want := vectorOf(prompts[i], 5); !slices.Equal(r.Vector, want) || r.Generated != 0 || r.Prompt != len(prompts[i]) {
					t.Errorf("prompt %d: %+v, want %v", i, r, want)
				}
			}
			return ticket.Stats()
		}
		if s := ask("a"); s.Prompt != 50+41+41+3 {
			t.Errorf("%+v", s)
		}
		if s := ask("a"); s.Cached != 49+40+40 { // three letters are not worth it
			t.Errorf("again: %+v", s)
		}
		if s := ask("b"); s.Cached != 0 {
			t.Errorf("another tenant: %+v", s)
		}
		for _, s := range m.steps {
			if len(s.Out) > 1 || len(slices.Compact(slices.Clone(s.Seq))) != 1 || len(s.Tokens) > 16 {
				t.Fatalf("a pass with the prompts %v and %d tokens", s.Seq, len(s.Tokens))
			}
		}
		for _, r := range []Request{{Prompt: head, MaxTokens: 1}, {Prompt: head, N: 2}, {}} {
			if _, err := b.Submit(t.Context(), r); schemas.KindOf(err) != schemas.KindInvalid {
				t.Errorf("%+v: %v", r, err)
			}
		}
	})
}
