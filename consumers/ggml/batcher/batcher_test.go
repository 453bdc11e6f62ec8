package batcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// bundle is a batcher that runs on a fake model, inside a bubble of fake time.
type bundle struct {
	*Batcher
	t     *testing.T
	model *fakeModel
	stop  func() error
}

// setup starts a batcher. The test must call stop, or drain and stop.
func setup(t *testing.T, model *fakeModel, c Config) *bundle {
	t.Helper()
	c.Model, c.Vocab, c.Cells, c.Piece = model, fakeVocab, len(model.cells), piece
	if c.Context == 0 {
		c.Context = len(model.cells)
	}
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	return &bundle{b, t, model, func() error { cancel(); return <-done }}
}

// submit must succeed.
func (b *bundle) submit(r Request) *Ticket {
	b.t.Helper()
	ticket, err := b.Submit(b.t.Context(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	return ticket
}

// read collects a whole answer.
func read(t *Ticket) (string, *Result, error) {
	var out strings.Builder
	for {
		p, err := t.Next()
		if err != nil {
			return out.String(), nil, err
		}
		out.WriteString(p.Text)
		if p.Result != nil {
			if _, err := t.Next(); !errors.Is(err, io.EOF) {
				return out.String(), p.Result, fmt.Errorf("after the result: %v", err)
			}
			return out.String(), p.Result, nil
		}
	}
}

// want reads an answer and compares.
func (b *bundle) want(ticket *Ticket, text, reason string) *Result {
	b.t.Helper()
	got, res, err := read(ticket)
	if err != nil {
		b.t.Fatalf("answer failed after %q: %v", got, err)
	}
	if got != text || res.Reason != reason {
		b.t.Errorf("answer %q (%s), want %q (%s)", got, res.Reason, text, reason)
	}
	return res
}

func bubble(t *testing.T, f func(*testing.T)) {
	t.Parallel()
	synctest.Test(t, f)
}

// TestJoinAndLeave: requests of different lengths share every pass; the answers are those of each alone.
func TestJoinAndLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 512), Config{Slots: 8, StepTokens: 40})
		var tickets []*Ticket
		for i := range 12 {
			tickets = append(tickets, b.submit(Request{Prompt: prompt(i, 3+5*i%31), MaxTokens: 4 + i}))
		}
		for i, ticket := range tickets {
			res := b.want(ticket, answer(prompt(i, 3+5*i%31), 4+i), "length")
			if res.Prompt != 3+5*i%31 || res.Generated != 4+i || res.Cached != 0 {
				t.Errorf("request %d: %+v", i, res)
			}
		}
		most := 0
		for _, s := range b.model.steps {
			most = max(most, len(s.Out))
			if len(s.Tokens) > 40 {
				t.Errorf("a step of %d tokens", len(s.Tokens))
			}
		}
		if most != 8 {
			t.Errorf("at most %d sequences got on together, want 8", most)
		}
		if err := b.stop(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestDecodeFirst: a long prompt that arrives does not hold up those who generate: each gets a token in every pass.
func TestDecodeFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 1024), Config{Slots: 4, StepTokens: 10})
		defer b.stop()
		a := b.submit(Request{Prompt: prompt(1, 2), MaxTokens: 60})
		time.Sleep(5*time.Millisecond + time.Microsecond)
		long := b.submit(Request{Prompt: prompt(2, 200), MaxTokens: 1})
		b.want(long, answer(prompt(2, 200), 1), "length")
		b.want(a, answer(prompt(1, 2), 60), "length")
		chunks := 0
		for _, s := range b.model.steps[5:] {
			if slices.Contains(s.Seq, s.Seq[0]) && len(s.Tokens) > 1 {
				chunks++
				if s.Seq[0] == s.Seq[1] || len(s.Tokens) > 10 {
					t.Fatalf("step without the decode first: %v", s.Seq)
				}
			}
		}
		if chunks < 200/9 {
			t.Errorf("prompt went in %d chunks", chunks)
		}
	})
}

