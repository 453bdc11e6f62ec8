package settlement_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// takes is the deposit wallet as Deposits sees it.
func (c *memChain) takes() memAccount { return memAccount{c, &c.deposits} }

// depositsOf makes the service on a world's ledger.
func (w *world) depositsOf() *settlement.Deposits {
	w.t.Helper()
	d, err := settlement.NewDeposits(settlement.DepositsConfig{Ledger: w.Ledger, Wallet: w.chain.takes()})
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// take books what arrived and checks how many deposits that were.
func (w *world) take(want int) {
	w.t.Helper()
	n, err := w.depositsOf().Tick(w.t.Context())
	if err != nil || n != want {
		w.t.Fatalf("booked %d deposits, want %d; %v", n, want, err)
	}
	w.Check()
}

func TestDepositsAreCreditedByMemo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	alice := w.Tenant("alice", 0)
	tenant, err := w.Ledger.Tenant(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	from := ledgertest.Owner(7)
	w.chain.arrive(&w.chain.deposits, from, 5*schemas.TON, " "+tenant.Memo+"\n")
	w.chain.arrive(&w.chain.deposits, from, 2*schemas.TON, "who am I")
	w.chain.arrive(&w.chain.deposits, from, 1, strings.Repeat("\x00\xff", 50_000))
	w.chain.arrive(&w.chain.deposits, from, 3*schemas.TON, "")
	// What moved no money is passed over.
	w.chain.deposits.events = append(w.chain.deposits.events, ton.Other{Tx: w.chain.tx(), Reason: "bounced"}, ton.Bounced{Tx: w.chain.tx(), From: from, Amount: 5})
	w.take(4)
	w.take(0)
	if b, err := w.Ledger.Balance(t.Context(), alice); err != nil || b.Stake != schemas.TON || b.Balance != 4*schemas.TON || b.Paid != 4*schemas.TON {
		t.Errorf("balance %+v, %v", b, err)
	}
	if got := w.Balance(settlement.AcctSuspense); got != 5*schemas.TON+1 {
		t.Errorf("suspense %s", got)
	}
	if got := w.Balance(settlement.AcctDeposits); got != -(10*schemas.TON + 1) {
		t.Errorf("deposit wallet %s", got)
	}
}

func TestSuspenseIsDecided(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	alice := w.Tenant("alice", 0)
	from := ledgertest.Owner(7)
	w.chain.arrive(&w.chain.deposits, from, 2*schemas.TON, "alice here")
	w.chain.arrive(&w.chain.deposits, from, 3*schemas.TON, "oops")
	w.take(2)
	waiting, err := w.Ledger.Deposits(t.Context(), true, 10)
	if err != nil || len(waiting) != 2 || waiting[0].Memo != "oops" || waiting[0].From != from {
		t.Fatalf("in suspense: %+v, %v", waiting, err)
	}
	mine, back := waiting[1].Hash, waiting[0].Hash
	if err := w.Ledger.AssignDeposit(t.Context(), mine, alice); err != nil {
		t.Fatal(err)
	}
	if err := w.Ledger.RefundDeposit(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	w.chain.arrive(&w.chain.deposits, from, schemas.TON, "for payouts")
	w.take(1)
	if waiting, err = w.Ledger.Deposits(t.Context(), true, 10); err != nil || len(waiting) != 1 {
		t.Fatalf("in suspense: %+v, %v", waiting, err)
	}
	kept := waiting[0].Hash
	before := w.Balance(settlement.AcctOperator)
	if err := w.Ledger.KeepDeposit(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	if got := w.Balance(settlement.AcctOperator) - before; got != schemas.TON {
		t.Errorf("the operator kept %s", got)
	}
	for what, err := range map[string]error{
		"kept twice":             w.Ledger.KeepDeposit(t.Context(), kept),
		"kept and assigned":      w.Ledger.AssignDeposit(t.Context(), kept, alice),
		"assigned twice":         w.Ledger.AssignDeposit(t.Context(), mine, alice),
		"refunded and assigned":  w.Ledger.AssignDeposit(t.Context(), back, alice),
		"assigned and refunded":  w.Ledger.RefundDeposit(t.Context(), mine),
		"refunded, not suspense": w.Ledger.RefundDeposit(t.Context(), back),
	} {
		if schemas.KindOf(err) != schemas.KindConflict {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := w.Ledger.RefundDeposit(t.Context(), "nonsense"); schemas.KindOf(err) != schemas.KindNotFound {
		t.Errorf("refund of nothing: %v", err)
	}
	if waiting, err = w.Ledger.Deposits(t.Context(), true, 10); err != nil || len(waiting) != 0 {
		t.Errorf("still in suspense: %+v, %v", waiting, err)
	}
	w.run(4, nil)
	w.got(from, 3*schemas.TON)
	if got := w.Balance(settlement.AcctSuspense); got != 0 {
		t.Errorf("suspense %s", got)
	}
}

// TestDepositsSurviveFaults: each commit is lost, or done and reported as an error; every deposit is credited once.
func TestDepositsSurviveFaults(t *testing.T) {
	t.Parallel()
	for _, where := range []string{settlement.BeforeCommit, settlement.AfterCommit} {
		w := newWorld(t, 0)
		alice := w.Tenant("alice", 0)
		tenant, err := w.Ledger.Tenant(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		for range 250 { // three pages
			w.chain.arrive(&w.chain.deposits, ledgertest.Owner(7), schemas.TON, tenant.Memo)
		}
		n := 0
		w.Ledger.SetFault(func(at string) error {
			if at != where {
				return nil
			}
			if n++; n%2 == 1 {
				return errCrash
			}
			return nil
		})
		for range 20 {
			_, _ = w.depositsOf().Tick(t.Context()) // dies and starts again
		}
		w.Ledger.SetFault(nil)
		if _, err := w.depositsOf().Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Check()
		if b, err := w.Ledger.Balance(t.Context(), alice); err != nil || b.Balance+b.Stake != 250*schemas.TON {
			t.Errorf("faults %s: balance %+v, %v", where, b, err)
		}
	}
}

// TestTreasuryTakesDeposits: one wallet can both take deposits and pay, and says whose the money is by the same rule.
func TestTreasuryTakesDeposits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	if _, err := w.Ledger.DepositAddress(t.Context()); schemas.KindOf(err) != schemas.KindNotFound {
		t.Errorf("deposit address before there is one: %v", err)
	}
	alice := w.Tenant("alice", 0)
	tenant, err := w.Ledger.Tenant(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	from := ledgertest.Owner(7)
	w.chain.arrive(&w.chain.treasury, from, 5*schemas.TON, tenant.Memo)
	w.chain.arrive(&w.chain.treasury, from, 2*schemas.TON, "who am I")
	w.chain.arrive(&w.chain.treasury, from, 0, tenant.Memo)
	w.run(2, nil)
	if b, err := w.Ledger.Balance(t.Context(), alice); err != nil || b.Stake != schemas.TON || b.Balance != 4*schemas.TON {
		t.Errorf("balance %+v, %v", b, err)
	}
	if got := w.Balance(settlement.AcctOperator); got != 20*schemas.TON {
		t.Errorf("operator %s", got)
	}
	waiting, err := w.Ledger.Deposits(t.Context(), true, 10)
	if err != nil || len(waiting) != 1 || waiting[0].Memo != "who am I" {
		t.Fatalf("in suspense: %+v, %v", waiting, err)
	}
	if got, err := w.Ledger.DepositAddress(t.Context()); err != nil || got != w.chain.treasury.address {
		t.Errorf("deposit address %s, %v", got, err)
	}
	w.earn(ledgertest.Owner(1), 4)
	w.run(4, nil)
	w.got(ledgertest.Owner(1), 4*each)
	if got := w.reconcile(); len(got) > 0 {
		t.Errorf("differences: %v", got)
	}
	w.take(0)
	if got, err := w.Ledger.DepositAddress(t.Context()); err != nil || got != w.chain.deposits.address {
		t.Errorf("deposit address with a wallet of its own: %s, %v", got, err)
	}
}

// TestGasOfArrivals: the wallet's code costs a little for every arrival. Thousands of strangers' specks of dust must not
// look like theft, and theft must not hide behind them.
func TestGasOfArrivals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	w.run(2, nil)
	const specks = 1000
	for range specks {
		w.chain.arrive(&w.chain.treasury, ledgertest.Owner(7), schemas.TON/1000, "")
	}
	w.chain.treasury.balance -= specks * 300_000
	w.run(3, nil)
	if s, err := w.Ledger.Payouts(t.Context()); err != nil || s.Stopped != "" || s.Gas != specks*300_000 {
		t.Errorf("after dust: %+v, %v", s, err)
	}
	w.chain.arrive(&w.chain.treasury, ledgertest.Owner(7), schemas.TON, "")
	w.chain.treasury.balance -= schemas.TON
	w.run(3, settlement.ErrStopped)
	if s, err := w.Ledger.Payouts(t.Context()); err != nil || s.Stopped != string(settlement.AlertUnexplained) {
		t.Errorf("after theft: %+v, %v", s, err)
	}
}

// TestArrivalGasIsEnough: real wallet code takes less for an arrival than the book allows for.
func TestArrivalGasIsEnough(t *testing.T) {
	t.Parallel()
	d := newDevChaos(t)
	balance := func() schemas.NanoTON {
		d.net.Settle(t)
		return d.net.Balance(t, d.Address())
	}
	d.drain(5 * schemas.TON) // deploys the wallet
	for _, memo := range []string{"", "cocoon-i4bcn5mh5z52ludj", strings.Repeat("long ", 200)} {
		before := balance()
		d.arrive(schemas.TON, memo)
		cost := before + schemas.TON - balance()
		t.Logf("a memo of %d bytes: %s", len(memo), cost)
		if cost <= 0 || cost > settlement.ArrivalGas/2 {
			t.Errorf("a memo of %d bytes costs %s, the book allows for %s", len(memo), cost, settlement.ArrivalGas)
		}
	}
}

// TestMoneyMovesFromDepositsToTreasury: what the operator moves between the wallets is not new money.
func TestMoneyMovesFromDepositsToTreasury(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	w.take(0) // the deposit wallet is known from now on
	w.chain.arrive(&w.chain.deposits, ledgertest.Owner(7), 9*schemas.TON, "x")
	w.take(1)
	w.chain.arrive(&w.chain.treasury, w.chain.deposits.address, 9*schemas.TON, "")
	w.run(2, nil)
	if a, b, c := w.Balance(settlement.AcctDeposits), w.Balance(settlement.AcctTreasury), w.Balance(settlement.AcctOperator); a != 0 || b != -9*schemas.TON || c != 0 {
		t.Errorf("deposit wallet %s, treasury %s, operator %s", a, b, c)
	}
}

func TestRolesOfWalletsAreForLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	w.run(1, nil)
	d, err := settlement.NewDeposits(settlement.DepositsConfig{Ledger: w.Ledger, Wallet: w.chain.pays(), Poll: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Tick(t.Context()); schemas.KindOf(err) != schemas.KindConflict {
		t.Errorf("deposits into the treasury: %v", err)
	}
}
