package settlement_test

import (
	"context"
	"crypto/ed25519"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
)

func TestMain(m *testing.M) {
	// tonutils keeps one goroutine per process for its TL registry and connections that close in the background.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/xssnick/tonutils-go/liteclient.(*ConnectionPool).AddConnection"))
}

// absent is a source that is away for a while, and then knows.
type absent struct {
	*settlement.Ledger
	away int
}

func (a *absent) BrokerKey(ctx context.Context, id schemas.KeyID) (ed25519.PublicKey, error) {
	if a.away--; a.away >= 0 {
		return nil, schemas.Errorf(schemas.KindUnavailable, "bucket is away")
	}
	return a.Ledger.BrokerKey(ctx, id)
}

// TestIntakeRuns: with sources that are away and commits that are lost or misreported, every receipt is booked once and
// none is rejected.
func TestIntakeRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	alice := w.Tenant("alice", 1000*schemas.TON)
	const jobs = 500
	for i := range jobs {
		w.Do(ledgertest.Work{Tenant: alice, Worker: "w" + strconv.Itoa(i%3), Owner: ledgertest.Owner(1), Usage: schemas.Usage{Prompt: 10}})
	}
	r := rand.New(rand.NewPCG(1, 2))
	w.Ledger.SetFault(func(string) error {
		if r.IntN(4) == 0 {
			return schemas.Errorf(schemas.KindUnavailable, "%w", errCrash)
		}
		return nil
	})
	cfg := w.Intake()
	cfg.Group, cfg.BrokerKeys = 7, &absent{w.Ledger, 3}
	in, err := settlement.NewIntake(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	for deadline := time.Now().Add(30 * time.Second); w.Position() < jobs; {
		if time.Now().After(deadline) {
			t.Fatalf("position %d", w.Position())
		}
		<-time.After(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.Ledger.SetFault(nil)
	w.NoneRejected()
	w.Check()
	if got := w.Balance(settlement.OwnerAccount(ledgertest.Owner(1))); got != jobs*900_000 {
		t.Errorf("owner has %s", got)
	}
}

// TestChainAwayForADay: while no liteserver answers for 24 hours, receipts are booked and credit is given; when the
// chain is back, one round of batches catches up.
func TestChainAwayForADay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	chain := newMemChaos()
	w.config.Treasury = chain
	w.restart()
	chain.arrive(200*schemas.TON, settlement.TopUpMemo)
	chain.down = true
	alice := w.Tenant("alice", 1000*schemas.TON)
	for hour := range 24 {
		for i := range 40 {
			w.Do(ledgertest.Work{Tenant: alice, Worker: "w1", Owner: ledgertest.Owner(0x100 + i), Usage: schemas.Usage{Prompt: 1000}})
		}
		w.Book()
		if err := w.payer.Tick(t.Context(), false); schemas.KindOf(err) != schemas.KindUnavailable {
			t.Fatalf("hour %d: %v", hour, err)
		}
		w.Clock.Add(time.Hour)
		chain.advance(time.Hour)
	}
	chain.down = false
	for range 4 {
		if err := w.payer.Tick(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		chain.advance(5 * time.Second)
	}
	w.Check()
	for i := range 40 {
		if got := chain.paid(ledgertest.Owner(0x100 + i)); got != 24*each {
			t.Errorf("owner %d received %s", i, got)
		}
	}
	if batches, err := w.Ledger.PayoutBatches(t.Context(), 0, 10); err != nil || len(batches) != 1 {
		t.Errorf("%d batches to catch up, %v", len(batches), err)
	}
}

// TestStreamMadeAnew: an operator accepts a gap and a stream that counts from 1 again; positions go on growing, what was
// booked before is not booked again, and brokers hear the stream's own count.
func TestStreamMadeAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	alice := w.Tenant("alice", 100*schemas.TON)
	job := ledgertest.Work{Tenant: alice, Worker: "w1", Owner: ledgertest.Owner(1), Usage: schemas.Usage{Prompt: 10}}
	old := w.Outcome(job)
	w.Feed.Append(settlement.Message{Header: old.Header()})
	w.Do(job)
	w.Book()
	if err := w.Ledger.AcceptGap(t.Context(), 6); err != nil { // outcomes 3 to 5 are lost
		t.Fatal(err)
	}
	if err := w.Ledger.AcceptGap(t.Context(), 2); err != nil { // no gap
		t.Fatal(err)
	}
	if w.Position() != 5 {
		t.Fatalf("position %d", w.Position())
	}
	if err := w.Ledger.NewStream(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Feed = &ledgertest.Feed{}
	w.Feed.Append(settlement.Message{Header: old.Header()})
	w.Do(job)
	w.bookBlindly()
	w.Check()
	if w.Position() != 7 {
		t.Errorf("position %d", w.Position())
	}
	if got := w.Balance(settlement.OwnerAccount(ledgertest.Owner(1))); got != 3*900_000 {
		t.Errorf("owner has %s", got)
	}
	if bad, err := w.Ledger.Rejections(t.Context(), 10); err != nil || len(bad) != 1 || bad[0].Reason != settlement.RejectDuplicate {
		t.Errorf("rejections %+v, %v", bad, err)
	}
	store := &memCredit{}
	p, err := settlement.NewCreditPublisher(settlement.CreditConfig{Ledger: w.Ledger, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Publish(t.Context()); err != nil || store.get(alice).Through != 2 {
		t.Errorf("credit %+v, %v", store.get(alice), err)
	}
	if got := w.reconcile(); len(got) > 0 {
		t.Errorf("differences %v", got)
	}
	if alerts, err := w.Ledger.Alerts(t.Context(), 10); err != nil || len(alerts) != 2 {
		t.Errorf("alerts %+v, %v", alerts, err)
	}
}

// disordered is a feed that repeats, goes back, or answers nothing.
type disordered struct{ answer []settlement.Message }

func (d disordered) Read(context.Context, uint64, int) ([]settlement.Message, error) {
	return d.answer, nil
}

// TestIntakeRefusesDisorder: a feed that is not in order is not believed, and nothing of it is booked.
func TestIntakeRefusesDisorder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	alice := w.Tenant("alice", 100*schemas.TON)
	message := func(seq uint64) settlement.Message {
		o := w.Outcome(ledgertest.Work{Tenant: alice, Worker: "w1", Owner: ledgertest.Owner(1), Usage: schemas.Usage{Prompt: 10}})
		return settlement.Message{Seq: seq, Header: o.Header()}
	}
	for name, answer := range map[string][]settlement.Message{
		"nothing": nil, "back": {message(2), message(1)}, "twice": {message(1), message(1)}, "before the start": {message(0)},
	} {
		cfg := w.Intake()
		cfg.Feed = disordered{answer}
		in, err := settlement.NewIntake(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Step(t.Context()); schemas.KindOf(err) != schemas.KindUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.Position() != 0 {
		t.Errorf("position %d", w.Position())
	}
}

// TestEntriesMustBalance: an entry whose lines do not add up to zero is refused, and leaves nothing behind.
func TestEntriesMustBalance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	w.Tenant("alice", 5*schemas.TON)
	if err := w.Ledger.PostUnbalanced(t.Context()); schemas.KindOf(err) != schemas.KindCorrupt {
		t.Errorf("unbalanced: %v", err)
	}
	w.Check()
}
