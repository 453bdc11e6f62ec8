package batcher

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// TestAdmissionByMemory: a request waits until the memory that it is expected to need is free, though there are slots and
// it would fit now; nobody is preempted for it.
func TestAdmissionByMemory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 100), Config{Slots: 4})
		defer b.stop()
		first := b.submit(Request{Prompt: prompt(1, 40), MaxTokens: 40}) // 60 by what is expected at first
		time.Sleep(time.Microsecond)
		second := b.submit(Request{Prompt: prompt(2, 40), MaxTokens: 40})
		r1, r2 := b.want(first, answer(prompt(1, 40), 40), "length"), b.want(second, answer(prompt(2, 40), 40), "length")
		if r2.Queue < r1.Total-time.Millisecond || r1.Preempted+r2.Preempted > 0 {
			t.Errorf("the second began after %v, the first took %v; %d and %d times preempted", r2.Queue, r1.Total, r1.Preempted, r2.Preempted)
		}
	})
}

// TestQueueOrder: the highest priority goes first, then the order of arrival.
func TestQueueOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 512), Config{Slots: 1, Queue: 10})
		defer b.stop()
		var waits []time.Duration
		var tickets []*Ticket
		priorities := []int{0, 0, 0, 2, 1, 2} // the first one runs at once
		for i, p := range priorities {
			tickets = append(tickets, b.submit(Request{Prompt: prompt(i, 4), MaxTokens: 5, Priority: p}))
			time.Sleep(time.Microsecond)
		}
		for i, ticket := range tickets {
			waits = append(waits, b.want(ticket, answer(prompt(i, 4), 5), "length").Queue)
		}
		order := []int{0, 3, 5, 4, 1, 2}
		if !slices.IsSortedFunc(order, func(x, y int) int { return int(waits[x] - waits[y]) }) {
			t.Errorf("waited %v, want them in the order %v", waits, order)
		}
	})
}

// TestPromptOrder: among prompts in the making, the one of higher priority gets the budget.
func TestPromptOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 1024), Config{Slots: 2, StepTokens: 10})
		defer b.stop()
		low := b.submit(Request{Prompt: prompt(1, 200), MaxTokens: 2})
		time.Sleep(2 * time.Millisecond)
		high := b.submit(Request{Prompt: prompt(2, 200), MaxTokens: 2, Priority: 1})
		rl, rh := b.want(low, answer(prompt(1, 200), 2), "length"), b.want(high, answer(prompt(2, 200), 2), "length")
		if rh.First >= rl.First-10*time.Millisecond {
			t.Errorf("first tokens after %v, and %v for the higher priority", rl.First, rh.First)
		}
	})
}

// TestVictim: when memory runs out, the lowest priority gives way, and the youngest of equal ones; it is computed anew before
// anybody who arrived after it.
func TestVictim(t *testing.T) {
	for name, c := range map[string]struct{ older, younger, victim int }{
		"equal":            {0, 0, 1},
		"younger is lower": {1, 0, 1},
		"older is lower":   {0, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := setup(t, newFake(t, 60), Config{Slots: 2})
				defer b.stop()
				var tickets []*Ticket
				for i, p := range []int{c.older, c.younger, 0} {
					tickets = append(tickets, b.submit(Request{Prompt: prompt(i, 4), MaxTokens: 50, Priority: p}))
					time.Sleep(2 * time.Millisecond)
				}
				var r []*Result
				for i, ticket := range tickets {
					r = append(r, b.want(ticket, answer(prompt(i, 4), 50), "length"))
				}
				if other := 1 - c.victim; r[c.victim].Preempted == 0 || r[other].Preempted > 0 {
					t.Errorf("preempted %d and %d times", r[0].Preempted, r[1].Preempted)
				}
				if began := r[2].Queue + 4*time.Millisecond; began < r[c.victim].Total-time.Millisecond {
					t.Errorf("one that came later began after %v, the preempted one ended after %v", began, r[c.victim].Total)
				}
			})
		})
	}
}