// TestPreempt: four times more work than memory. Everything completes, in full, and streams do not notice.
func TestPreempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 100), Config{Slots: 8, StepTokens: 32})
		defer b.stop()
		var tickets []*Ticket
		for i := range 16 {
			tickets = append(tickets, b.submit(Request{Prompt: prompt(i, 5), MaxTokens: 40}))
		}
		for i, ticket := range tickets {
			if res := b.want(ticket, answer(prompt(i, 5), 40), "length"); res.Generated != 40 || res.Prompt != 5 {
				t.Errorf("%+v", res)
			}
		}
		if l := b.Load(); l.Preempted == 0 || l.Finished != 16 {
			t.Errorf("%+v", l)
		}
	})
}

// TestPriority: the higher priority goes first, and keeps its memory.
func TestPriority(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 60), Config{Slots: 2, StepTokens: 16})
		defer b.stop()
		low := b.submit(Request{Prompt: prompt(1, 4), MaxTokens: 40})
		low2 := b.submit(Request{Prompt: prompt(2, 4), MaxTokens: 40})
		time.Sleep(10 * time.Millisecond)
		high := b.submit(Request{Prompt: prompt(3, 4), MaxTokens: 50, Priority: 1})
		late := b.submit(Request{Prompt: prompt(4, 4), MaxTokens: 5, Priority: 1})
		res := b.want(high, answer(prompt(3, 4), 50), "length")
		if res.Preempted != 0 {
			t.Errorf("high priority was preempted %d times", res.Preempted)
		}
		rl := b.want(low, answer(prompt(1, 4), 40), "length")
		rl2 := b.want(low2, answer(prompt(2, 4), 40), "length")
		rlate := b.want(late, answer(prompt(4, 4), 5), "length")
		if rl.Preempted+rl2.Preempted == 0 {
			t.Error("nobody gave way")
		}
		if rlate.Total > max(rl.Total, rl2.Total) {
			t.Error("the last of high priority ended after all others")
		}
	})
}

// TestFairness: one tenant's flood does not delay another's first request by more than what already runs.
func TestFairness(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 4096), Config{Slots: 4, Queue: 200, StepTokens: 64})
		defer b.stop()
		var flood []*Ticket
		for i := range 100 {
			flood = append(flood, b.submit(Request{Tenant: "flood", Prompt: prompt(i, 6), MaxTokens: 10}))
		}
		time.Sleep(55 * time.Millisecond)
		single := b.submit(Request{Tenant: "single", Prompt: prompt(5, 6), MaxTokens: 10})
		if res := b.want(single, answer(prompt(5, 6), 10), "length"); res.Queue > 12*time.Millisecond {
			t.Errorf("the single request waited %v", res.Queue)
		}
		for _, f := range flood {
			if _, _, err := read(f); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestFairShares: three tenants that always have work get equal service, whatever the size of their requests.
func TestFairShares(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 4096), Config{Slots: 2, Queue: 1000, StepTokens: 64})
		defer b.stop()
		tickets := map[string][]*Ticket{}
		for i := range 300 {
			for tenant, r := range map[string]Request{
				"long": {Prompt: prompt(i, 6), MaxTokens: 30}, "short": {Prompt: prompt(i, 6), MaxTokens: 3}, "mid": {Prompt: prompt(i, 26), MaxTokens: 10},
			} {
				r.Tenant = tenant
				tickets[tenant] = append(tickets[tenant], b.submit(r))
			}
		}
		time.Sleep(time.Second)
		var served []int // as the requests saw it
		for _, list := range tickets {
			sum := 0
			for _, ticket := range list {
				if s := ticket.Stats(); s.Generated > 0 {
					sum += promptPrice*s.Prompt + generatedPrice*s.Generated
				}
			}
			served = append(served, sum)
		}
		if lo, hi := slices.Min(served), slices.Max(served); lo*10 < hi*9 || lo == 0 {
			t.Errorf("served %v", served)
		}
	})
}

