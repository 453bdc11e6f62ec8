package settlement_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// world is a network, its ledger on disk, a chain and a payer.
type world struct {
	*ledgertest.Network
	t       testing.TB
	path    string
	chain   *memChain
	journal *memJournal
	config  settlement.PayerConfig
	payer   *settlement.Payer
	alerts  []settlement.Alert
}

// newWorld funds a treasury and opens a ledger.
func newWorld(t testing.TB, funds schemas.NanoTON) *world {
	t.Helper()
	w := &world{t: t, path: database(t, filepath.Join(t.TempDir(), "ledger.db")), chain: newMemChain(funds), journal: &memJournal{}}
	clock := ledgertest.NewClock()
	w.Network = ledgertest.NewNetwork(t, openLedger(t, w.path, clock), clock)
	w.config = settlement.PayerConfig{Treasury: w.chain.pays(), Journal: w.journal, OnAlert: func(a settlement.Alert) { w.alerts = append(w.alerts, a) }}
	w.restart()
	return w
}

// openLedger opens a ledger that is closed with the test.
func openLedger(t testing.TB, path string, clock *ledgertest.Clock) *settlement.Ledger {
	t.Helper()
	l, err := settlement.OpenLedger(t.Context(), path, settlement.LedgerOptions{Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// restart makes a new payer on the ledger as it is.
func (w *world) restart() {
	w.t.Helper()
	w.config.Ledger = w.Ledger
	p, err := settlement.NewPayer(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.payer = p
}

// earn has jobs done for an owner, each worth 0.09 TON to it.
func (w *world) earn(owner schemas.Owner, jobs int) {
	w.t.Helper()
	tenant := w.Tenant("alice", 0)
	if err := w.Ledger.Fund(w.t.Context(), tenant, schemas.NanoTON(jobs)*schemas.TON, "for "+string(owner)+string(rune('a'+w.Feed.Len()))); err != nil {
		w.t.Fatal(err)
	}
	for range jobs {
		w.Do(ledgertest.Work{Tenant: tenant, Worker: "w1", Owner: owner, Usage: schemas.Usage{Prompt: 1000}})
	}
	w.Book()
	w.NoneRejected()
}

// each is what a job of earn is worth to its owner.
const each = 90_000_000

// run makes rounds with a block after each; it fails on errors other than the allowed one.
func (w *world) run(rounds int, allowed error) {
	w.t.Helper()
	for range rounds {
		if err := w.payer.Tick(w.t.Context(), false); err != nil && !errors.Is(err, allowed) {
			w.t.Fatal(err)
		}
		w.Check()
		w.chain.produce(5 * time.Second)
	}
}

// got checks what an owner has received.
func (w *world) got(owner schemas.Owner, want schemas.NanoTON) {
	w.t.Helper()
	if got := w.chain.received[owner]; got != want {
		w.t.Errorf("owner …%s received %s, want %s", owner[62:], got, want)
	}
}

// alerted reports whether an alert of a kind was raised.
func (w *world) alerted(kind settlement.AlertKind) bool {
	for _, a := range w.alerts {
		if a.Kind == kind {
			return true
		}
	}
	return false
}

func TestPayoutsFromReceipts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	alice := w.Tenant("alice", 50*schemas.TON)
	var receipts []string
	var jobs []schemas.JobID
	for i := range 33 {
		job, r := w.Do(ledgertest.Work{Tenant: alice, Worker: "w1", Owner: ledgertest.Owner(0x100 + i%3), Usage: schemas.Usage{Prompt: 1000}})
		jobs, receipts = append(jobs, job), append(receipts, r)
	}
	w.Book()
	if _, err := w.Ledger.Proof(t.Context(), jobs[0]); schemas.KindOf(err) != schemas.KindUnavailable {
		t.Errorf("proof before payout: %v", err)
	}
	w.run(5, nil)
	for i := range 3 {
		w.got(ledgertest.Owner(0x100+i), 11*each)
	}
	if w.chain.sends != 1 {
		t.Errorf("%d sends for one batch", w.chain.sends)
	}
	for i, job := range jobs {
		proof, err := w.Ledger.Proof(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		root, err := proof.Verify(receipts[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := settlement.FindPayment(t.Context(), w.chain.pays(), proof, root); err != nil {
			t.Fatal(err)
		}
		if _, err := proof.Verify(receipts[(i+1)%33]); schemas.KindOf(err) != schemas.KindInvalid {
			t.Errorf("the proof covers another receipt: %v", err)
		}
		more := *proof
		more.Amount++
		if _, err := more.Verify(receipts[i]); schemas.KindOf(err) != schemas.KindInvalid {
			t.Errorf("the proof covers another amount: %v", err)
		}
		more = *proof
		more.Item.Amount++
		if root2, err := more.Verify(receipts[i]); err == nil && root2 == root {
			t.Error("the proof covers another payment")
		}
	}
	s, err := w.Ledger.PayoutStatement(t.Context(), 1)
	if err != nil || s.Check() != nil || len(s.Items) != 3 {
		t.Errorf("statement %+v, %v, %v", s, err, s.Check())
	}
}

func TestThresholdAgeAndMinimum(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	a, b, c := ledgertest.Owner(1), ledgertest.Owner(2), ledgertest.Owner(3)
	if err := w.Ledger.SetMinimum(t.Context(), c, schemas.TON); err != nil {
		t.Fatal(err)
	}
	w.earn(a, 2) // above the threshold of 0.1 TON
	w.earn(b, 1) // below it, above the least
	w.earn(c, 9) // below the owner's own minimum
	w.run(4, nil)
	w.got(a, 2*each)
	w.got(b, 0)
	w.Clock.Add(25 * time.Hour)
	w.run(4, nil)
	w.got(b, each)
	w.got(c, 0)
	w.earn(c, 3)
	w.run(4, nil)
	w.got(c, 12*each)
}

func TestForceAndStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	w.earn(ledgertest.Owner(2), 1)
	if err := w.Ledger.StopPayouts(t.Context()); schemas.KindOf(err) != schemas.KindNotFound {
		t.Errorf("stop before there is a treasury: %v", err)
	}
	w.run(1, nil)
	if err := w.Ledger.StopPayouts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.payer.Tick(t.Context(), true); !errors.Is(err, settlement.ErrStopped) {
		t.Errorf("stopped: %v", err)
	}
	if err := w.Ledger.ResumePayouts(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := w.payer.Tick(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	w.chain.produce(time.Second)
	w.run(3, nil)
	w.got(ledgertest.Owner(2), each)
}

func TestManyBatchesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 100*schemas.TON)
	w.config.BatchSize = 7
	w.restart()
	alice := w.Tenant("alice", 90*schemas.TON)
	for i := range 60 {
		w.Do(ledgertest.Work{Tenant: alice, Worker: "w1", Owner: ledgertest.Owner(0x100 + i), Usage: schemas.Usage{Prompt: 2000}})
	}
	w.Book()
	w.run(1, nil)
	if w.chain.sends != 9 {
		t.Errorf("%d batches for 60 owners at 7 a batch", w.chain.sends)
	}
	w.run(3, nil)
	for i := range 60 {
		w.got(ledgertest.Owner(0x100+i), 2*each)
	}
}

func TestFundsAndFloor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, schemas.TON+5*each) // the floor of 1 TON is not touched
	w.earn(ledgertest.Owner(1), 4)
	w.earn(ledgertest.Owner(2), 4)
	w.run(5, nil)
	if !w.alerted(settlement.AlertFunds) {
		t.Error("no alert about funds")
	}
	w.got(ledgertest.Owner(1), 4*each)
	w.got(ledgertest.Owner(2), 0)
	w.chain.arrive(&w.chain.treasury, ledgertest.Owner(99), schemas.TON, "")
	w.run(5, nil)
	w.got(ledgertest.Owner(2), 4*each)
}

func TestDroppedBatchIsOwedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	w.earn(ledgertest.Owner(1), 4)
	if err := w.payer.Tick(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	w.chain.treasury.balance = 2_000_000 // taken behind our back: the wallet takes the batch and pays nobody
	w.chain.produce(5 * time.Second)
	w.run(2, settlement.ErrStopped)
	w.got(ledgertest.Owner(1), 0)
	if !w.alerted(settlement.AlertSkipped) || !w.alerted(settlement.AlertUnexplained) {
		t.Errorf("alerts %v", w.alerts)
	}
	w.chain.arrive(&w.chain.treasury, ledgertest.Owner(99), 20*schemas.TON, "")
	if err := w.Ledger.ResumePayouts(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	// The book still misses what was taken: payouts stop again until an operator has it written off.
	if err := w.payer.Tick(t.Context(), false); !errors.Is(err, settlement.ErrStopped) {
		t.Errorf("tick: %v", err)
	}
	if err := w.Ledger.ResumePayouts(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	w.run(4, nil)
	w.got(ledgertest.Owner(1), 4*each)
	if got := w.Balance("unexplained"); got >= -18*schemas.TON {
		t.Errorf("written off %s", got)
	}
}

func TestSkippedItemsAreOwedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	for i := range 5 {
		w.earn(ledgertest.Owner(1+i), 4)
	}
	w.run(1, nil)
	w.chain.treasury.balance = 3 * 4 * each // taken out after the batch was accepted: the money runs out in the middle
	w.run(1, settlement.ErrStopped)
	w.chain.treasury.balance += 40 * schemas.TON
	w.run(1, settlement.ErrStopped)
	if !w.alerted(settlement.AlertSkipped) {
		t.Error("no alert about skipped items")
	}
	batches, err := w.Ledger.PayoutBatches(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if b := batches[len(batches)-1]; b.Paid == 0 || b.Paid >= b.Total {
		t.Errorf("batch %+v", b)
	}
	w.Check()
}

func TestExpiredBatchIsIssuedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	w.chain.fault = func() sendFault { return sendHeld }
	w.earn(ledgertest.Owner(1), 4)
	w.run(3, nil)
	w.chain.fault = nil
	w.chain.produce(20 * time.Minute)
	w.run(4, nil)
	for len(w.chain.held) > 0 { // all copies of the first batch arrive now, too late
		w.chain.deliver(0)
	}
	w.run(3, nil)
	w.got(ledgertest.Owner(1), 4*each)
	if !w.alerted(settlement.AlertExpired) {
		t.Error("no alert about the expired batch")
	}
}

func TestBounceIsOwedAgainAndFlagged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	o := ledgertest.Owner(1)
	w.chain.bounce[o] = true
	w.earn(o, 4)
	w.run(4, nil)
	w.got(o, 0)
	payees, err := w.Ledger.Payees(t.Context(), 10)
	if err != nil || len(payees) != 1 || payees[0].Flagged != "bounced" || payees[0].Owed != 4*each-630_000 {
		t.Fatalf("payees %+v, %v", payees, err)
	}
	w.chain.bounce[o] = false
	w.earn(o, 1)
	w.run(4, nil)
	w.got(o, 0) // flagged
	if err := w.Ledger.ClearFlag(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	w.run(4, nil)
	w.got(o, 5*each-630_000)
	s, err := w.Ledger.PayoutStatement(t.Context(), 2)
	if err != nil || s.Items[0].Carried != 4*each-630_000 || s.Items[0].Earned != each || s.Items[0].Receipts != 1 {
		t.Errorf("statement %+v, %v", s, err)
	}
}

func TestUnknownPaymentStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	o := ledgertest.Owner(1)
	w.earn(o, 4)
	// Another program with the same key pays somebody, and our owner.
	thief := newWorld(t, 0)
	thief.chain, thief.config.Treasury, thief.config.Journal = w.chain, w.chain.pays(), nil
	thief.restart()
	thief.earn(o, 2)
	thief.earn(ledgertest.Owner(7), 2)
	thief.run(3, nil)
	w.run(2, settlement.ErrStopped)
	if !w.alerted(settlement.AlertUnknownPayment) {
		t.Error("no alert about the unknown payment")
	}
	w.got(o, 2*each)
	if err := w.Ledger.ResumePayouts(t.Context(), false); schemas.KindOf(err) != schemas.KindConflict {
		t.Errorf("resumed without a look: %v", err)
	}
	if strangers, err := w.Ledger.Strangers(t.Context()); err != nil || len(strangers) != 1 || len(strangers[0].Outs) != 2 {
		t.Errorf("strangers %+v, %v", strangers, err)
	}
	if err := w.Ledger.ResumePayouts(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	w.run(4, nil)
	w.got(o, 4*each) // what the stranger paid it counts
	if got := w.Balance("unexplained"); got != -2*each {
		t.Errorf("unexplained %s", got)
	}
}

// backup copies the ledger's file as it is.
func (w *world) backup() string {
	w.t.Helper()
	if err := w.Ledger.Close(); err != nil {
		w.t.Fatal(err)
	}
	to := filepath.Join(w.t.TempDir(), "copy.db")
	copyFile(w.t, w.path, to)
	w.Ledger = openLedger(w.t, w.path, w.Clock)
	w.restart()
	return to
}

// restore replaces the ledger by an old copy.
func (w *world) restore(from string) {
	w.t.Helper()
	if err := w.Ledger.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.path = from
	w.Ledger = openLedger(w.t, from, w.Clock)
	w.restart()
}

// copyFile copies a closed database.
func copyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
}

func TestRestoredLedgerRecoversFromJournal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	a, b := ledgertest.Owner(1), ledgertest.Owner(2)
	w.earn(a, 4)
	w.run(3, nil)
	old := w.backup()
	w.earn(a, 3)
	w.earn(b, 3)
	w.run(3, nil) // paid, and forgotten by the restore
	w.earn(a, 2)
	w.chain.fault = func() sendFault { return sendHeld }
	w.run(1, nil) // signed and held back, and forgotten
	w.chain.fault = nil
	w.restore(old)
	if err := w.payer.Tick(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if !w.alerted(settlement.AlertRestored) {
		t.Error("no alert about the restore")
	}
	w.chain.deliver(0)
	w.run(3, nil)
	w.Book() // the stream is read again
	w.run(4, nil)
	w.got(a, 9*each)
	w.got(b, 3*each)
	w.earn(a, 2)
	w.run(4, nil)
	w.got(a, 11*each)
	for n := range uint64(4) {
		if s, err := w.Ledger.PayoutStatement(t.Context(), n+1); err != nil || s.Check() != nil {
			t.Errorf("statement %d: %v", n+1, err)
		}
	}
}

func TestRestoredLedgerWithoutJournalStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	w.config.Journal = nil
	w.restart()
	a := ledgertest.Owner(1)
	w.earn(a, 4)
	old := w.backup()
	w.run(3, nil)
	w.got(a, 4*each)
	w.restore(old)
	w.run(3, settlement.ErrStopped)
	w.got(a, 4*each)
	if !w.alerted(settlement.AlertUnknownPayment) {
		t.Error("no alert about the forgotten batch")
	}
	if err := w.Ledger.ResumePayouts(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	w.earn(a, 3)
	w.run(4, nil)
	w.got(a, 7*each)
}

func TestWithdrawalsArePaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	w.earn(ledgertest.Owner(1), 20)
	alice := ledgertest.TenantID("alice")
	ctx := t.Context()
	for _, err := range []error{
		w.Ledger.RefundTenant(ctx, "r1", alice, ledgertest.Owner(5), 2*schemas.TON),
		w.Ledger.RefundTenant(ctx, "r2", alice, ledgertest.Owner(5), 3*schemas.TON), // to one address: in the next batch
		w.Ledger.WithdrawFees(ctx, "f1", ledgertest.Owner(1), 150_000_000),          // to an owner's address
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.run(8, nil)
	w.got(ledgertest.Owner(5), 5*schemas.TON)
	w.got(ledgertest.Owner(1), 20*each+150_000_000)
	all, err := w.Ledger.Withdrawals(ctx, 10)
	if err != nil || len(all) != 3 || all[0].State != "paid" || all[2].State != "paid" {
		t.Errorf("withdrawals %+v, %v", all, err)
	}
}

// TestOwnerIsTheTreasury: a worker that names the treasury as its owner must not block everybody's batch.
func TestOwnerIsTheTreasury(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	w.earn(w.chain.treasury.address, 4)
	w.earn(ledgertest.Owner(1), 4)
	w.run(4, nil)
	w.got(ledgertest.Owner(1), 4*each)
}

// TestGasIsBooked: after everything is judged the book's treasury equals the chain's.
func TestGasIsBooked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20*schemas.TON)
	w.earn(ledgertest.Owner(1), 4)
	w.run(5, nil)
	p, err := w.Ledger.Payouts(context.Background())
	if err != nil || p.Booked != w.chain.treasury.balance || p.Gas <= 0 || p.Owed != 0 || p.Inflight != 0 {
		t.Errorf("%+v, %v; the chain has %s", p, err, w.chain.treasury.balance)
	}
}

// TestChainShowsTheImpossible: a batch that was carried out otherwise than it was signed stops the payer for good.
func TestChainShowsTheImpossible(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*ton.Executed){
		"another amount":   func(e *ton.Executed) { e.Outs[0].Amount++ },
		"another receiver": func(e *ton.Executed) { e.Outs[0].To = ledgertest.Owner(77) },
	} {
		w := newWorld(t, 20*schemas.TON)
		w.earn(ledgertest.Owner(1), 4)
		w.run(1, nil)
		w.chain.produce(time.Second)
		last := len(w.chain.treasury.events) - 1
		e, ok := w.chain.treasury.events[last].(ton.Executed)
		if !ok {
			t.Fatalf("the last event is %T", w.chain.treasury.events[last])
		}
		spoil(&e)
		w.chain.treasury.events[last] = e
		for range 2 {
			if err := w.payer.Tick(t.Context(), false); schemas.KindOf(err) != schemas.KindCorrupt {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.Check()
		if w.chain.sends != 1 {
			t.Errorf("%s: sent again", name)
		}
	}
}
