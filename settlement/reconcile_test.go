package settlement_test

import (
	"database/sql"
	"testing"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// reconcile compares a world's ledger with everything.
func (w *world) reconcile() map[string]int {
	w.t.Helper()
	in := w.Intake()
	r, err := settlement.Reconcile(w.t.Context(), settlement.ReconcileConfig{
		Ledger: w.Ledger, Treasury: w.chain.pays(), Deposits: w.chain.takes(), Intake: &in,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, d := range r.Differences {
		w.t.Logf("%+v", d)
		kinds[d.Kind]++
	}
	return kinds
}

// TestReconcileNamesDifferences: nothing is said about a ledger that agrees; each thing that does not is named.
func TestReconcileNamesDifferences(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	w.earn(ledgertest.Owner(1), 4)
	w.chain.arrive(&w.chain.deposits, ledgertest.Owner(7), schemas.TON, "x")
	w.take(1)
	w.run(5, nil)
	if got := w.reconcile(); len(got) > 0 {
		t.Fatalf("a ledger that agrees: %v", got)
	}
	// The chain shows more than the ledger knows.
	w.chain.arrive(&w.chain.deposits, ledgertest.Owner(7), 2*schemas.TON, "x")
	w.chain.treasury.balance -= 3 * schemas.TON
	w.chain.treasury.events = append(w.chain.treasury.events, ton.Executed{Tx: w.chain.tx(), MessageLT: 999, Outs: []ton.Out{{To: ledgertest.Owner(9), Amount: 3 * schemas.TON, LT: 998}}})
	if got := w.reconcile(); got[settlement.DiffMissingDeposit] != 1 || got[settlement.DiffUnknownPayment] != 1 || got[settlement.DiffBalance] != 1 || len(got) != 3 {
		t.Errorf("chain shows more: %v", got)
	}
	// The chain shows less: another chain altogether, without the deposit, the top-up and the payout.
	other := newMemChain(0)
	other.treasury.address, other.deposits.address = w.chain.treasury.address, w.chain.deposits.address
	w.chain = other
	if got := w.reconcile(); got[settlement.DiffExtraDeposit] != 2 || got[settlement.DiffUnpaidItem] != 1 || got[settlement.DiffBalance] != 1 {
		t.Errorf("chain shows less: %v", got)
	}
}

// TestReconcileFindsChangedReceipts: rows changed by somebody with the password, triggers and all, are found.
func TestReconcileFindsChangedReceipts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	w.earn(ledgertest.Owner(1), 4)
	w.run(5, nil)
	w.take(0)
	db, err := sql.Open("sqlite", "file:"+w.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tamper := func(query string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	tamper("DROP TRIGGER receipts_fixed; DROP TRIGGER receipts_kept; DROP TRIGGER postings_kept; DROP TRIGGER entries_kept")
	tamper("UPDATE receipts SET hash = zeroblob(32) WHERE seq = 1")
	if got := w.reconcile(); got[settlement.DiffReceipt] != 1 || len(got) != 1 {
		t.Errorf("changed hash: %v", got)
	}
	tamper("UPDATE receipts SET total = total + 1 WHERE seq = 2")
	if got := w.reconcile(); got[settlement.DiffReceipt] != 2 || got[settlement.DiffBook] != 1 {
		t.Errorf("changed amount: %v", got)
	}
	tamper("DELETE FROM receipts WHERE seq = 3")
	if got := w.reconcile(); got[settlement.DiffMissingReceipt] != 1 {
		t.Errorf("missing row: %v", got)
	}
	w.Feed.Append(settlement.Message{Header: map[string][]string{}})
	w.bookBlindly()
	tamper("UPDATE receipts SET seq = 5 WHERE seq = 4")
	if got := w.reconcile(); got[settlement.DiffExtraReceipt] != 1 || got[settlement.DiffMissingReceipt] != 2 {
		t.Errorf("row at another position: %v", got)
	}
}

// bookBlindly books the rest of the stream without auditing the book.
func (w *world) bookBlindly() {
	w.t.Helper()
	in, err := settlement.NewIntake(w.Intake())
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := in.Step(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}
