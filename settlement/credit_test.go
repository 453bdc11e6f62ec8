package settlement_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
)

// memCredit is the brokers' bucket in memory.
type memCredit struct {
	mu   sync.Mutex
	m    map[schemas.TenantID]schemas.Credit
	puts int
	down bool
}

func (s *memCredit) Put(_ context.Context, id schemas.TenantID, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errors.New("bucket is away")
	}
	c, err := schemas.ParseCredit(value)
	if err != nil {
		return err
	}
	if s.m == nil {
		s.m = map[schemas.TenantID]schemas.Credit{}
	}
	s.m[id] = c
	s.puts++
	return nil
}

func (s *memCredit) get(id schemas.TenantID) schemas.Credit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[id]
}

func TestCreditIsPublishedWhenItChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	store := &memCredit{}
	p, err := settlement.NewCreditPublisher(settlement.CreditConfig{Ledger: w.Ledger, Store: store, Brokers: 2})
	if err != nil {
		t.Fatal(err)
	}
	publish := func(want int) {
		t.Helper()
		if n, err := p.Publish(t.Context()); err != nil || n != want {
			t.Errorf("published %d, want %d; %v", n, want, err)
		}
	}
	alice, bob := w.Tenant("alice", 11*schemas.TON), w.Tenant("bob", 0)
	publish(2)
	publish(0)
	if c := store.get(alice); c.Available != schemas.TON/2 {
		t.Errorf("alice %+v", c)
	}
	if c := store.get(bob); c.Available != 0 {
		t.Errorf("bob %+v", c)
	}
	// A booked job moves the position even where the stake alone decides the figure.
	w.Do(ledgertest.Work{Tenant: alice, Worker: "w", Owner: ledgertest.Owner(1), Usage: schemas.Usage{Prompt: 10}})
	w.Book()
	publish(1)
	if c := store.get(alice); c.Available != schemas.TON/2 || c.Through != 1 {
		t.Errorf("alice %+v", c)
	}
	hold := settlement.Hold{Job: schemas.NewJobID(), Tenant: alice, Amount: schemas.TON / 2, Expires: w.Clock.Now().Add(time.Hour)}
	if _, err := w.Ledger.Reserve(t.Context(), []settlement.Hold{hold}); err != nil {
		t.Fatal(err)
	}
	publish(1)
	if c := store.get(alice); c.Available != schemas.TON/4 {
		t.Errorf("alice %+v", c)
	}
	w.Clock.Add(2 * time.Minute)
	publish(2) // refreshed
	store.down = true
	if _, err := p.Publish(t.Context()); err != nil {
		t.Errorf("nothing to publish: %v", err)
	}
	if err := w.Ledger.Fund(t.Context(), bob, 5*schemas.TON, "bob pays"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Publish(t.Context()); err == nil {
		t.Error("the bucket is away and nobody said so")
	}
	store.down = false
	publish(1) // what failed is not forgotten
}

// TestOverdraftIsBoundedByTheStake plays brokers that reserve all they may, one of which restarts and forgets, while
// settlement is away. What comes back is booked above the balance, but never above balance and stake.
func TestOverdraftIsBoundedByTheStake(t *testing.T) {
	t.Parallel()
	for _, funds := range []schemas.NanoTON{2, 3, 5, 20} {
		w := newWorld(t, 0)
		store := &memCredit{}
		const brokers = 3
		p, err := settlement.NewCreditPublisher(settlement.CreditConfig{Ledger: w.Ledger, Store: store, Brokers: brokers})
		if err != nil {
			t.Fatal(err)
		}
		alice := w.Tenant("alice", funds*schemas.TON)
		if _, err := p.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		share := store.get(alice).Available
		for range 2 * brokers { // each broker, and each once more after it has forgotten
			tokens := uint64(share / 100_000)
			w.Do(ledgertest.Work{Tenant: alice, Worker: "w", Owner: ledgertest.Owner(1), Usage: schemas.Usage{Prompt: tokens}, Ceiling: share})
		}
		w.Book()
		w.NoneRejected()
		b, err := w.Ledger.Balance(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		if b.Balance+b.Stake < 0 {
			t.Errorf("with %d TON: balance %s, stake %s: the stake does not cover", funds, b.Balance, b.Stake)
		}
		if b.Balance < 0 && b.Available != 0 {
			t.Errorf("an overdrawn tenant has %s available", b.Available)
		}
	}
}

func TestCreditPublisherRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	store := &memCredit{}
	p, err := settlement.NewCreditPublisher(settlement.CreditConfig{Ledger: w.Ledger, Store: store, Delay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	alice := w.Tenant("alice", 11*schemas.TON)
	for deadline := time.Now().Add(10 * time.Second); store.get(alice).Available != schemas.TON; {
		if time.Now().After(deadline) {
			t.Fatal("nothing was published")
		}
		<-time.After(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