// TestShare: a prompt that begins like another of the same tenant is not computed again; another tenant's is.
func TestShare(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 1024), Config{Slots: 4})
		defer b.stop()
		head := prompt(3, 40)
		ask := func(tenant string, tail int) *Result {
			p := append(slices.Clone(head), prompt(tail, 5)...)
			return b.want(b.submit(Request{Tenant: tenant, Prompt: p, MaxTokens: 5}), answer(p, 5), "length")
		}
		if r := ask("a", 1); r.Cached != 0 {
			t.Errorf("first: %d cached", r.Cached)
		}
		if r := ask("a", 2); r.Cached != 40 {
			t.Errorf("second: %d cached, want 40", r.Cached)
		}
		if r := ask("b", 1); r.Cached != 0 {
			t.Errorf("another tenant: %d cached", r.Cached)
		}
		if r := ask("", 1); r.Cached != 0 {
			t.Errorf("no tenant: %d cached", r.Cached)
		}
		if r := ask("a", 1); r.Cached != 44 { // all but the last token of the very same prompt
			t.Errorf("the same again: %d cached, want 44", r.Cached)
		}
		p := append(slices.Clone(head), prompt(9, 300)...)
		running := b.submit(Request{Tenant: "c", Prompt: p, MaxTokens: 100})
		time.Sleep(4 * time.Millisecond)
		if r := ask("c", 1); r.Cached != 40 {
			t.Errorf("shared with a running one: %d cached, want 40", r.Cached)
		}
		b.want(running, answer(p, 100), "length")
	})
}

// TestWipe: what a tenant left is overwritten within WipeEvery, and at once on drain.
func TestWipe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFake(t, 1024)
		m.step = 5 * time.Millisecond
		b := setup(t, m, Config{Slots: 4, KeepFor: 10 * time.Second})
		long := b.submit(Request{Tenant: "stays", Prompt: prompt(1, 20), MaxTokens: 900})
		b.want(b.submit(Request{Prompt: prompt(2, 50), MaxTokens: 10}), answer(prompt(2, 50), 10), "length")
		time.Sleep(time.Second + 10*time.Millisecond)
		if n := b.model.remains(); n != 0 {
			t.Errorf("%d cells left by a request without tenant", n)
		}
		long.Close()
		if _, _, err := read(long); schemas.KindOf(err) != schemas.KindCancelled {
			t.Errorf("closed: %v", err)
		}
		kept := b.submit(Request{Tenant: "keeps", Prompt: prompt(3, 50), MaxTokens: 10})
		b.want(kept, answer(prompt(3, 50), 10), "length")
		time.Sleep(5 * time.Second)
		if n := b.model.remains(); n != 0 {
			t.Errorf("%d cells not wiped while the batcher rests", n)
		}
		time.Sleep(6 * time.Second) // the kept prefix expires and is wiped
		if n := b.model.remains(); n != 0 {
			t.Fatalf("%d cells still hold something", n)
		}
		b.want(b.submit(Request{Tenant: "keeps", Prompt: prompt(3, 50), MaxTokens: 10}), answer(prompt(3, 50), 10), "length")
		if err := b.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, c := range b.model.cells {
			if c.dirty {
				t.Fatalf("cell %d holds something after the drain", i)
			}
		}
		b.stop()
	})
}

// TestDrain: running requests end, new ones are refused, a drain that is given up leaves them running.
func TestDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 256), Config{Slots: 2})
		a := b.submit(Request{Prompt: prompt(1, 5), MaxTokens: 50})
		time.Sleep(3 * time.Millisecond)
		short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := b.Drain(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("short drain: %v", err)
		}
		if _, err := b.Submit(t.Context(), Request{Prompt: prompt(1, 5), MaxTokens: 1}); schemas.KindOf(err) != schemas.KindUnavailable {
			t.Errorf("submit while draining: %v", err)
		}
		done := make(chan error, 1)
		go func() { done <- b.Drain(t.Context()) }()
		b.want(a, answer(prompt(1, 5), 50), "length")
		if err := <-done; err != nil {
			t.Error(err)
		}
		b.stop()
		if err := b.Drain(t.Context()); err != nil {
			t.Errorf("drain after the end: %v", err)
		}
	})
}