// TestLargeIsNotOvertaken: a request that needs nearly all of the memory gets its turn though small ones keep coming.
func TestLargeIsNotOvertaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 100), Config{Slots: 8, Queue: 100})
		defer b.stop()
		small := func(i int) *Ticket { return b.submit(Request{Prompt: prompt(i, 5), MaxTokens: 10}) }
		tickets := []*Ticket{small(0), small(1)}
		time.Sleep(2 * time.Millisecond)
		large := b.submit(Request{Prompt: prompt(9, 85), MaxTokens: 10})
		for i := range 40 {
			tickets = append(tickets, small(i))
		}
		if r := b.want(large, answer(prompt(9, 85), 10), "length"); r.Queue > 15*time.Millisecond {
			t.Errorf("the large one waited %v", r.Queue)
		}
		for _, ticket := range tickets {
			if _, _, err := read(ticket); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestLateTenant: a tenant that comes when others have been served for long gets its share from then on, not all that
// they had before.
func TestLateTenant(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 4096), Config{Slots: 1, Queue: 1000})
		defer b.stop()
		flood := func(tenant string) {
			for i := range 200 {
				b.submit(Request{Tenant: tenant, Prompt: prompt(i, 6), MaxTokens: 10})
			}
		}
		served := func(tenant string) uint64 {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.queue.served[tenant]
		}
		flood("old")
		time.Sleep(500 * time.Millisecond)
		before := served("old")
		flood("late")
		atLate := served("late")
		time.Sleep(400 * time.Millisecond)
		old, late := served("old")-before, served("late")-atLate
		if lo, hi := min(old, late), max(old, late); lo*10 < hi*8 {
			t.Errorf("served since then: %d and %d", old, late)
		}
	})
}

// TestExpectationsAreLearned: what requests are expected to need follows what they use.
func TestExpectationsAreLearned(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := setup(t, newFake(t, 256), Config{Slots: 1})
		defer b.stop()
		share := func() float64 {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.share
		}
		run := func(r Request) {
			for i := range 80 {
				r.Prompt = prompt(i, 5)
				if _, _, err := read(b.submit(r)); err != nil {
					t.Fatal(err)
				}
			}
		}
		run(Request{MaxTokens: 20})
		if s := share(); s < 0.95 {
			t.Errorf("all requests use their limit, and are expected to use %v of it", s)
		}
		run(Request{MaxTokens: 200, Stop: []string{"A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O"}})
		if s := share(); s > 0.2 {
			t.Errorf("requests use little of their limit, and are expected to use %v of it", s)
		}
	})
}

// TestWipeIsTriedAgain: memory that could not be wiped is not forgotten.
func TestWipeIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFake(t, 128)
		m.wipeErr = errors.New("busy")
		b := setup(t, m, Config{Slots: 1})
		defer b.stop()
		b.want(b.submit(Request{Prompt: prompt(1, 20), MaxTokens: 5}), answer(prompt(1, 20), 5), "length")
		time.Sleep(3 * time.Second)
		if m.remains() == 0 {
			t.Fatal("a wipe that fails wipes")
		}
		m.mu.Lock()
		m.wipeErr = nil
		m.mu.Unlock()
		time.Sleep(2 * time.Second)
		if n := m.remains(); n != 0 {
			t.Errorf("%d cells still hold something", n)
		}
	})
}

// TestFaultInCompany: sequences whose passes fail together and never alone are given up after a few, not tried for ever.
func TestFaultInCompany(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFake(t, 256)
		m.failing = func(b Batch) error {
			if slices.Min(b.Seq) != slices.Max(b.Seq) {
				return errors.New("not together")
			}
			return nil
		}
		b := setup(t, m, Config{Slots: 2})
		defer b.stop()
		tickets := []*Ticket{b.submit(Request{Prompt: prompt(1, 5), MaxTokens: 100}), b.submit(Request{Prompt: prompt(2, 5), MaxTokens: 100})}
		for _, ticket := range tickets {
			if _, _, err := read(ticket); schemas.KindOf(err) != schemas.KindEngine {
				t.Errorf("%v", err)
			}
		}
		if l := b.Load(); l.StepFailures > maxStepFailures {
			t.Errorf("%d passes failed", l.StepFailures)
		}
	})
}
