package settlement_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// The mutants are payers with one wrong idea. Each is the real payer that sees the chain through a treasury which makes
// the idea true for it. The chaos must catch every one, or it tests nothing.

// earlyReissue believes that a batch is dead long before the chain says so.
type earlyReissue struct{ settlement.Treasury }

func (m earlyReissue) Expired(created time.Time, at ton.BlockTime) bool {
	return at.Time.After(created.Add(40 * time.Second))
}

// trustsProcessed believes that what the wallet took is paid, as its "processed?" method says.
type trustsProcessed struct {
	settlement.Treasury
	journal *faultyJournal
	ours    map[uint64]bool // messages of our batches, which have been "paid" already
}

func (m trustsProcessed) History(ctx context.Context, after ton.Cursor, limit int) (ton.Page, error) {
	p, err := m.Treasury.History(ctx, after, limit)
	var events []ton.Event
	for _, e := range p.Events {
		switch e := e.(type) {
		case ton.Accepted:
			lt := e.MessageLT
			if lt == 0 {
				lt = e.LT + 1
			}
			outs := m.asked(e.Body)
			if outs == nil { // a stranger's: as it is
				events = append(events, e)
				continue
			}
			e.MessageLT = lt
			m.ours[lt] = true
			events = append(events, e, ton.Executed{Tx: e.Tx, MessageLT: lt, Outs: outs})
		case ton.Executed:
			if !m.ours[e.MessageLT] {
				events = append(events, e)
			}
		default:
			events = append(events, e)
		}
	}
	p.Events = events
	return p, err
}

// asked is what a batch asked for, nil when it is none of ours.
func (m trustsProcessed) asked(body ton.Hash) []ton.Out { return m.journal.outs(body) }

// impatient does not wait for the second transaction: what is not paid in the first is not paid.
type impatient struct{ settlement.Treasury }

func (m impatient) History(ctx context.Context, after ton.Cursor, limit int) (ton.Page, error) {
	p, err := m.Treasury.History(ctx, after, limit)
	carried := map[uint64]bool{}
	for _, e := range p.Events {
		if x, ok := e.(ton.Executed); ok {
			carried[x.MessageLT] = true
		}
	}
	var events []ton.Event
	for _, e := range p.Events {
		switch e := e.(type) {
		case ton.Accepted:
			if !carried[e.MessageLT] {
				e.MessageLT = 0
			}
			events = append(events, e)
		case ton.Executed:
			if has(events, e.MessageLT) {
				events = append(events, e)
			}
		default:
			events = append(events, e)
		}
	}
	p.Events = events
	return p, err
}

// has reports whether a batch with this message was accepted among the events.
func has(events []ton.Event, message uint64) bool {
	for _, e := range events {
		if a, ok := e.(ton.Accepted); ok && a.MessageLT == message {
			return true
		}
	}
	return false
}

// TestMutantsAreCaught runs the chaos with payers that are wrong; every kind must end with wrong balances.
func TestMutantsAreCaught(t *testing.T) {
	t.Parallel()
	mutantsAreCaught(t, chaosShape{wild: 120, calm: 40, owners: 30, drains: 4}, func(testing.TB) chaosChain { return newMemChaos() })
}

// TestMutantsAreCaughtOnDevnet does so on the devnet.
func TestMutantsAreCaughtOnDevnet(t *testing.T) {
	t.Parallel()
	mutantsAreCaught(t, chaosShape{wild: 90, calm: 40, owners: 20, drains: 4}, func(t testing.TB) chaosChain { return newDevChaos(t) })
}

// mutantsAreCaught runs every mutant with up to ten seeds.
func mutantsAreCaught(t *testing.T, shape chaosShape, chain func(testing.TB) chaosChain) {
	t.Helper()
	for name, mutate := range map[string]func(*chaosRun) func(settlement.Treasury) settlement.Treasury{
		"early re-issue": func(*chaosRun) func(settlement.Treasury) settlement.Treasury {
			return func(t settlement.Treasury) settlement.Treasury { return earlyReissue{t} }
		},
		"trusting processed": func(c *chaosRun) func(settlement.Treasury) settlement.Treasury {
			ours := map[uint64]bool{}
			return func(t settlement.Treasury) settlement.Treasury { return trustsProcessed{t, c.journal, ours} }
		},
		"not waiting for T2": func(*chaosRun) func(settlement.Treasury) settlement.Treasury {
			return func(t settlement.Treasury) settlement.Treasury { return impatient{t} }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var total chaosCount
			for seed := range uint64(10) {
				c := newChaos(t, seed, chain(t), shape)
				c.mutate = mutate(c)
				if caught, how := c.caught(); caught {
					t.Logf("caught with seed %d: %s", seed, how)
					return
				}
				total.add(c.count)
			}
			t.Errorf("ten seeds did not catch the mutant: %+v", total)
		})
	}
}

// caught runs a mutant and reports how it was found out: owners that got more than they earned, or that the book calls
// paid and that got nothing, or the payer itself, which refuses to go on when the chain shows what cannot be.
func (c *chaosRun) caught() (bool, string) {
	c.mutant = true
	c.run()
	twice, never := 0, 0
	for _, p := range c.payees() {
		got := c.chain.paid(p.Owner) + c.chain.lost(p.Owner)
		if got > c.earned[p.Owner] {
			twice++
		}
		if got < p.Paid {
			never++
		}
	}
	return twice+never > 0 || c.broken != nil, fmt.Sprintf("%d owners were paid too much, %d are called paid and were not; the payer said: %v", twice, never, c.broken)
}

// outs is what a batch in the journal asked for, nil when there is none with this body.
func (j *faultyJournal) outs(body ton.Hash) (outs []ton.Out) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, raw := range j.m {
		var r struct {
			Statement settlement.Statement `json:"statement"`
			Body      string               `json:"body"`
		}
		if err := json.Unmarshal(raw, &r); err != nil || r.Body != body.String() {
			continue
		}
		for _, item := range r.Statement.Items {
			outs = append(outs, ton.Out{To: item.To, Amount: item.Amount})
		}
	}
	return outs
}