// TestCancelAndDeadline: both take effect at the next pass, whether the request runs or waits, and free its memory.
func TestCancelAndDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 256), Config{Slots: 1})
		defer b.stop()
		ctx, cancel := context.WithCancel(t.Context())
		a, err := b.Submit(ctx, Request{Prompt: prompt(1, 5), MaxTokens: 200})
		if err != nil {
			t.Fatal(err)
		}
		waits := b.submit(Request{Prompt: prompt(2, 5), MaxTokens: 5, Deadline: time.Now().Add(7 * time.Millisecond)})
		if _, _, err := read(waits); schemas.KindOf(err) != schemas.KindExpired {
			t.Errorf("deadline: %v", err)
		}
		before := time.Now()
		cancel()
		if _, _, err := read(a); schemas.KindOf(err) != schemas.KindCancelled {
			t.Errorf("cancel: %v", err)
		}
		if d := time.Since(before); d > 2*time.Millisecond {
			t.Errorf("cancel took %v", d)
		}
		if s := a.Stats(); s.Generated == 0 || s.Total == 0 {
			t.Errorf("a cancelled request cost %+v", s)
		}
		time.Sleep(2 * time.Millisecond)
		if l := b.Load(); l.Running != 0 || l.Waiting != 0 || l.CellsUsed != 0 || l.Cancelled != 2 {
			t.Errorf("%+v", l)
		}
		if _, err := b.Submit(t.Context(), Request{Prompt: prompt(1, 5), MaxTokens: 5, Deadline: time.Now()}); schemas.KindOf(err) != schemas.KindExpired {
			t.Errorf("passed deadline: %v", err)
		}
	})
}

// TestRefusals: what cannot run is refused with its field, before anything is computed.
func TestRefusals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 64), Config{Slots: 1, Queue: 1, Context: 50})
		defer b.stop()
		good := func() Request { return Request{Prompt: prompt(1, 5), MaxTokens: 5} }
		nan := math.NaN()
		for name, c := range map[string]struct {
			change func(*Request)
			kind   schemas.Kind
			field  string
		}{
			"no prompt":     {func(r *Request) { r.Prompt = nil }, schemas.KindInvalid, "prompt"},
			"no tokens":     {func(r *Request) { r.MaxTokens = 0 }, schemas.KindInvalid, "max_tokens"},
			"too long":      {func(r *Request) { r.MaxTokens = 46 }, schemas.KindTooLarge, "prompt"},
			"unknown token": {func(r *Request) { r.Prompt[0] = fakeVocab }, schemas.KindInvalid, "prompt"},
			"empty stop":    {func(r *Request) { r.Stop = []string{""} }, schemas.KindInvalid, "stop"},
			"many stops":    {func(r *Request) { r.Stop = make([]string, 17) }, schemas.KindTooLarge, "stop"},
			"NaN":           {func(r *Request) { r.Sampling.Temperature = nan }, schemas.KindInvalid, "temperature"},
			"top_p":         {func(r *Request) { r.Sampling.TopP = 1.5 }, schemas.KindInvalid, "top_p"},
			"top_k":         {func(r *Request) { r.Sampling.TopK = -1 }, schemas.KindInvalid, "top_k"},
			"bias token":    {func(r *Request) { r.Sampling.Bias = map[int32]float64{99: 1} }, schemas.KindInvalid, "logit_bias"},
			"bias NaN":      {func(r *Request) { r.Sampling.Bias = map[int32]float64{9: nan} }, schemas.KindInvalid, "logit_bias"},
			"top_logprobs":  {func(r *Request) { r.TopLogprobs = 21 }, schemas.KindInvalid, "top_logprobs"},
		} {
			r := good()
			c.change(&r)
			_, err := b.Submit(t.Context(), r)
			var e *schemas.Error
			if !errors.As(err, &e) || e.Kind != c.kind || e.Field != c.field {
				t.Errorf("%s: %v", name, err)
			}
		}
		a := b.submit(good())
		time.Sleep(time.Microsecond)
		c := b.submit(good())
		if _, err := b.Submit(t.Context(), good()); schemas.KindOf(err) != schemas.KindBusy {
			t.Errorf("full queue: %v", err)
		}
		b.want(a, answer(good().Prompt, 5), "length")
		b.want(c, answer(good().Prompt, 5), "length")
		if len(b.model.steps) != 10 {
			t.Errorf("%d steps, want 10", len(b.model.steps))
		}
	})
}

