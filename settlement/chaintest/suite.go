package chaintest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// Backend is a network that settlement could pay on.
type Backend interface {
	// Connect makes a fresh client that is closed when the test ends.
	Connect(t testing.TB) *ton.Chain
	// Fund gives money to an address, some blocks later at most.
	Fund(t testing.TB, to schemas.Owner, amount schemas.NanoTON)
	// Refuser deploys a contract that refuses every message with a body, and returns its address.
	Refuser(t testing.TB, i int) schemas.Owner
	// Step lets at least so much chain time pass, with at least one block.
	Step(t testing.TB, by time.Duration)
}

// maxSteps bounds how many blocks a test waits for something.
const maxSteps = 20

// Run runs the suite, on a fresh backend for each test.
func Run(t *testing.T, open func(t testing.TB) Backend) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"clock", testClock},
		{"state", testState},
		{"pay", testPay},
		{"pay one", testPayOne},
		{"send again", testSendAgain},
		{"note", testNote},
		{"full batch", testFullBatch},
		{"query ids", testQueryIDs},
		{"deposits", testDeposits},
		{"pages", testPages},
		{"cursor", testCursor},
		{"bounce", testBounce},
		{"too poor", testTooPoor},
		{"expiry", testExpiry},
		{"parallel batches", testParallel},
		{"refusals", testRefusals},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			test.run(&suite{T: t, backend: b, chain: b.Connect(t)})
		})
	}
}

// suite is one test on one backend.
type suite struct {
	*testing.T
	backend Backend
	chain   *ton.Chain
}

// key is the i-th key of the suite.
func key(i int) ed25519.PrivateKey {
	sum := sha256.Sum256(fmt.Appendf(nil, "chaintest %d", i))
	return ed25519.NewKeyFromSeed(sum[:])
}

// owner is the i-th receiver of the suite, an address without code.
func owner(i int) schemas.Owner {
	return schemas.Owner(fmt.Sprintf("0:%x", sha256.Sum256(fmt.Appendf(nil, "owner %d", i))))
}

// treasury is a funded wallet that is not deployed yet.
func (s *suite) treasury(fund schemas.NanoTON) *ton.Treasury {
	s.Helper()
	t, err := s.chain.Treasury(key(0), ton.TreasuryOptions{Timeout: 10 * time.Minute})
	check(s, err)
	s.fund(t.Account, fund)
	return t
}

// fund gives money and waits until it is there.
func (s *suite) fund(a *ton.Account, amount schemas.NanoTON) {
	s.Helper()
	before := s.state(a).Last
	s.backend.Fund(s, a.Address(), amount)
	s.await("money from the faucet", func() bool { return s.state(a).Last != before })
}

// await steps until something is so.
func (s *suite) await(what string, so func() bool) {
	s.Helper()
	for range maxSteps {
		if so() {
			return
		}
		s.backend.Step(s, time.Second)
	}
	s.Fatalf("no %s after %d steps", what, maxSteps)
}

func (s *suite) state(a *ton.Account) ton.State {
	s.Helper()
	st, err := a.State(s.Context())
	check(s, err)
	return st
}

// balance is what an address has by a proven answer.
func (s *suite) balance(o schemas.Owner) schemas.NanoTON {
	s.Helper()
	a, err := s.chain.Account(o)
	check(s, err)
	return s.state(a).Balance
}

func (s *suite) now() ton.BlockTime {
	s.Helper()
	b, err := s.chain.Now(s.Context())
	check(s, err)
	return b
}

// batch is n transfers of the same amount, dated now.
func (s *suite) batch(q ton.QueryID, n int, amount schemas.NanoTON) ton.Batch {
	b := ton.Batch{QueryID: q, CreatedAt: ton.CreatedAt(s.now()), Deploy: true}
	for i := range n {
		b.Transfers = append(b.Transfers, ton.Transfer{To: owner(int(q)*1000 + i), Amount: amount, Comment: fmt.Sprintf("batch %s", q)})
	}
	return b
}

func (s *suite) sign(t *ton.Treasury, b ton.Batch) ton.Signed {
	s.Helper()
	signed, err := t.Sign(b)
	check(s, err)
	return signed
}

// events reads all of an account's history after a cursor.
func (s *suite) events(a *ton.Account, after ton.Cursor) (events []ton.Event, at ton.BlockTime) {
	s.Helper()
	for {
		page, err := a.History(s.Context(), after, 0)
		check(s, err)
		events = append(events, page.Events...)
		if after = page.Next; page.Complete {
			return events, page.At
		}
	}
}

// outcome is what history says about a batch.
type outcome struct {
	accepted []ton.Accepted
	executed []ton.Executed
}

// outcome reads what became of a signed batch so far.
func (s *suite) outcome(t *ton.Treasury, signed ton.Signed) (o outcome) {
	s.Helper()
	events, _ := s.events(t.Account, ton.Cursor{})
	lts := map[uint64]bool{}
	for _, e := range events {
		switch e := e.(type) {
		case ton.Accepted:
			if e.Body == signed.Body {
				o.accepted = append(o.accepted, e)
				lts[e.MessageLT] = true
			}
		case ton.Executed:
			if lts[e.MessageLT] {
				o.executed = append(o.executed, e)
			}
		}
	}
	return o
}

// pay sends a batch until it is executed.
func (s *suite) pay(t *ton.Treasury, b ton.Batch) outcome {
	s.Helper()
	signed := s.sign(t, b)
	check(s, t.Send(s.Context(), signed.BoC))
	var o outcome
	s.await("execution", func() bool { o = s.outcome(t, signed); return len(o.executed) > 0 })
	return o
}

// paidAll compares what left the wallet, and what arrived, with what the batch asked for.
func (s *suite) paidAll(b ton.Batch, o outcome) {
	s.Helper()
	if len(o.accepted) != 1 || len(o.executed) != 1 {
		s.Fatalf("accepted %d times, executed %d times", len(o.accepted), len(o.executed))
	}
	if got := o.accepted[0].QueryID; got != b.QueryID {
		s.Errorf("query id %s, want %s", got, b.QueryID)
	}
	outs := o.executed[0].Outs
	if len(outs) != len(b.Transfers) {
		s.Fatalf("%d transfers left the wallet, want %d", len(outs), len(b.Transfers))
	}
	for i, want := range b.Transfers {
		if got := outs[i]; got.To != want.To || got.Amount != want.Amount || got.Comment != want.Comment || got.LT == 0 {
			s.Errorf("transfer %d: %+v, want %+v", i, got, want)
		}
	}
	last := b.Transfers[len(b.Transfers)-1]
	s.await("the last transfer", func() bool { return s.balance(last.To) == last.Amount })
	for _, want := range b.Transfers {
		if got := s.balance(want.To); got != want.Amount {
			s.Errorf("%s has %s, want %s", want.To, got, want.Amount)
		}
	}
}

// isKind fails the test unless err has the kind.
func (s *suite) isKind(err error, kind schemas.Kind) {
	s.Helper()
	if !errors.Is(err, kind) {
		s.Errorf("%v, want kind %s", err, kind)
	}
}