// TestPoison: one sequence breaks the pass, by panic or error. It alone fails; all others answer in full.
func TestPoison(t *testing.T) {
	for name, fault := range map[string]func() error{
		"error": func() error { return errors.New("compute error") },
		"panic": func() error { panic("bad shape") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newFake(t, 512)
				bad := prompt(7, 9)
				m.failing = func(b Batch) error {
					for i, tok := range b.Tokens {
						if b.Pos[i] == 20 && slices.Equal(m.context(b.Seq[i], 8), bad) && tok > 0 {
							return fault()
						}
					}
					return nil
				}
				b := setup(t, m, Config{Slots: 8})
				defer b.stop()
				var tickets []*Ticket
				for i := range 8 {
					tickets = append(tickets, b.submit(Request{Tenant: "t", Prompt: prompt(i, 9), MaxTokens: 30}))
				}
				for i, ticket := range tickets {
					if i == 7 {
						if text, _, err := read(ticket); schemas.KindOf(err) != schemas.KindEngine || text != answer(bad, len(text)) {
							t.Errorf("the bad one: %q %v", text, err)
						}
						continue
					}
					b.want(ticket, answer(prompt(i, 9), 30), "length")
				}
				if l := b.Load(); l.StepFailures != 2 || m.resets != 2 || l.Failed != 1 {
					t.Errorf("%+v, %d resets", l, m.resets)
				}
				b.want(b.submit(Request{Prompt: prompt(3, 9), MaxTokens: 3}), answer(prompt(3, 9), 3), "length")
			})
		})
	}
}

// TestBrokenModel: when the model cannot be reset, Run ends with the reason and nobody is left waiting.
func TestBrokenModel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFake(t, 64)
		m.failing = func(Batch) error { return errors.New("device lost") }
		b := setup(t, m, Config{Slots: 2})
		b.cfg.Model = brokenReset{m}
		a := b.submit(Request{Prompt: prompt(1, 5), MaxTokens: 5})
		w := b.submit(Request{Prompt: prompt(2, 5), MaxTokens: 5})
		for _, ticket := range []*Ticket{a, w} {
			if _, _, err := read(ticket); !schemas.Retriable(err) {
				t.Errorf("%v", err)
			}
		}
		if err := b.stop(); schemas.KindOf(err) != schemas.KindEngine {
			t.Errorf("run: %v", err)
		}
		if _, err := b.Submit(t.Context(), Request{Prompt: prompt(1, 5), MaxTokens: 5}); schemas.KindOf(err) != schemas.KindUnavailable {
			t.Errorf("submit: %v", err)
		}
		if b.Load().Err == nil {
			t.Error("load does not tell")
		}
	})
}

type brokenReset struct{ *fakeModel }

func (brokenReset) Reset() error { panic("no device") }

// TestLessMemoryThanSaid: a model whose memory is smaller than the account says makes sequences give way, not fail.
func TestLessMemoryThanSaid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFake(t, 60)
		b := setup(t, m, Config{Slots: 4})
		defer b.stop()
		b.mu.Lock()
		b.pool.total = 1000
		b.mu.Unlock()
		var tickets []*Ticket
		for i := range 6 {
			tickets = append(tickets, b.submit(Request{Tenant: "t", Prompt: prompt(i, 20), MaxTokens: 20}))
		}
		for i, ticket := range tickets {
			b.want(ticket, answer(prompt(i, 20), 20), "length")
		}
	})
}
