package ledgertest

import (
	"context"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
)

// Database is one empty database under test.
type Database struct {
	// Open opens the ledger in it, again and again.
	Open func(settlement.LedgerOptions) (*settlement.Ledger, error)
	// Exec runs raw SQL beside the ledger, as somebody with the password could.
	Exec func(query string) error
}

// Run runs the conformance suite; fresh makes an empty database for each test.
func Run(t *testing.T, fresh func(testing.TB) Database) {
	for name, test := range map[string]func(*testing.T, *bundle){
		"Tenants":    testTenants,
		"Fund":       testFund,
		"Stake":      testStake,
		"Holds":      testHolds,
		"Booking":    testBooking,
		"Earnings":   testEarnings,
		"Rejections": testRejections,
		"Duplicates": testDuplicates,
		"Restart":    testRestart,
		"AppendOnly": testAppendOnly,
		"Withdrawal": testWithdrawal,
		"Stores":     testStores,
		"Newer":      testNewer,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t, fresh(t))) })
	}
}

// bundle is what each test gets.
type bundle struct {
	*Network
	db Database
}

// open opens a ledger with a network around it.
func open(t testing.TB, db Database) *bundle {
	t.Helper()
	clock := NewClock()
	b := &bundle{db: db}
	l := b.reopen(t, clock)
	b.Network = NewNetwork(t, l, clock)
	return b
}

// reopen opens the ledger once more.
func (b *bundle) reopen(t testing.TB, clock *Clock) *settlement.Ledger {
	t.Helper()
	l, err := b.db.Open(settlement.LedgerOptions{Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// kind fails unless the error has the kind.
func kind(t testing.TB, err error, want schemas.Kind) {
	t.Helper()
	if schemas.KindOf(err) != want {
		t.Errorf("got error %v, want kind %s", err, want)
	}
}

// ok fails on an error.
func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// equal fails unless two amounts are equal.
func equal(t testing.TB, what string, got, want schemas.NanoTON) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %s, want %s", what, got, want)
	}
}

func testTenants(t *testing.T, b *bundle) {
	ctx := t.Context()
	key := Key("alice").Public().(ed25519.PublicKey)
	a, err := b.Ledger.CreateTenant(ctx, settlement.Tenant{ID: TenantID("alice"), Key: key})
	ok(t, err)
	again, err := b.Ledger.CreateTenant(ctx, settlement.Tenant{ID: TenantID("alice"), Key: key})
	ok(t, err)
	if again.Memo != a.Memo || a.Memo == "" || a.StakeTarget != settlement.DefaultStake {
		t.Errorf("made %+v, then %+v", a, again)
	}
	_, err = b.Ledger.CreateTenant(ctx, settlement.Tenant{ID: TenantID("alice"), Key: Key("mallory").Public().(ed25519.PublicKey)})
	kind(t, err, schemas.KindConflict)
	_, err = b.Ledger.CreateTenant(ctx, settlement.Tenant{ID: TenantID("bob"), Key: key, Memo: a.Memo})
	kind(t, err, schemas.KindConflict)
	_, err = b.Ledger.CreateTenant(ctx, settlement.Tenant{ID: "bob", Key: key})
	kind(t, err, schemas.KindInvalid)
	_, err = b.Ledger.Tenant(ctx, TenantID("nobody"))
	kind(t, err, schemas.KindNotFound)
	all, err := b.Ledger.Tenants(ctx)
	ok(t, err)
	if len(all) != 1 || all[0].ID != a.ID {
		t.Errorf("tenants %+v", all)
	}
}

func testFund(t *testing.T, b *bundle) {
	ctx := t.Context()
	alice, bob := b.Tenant("alice", 0), b.Tenant("bob", 0)
	for range 3 {
		ok(t, b.Ledger.Fund(ctx, alice, 5*schemas.TON, "invoice 1"))
	}
	kind(t, b.Ledger.Fund(ctx, alice, 6*schemas.TON, "invoice 1"), schemas.KindConflict)
	kind(t, b.Ledger.Fund(ctx, bob, 5*schemas.TON, "invoice 1"), schemas.KindConflict)
	kind(t, b.Ledger.Fund(ctx, TenantID("nobody"), 5, "invoice 2"), schemas.KindNotFound)
	kind(t, b.Ledger.Fund(ctx, alice, -5, "invoice 3"), schemas.KindInvalid)
	kind(t, b.Ledger.Fund(ctx, alice, settlement.MaxAmount+1, "invoice 4"), schemas.KindInvalid)
	equal(t, "balance", b.Balance(settlement.TenantAccount(alice)), 4*schemas.TON)
	equal(t, "stake", b.Balance(settlement.StakeAccount(alice)), schemas.TON)
	b.Check()
}

func testStake(t *testing.T, b *bundle) {
	ctx := t.Context()
	alice := b.Tenant("alice", 5*schemas.TON)
	for target, want := range map[schemas.NanoTON]settlement.Balance{
		3 * schemas.TON:  {Available: 2 * schemas.TON, Balance: 2 * schemas.TON, Stake: 3 * schemas.TON, Paid: 2 * schemas.TON},
		0:                {Balance: 5 * schemas.TON, Paid: 5 * schemas.TON},
		50 * schemas.TON: {Stake: 5 * schemas.TON},
	} {
		ok(t, b.Ledger.SetStake(ctx, alice, target))
		if got, err := b.Ledger.Balance(ctx, alice); err != nil || got != want {
			t.Errorf("stake %s: got %+v %v, want %+v", target, got, err, want)
		}
	}
	b.Check()
}

func testHolds(t *testing.T, b *bundle) {
	ctx := t.Context()
	alice := b.Tenant("alice", 5*schemas.TON) // 4 TON free, 1 TON stake: 1 TON may be in flight
	later := b.Clock.Now().Add(time.Minute)
	hold := func(n int, amount schemas.NanoTON) settlement.Hold {
		return settlement.Hold{Job: schemas.JobIDFrom([16]byte{byte(n)}), Tenant: alice, Amount: amount, Expires: later}
	}
	answers, err := b.Ledger.Reserve(ctx, []settlement.Hold{hold(1, schemas.TON/2), hold(2, schemas.TON/2), hold(3, 1), hold(1, schemas.TON/2)})
	ok(t, err)
	if answers[0] != nil || answers[1] != nil || answers[3] != nil || !errors.Is(answers[2], schemas.KindCredit) {
		t.Errorf("answers %v", answers)
	}
	ok(t, b.Ledger.Release(ctx, hold(1, 0).Job, schemas.NewJobID()))
	balance, err := b.Ledger.Balance(ctx, alice)
	ok(t, err)
	equal(t, "reserved", balance.Reserved, schemas.TON/2)
	equal(t, "available", balance.Available, schemas.TON/2)

	// An outcome, even a failed one, ends the hold.
	o := schemas.Outcome{Job: hold(2, 0).Job, Tenant: alice, Model: b.Model, Status: schemas.Failed, Kind: schemas.KindEngine}
	b.Feed.Append(settlement.Message{Header: o.Header()})
	if s := b.Book(); s.Free != 1 {
		t.Errorf("stats %+v", s)
	}
	balance, err = b.Ledger.Balance(ctx, alice)
	ok(t, err)
	equal(t, "reserved", balance.Reserved, 0)

	// A hold that nobody ends lapses.
	_, err = b.Ledger.Reserve(ctx, []settlement.Hold{hold(4, schemas.TON)})
	ok(t, err)
	b.Clock.Add(2 * time.Minute)
	balance, err = b.Ledger.Balance(ctx, alice)
	ok(t, err)
	equal(t, "available", balance.Available, schemas.TON)

	// A booked job cannot be reserved again.
	job, _ := b.Do(Work{Tenant: alice, Worker: "w", Owner: Owner(1), Usage: schemas.Usage{Prompt: 1}})
	b.Book()
	answers, err = b.Ledger.Reserve(ctx, []settlement.Hold{{Job: job, Tenant: alice, Amount: 1, Expires: later.Add(time.Hour)}})
	ok(t, err)
	kind(t, answers[0], schemas.KindReplayed)
}

func testBooking(t *testing.T, b *bundle) {
	ctx := t.Context()
	alice := b.Tenant("alice", 20*schemas.TON)
	for i := range 150 { // more than one insert statement carries
		b.Do(Work{Tenant: alice, Worker: "w1", Owner: Owner(1 + i%2), Usage: schemas.Usage{Prompt: 10, Completion: 5}})
	}
	if s := b.Book(); s.Booked != 150 {
		b.NoneRejected()
		t.Fatalf("stats %+v", s)
	}
	const each = 2_000_000
	equal(t, "tenant", b.Balance(settlement.TenantAccount(alice)), 19*schemas.TON-150*each)
	equal(t, "owner", b.Balance(settlement.OwnerAccount(Owner(1))), 75*each*9/10)
	equal(t, "fees", b.Balance("fees"), 150*each/10)
	moves, err := b.Ledger.Movements(ctx, settlement.TenantAccount(alice), 0, 1000)
	ok(t, err)
	if len(moves) != 151 || moves[1].Kind != "job" || moves[1].Usage == nil || moves[1].Usage.Prompt != 10 || moves[1].Model != b.Model {
		t.Errorf("%d movements, the second %+v", len(moves), moves[1])
	}
	balance, err := b.Ledger.Balance(ctx, alice)
	ok(t, err)
	equal(t, "charged", balance.Charged, 150*each)
	equal(t, "paid", balance.Paid, 19*schemas.TON)
}

func testRejections(t *testing.T, b *bundle) {
	alice := b.Tenant("alice", 20*schemas.TON)
	bob := b.Tenant("bob", 20*schemas.TON)
	future := b.Clock.Now().Add(time.Hour)
	use := schemas.Usage{Prompt: 10}
	cases := []struct {
		name string
		want settlement.Reason
		work Work
	}{
		{"forged grant", settlement.RejectGrant, Work{Outcome: func(o *schemas.Outcome) { o.Grant = spoil(o.Grant) }}},
		{"forged receipt", settlement.RejectReceipt, Work{Outcome: func(o *schemas.Outcome) { o.Receipt = spoil(o.Receipt) }}},
		{"unknown broker", settlement.RejectBroker, Work{Grant: func(g *schemas.Grant) { g.Broker = schemas.KeyIDOf([]byte("other")) }}},
		{"other worker's receipt", settlement.RejectReceipt, Work{Grant: func(g *schemas.Grant) {
			key := Key("w2").Public().(ed25519.PublicKey)
			g.WorkerKey, g.Worker = key, schemas.WorkerIDOf(key)
		}}},
		{"receipt of another grant", settlement.RejectMismatch, Work{Receipt: func(r *schemas.Receipt) { r.Grant = schemas.HashOf([]byte("x")) }}},
		{"receipt of another job", settlement.RejectMismatch, Work{Receipt: func(r *schemas.Receipt) { r.Job = schemas.NewJobID() }}},
		{"outcome of another job", settlement.RejectMismatch, Work{Outcome: func(o *schemas.Outcome) { o.Job = schemas.NewJobID() }}},
		{"outcome of another tenant", settlement.RejectMismatch, Work{Outcome: func(o *schemas.Outcome) { o.Tenant = bob }}},
		{"outcome with another status", settlement.RejectMismatch, Work{Outcome: func(o *schemas.Outcome) { o.Status, o.Kind = schemas.Cancelled, schemas.KindCancelled }}},
		{"other environment", settlement.RejectEnvironment, Work{Grant: func(g *schemas.Grant) { g.Environment = schemas.Production }}},
		{"from the future", settlement.RejectTime, Work{Receipt: func(r *schemas.Receipt) { r.Finished = future }}},
		{"before its grant", settlement.RejectTime, Work{Receipt: func(r *schemas.Receipt) { r.Started = r.Started.Add(-time.Hour) }}},
		{"unknown catalogue", settlement.RejectCatalogue, Work{Grant: func(g *schemas.Grant) { g.Catalogue = 99 }}},
		{"above the ceiling", settlement.RejectCeiling, Work{Usage: schemas.Usage{Prompt: 10_001}}},
		{"unknown tenant", settlement.RejectTenant, Work{Tenant: TenantID("nobody")}},
	}
	for _, c := range cases {
		c.work.Worker, c.work.Owner = "w1", Owner(1)
		if c.work.Tenant == "" {
			c.work.Tenant = alice
		}
		if c.work.Usage == (schemas.Usage{}) {
			c.work.Usage = use
		}
		b.Do(c.work)
	}
	b.Feed.Append(settlement.Message{Header: map[string][]string{"ce-id": {"nonsense"}}})
	b.Do(Work{Tenant: alice, Worker: "w1", Owner: Owner(1), Usage: use}) // and life goes on
	if s := b.Book(); s.Booked != 1 || s.Rejected != uint64(len(cases))+1 {
		t.Errorf("stats %+v", s)
	}
	all, err := b.Ledger.Rejections(t.Context(), 100)
	ok(t, err)
	for i, c := range cases {
		if r := all[len(all)-1-i]; r.Reason != c.want {
			t.Errorf("%s: rejected for %s (%s), want %s", c.name, r.Reason, r.Detail, c.want)
		}
	}
	if all[0].Reason != settlement.RejectMalformed {
		t.Errorf("nonsense: %s", all[0].Reason)
	}
	equal(t, "owner", b.Balance(settlement.OwnerAccount(Owner(1))), 900_000)
}

// spoil changes the signature of a compact JWS.
func spoil(jws string) string {
	b := []byte(jws)
	i := len(b) - 10
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

func testDuplicates(t *testing.T, b *bundle) {
	alice := b.Tenant("alice", 20*schemas.TON)
	w := Work{Tenant: alice, Worker: "w1", Owner: Owner(1), Usage: schemas.Usage{Prompt: 10}}
	o := b.Outcome(w)
	b.Feed.Append(settlement.Message{Header: o.Header()})
	b.Feed.Append(settlement.Message{Header: o.Header()}) // in one group
	again := b.Outcome(w)
	reused := w
	reused.Receipt = func(r *schemas.Receipt) { r.Seq, r.Prev = 1, schemas.Hash{} }
	b.Do(reused) // another job under a number that the worker has used
	b.Feed.Append(settlement.Message{Header: again.Header()})
	if s := b.Book(); s.Booked != 2 || s.Rejected != 2 {
		t.Errorf("stats %+v", s)
	}
	b.Feed.Append(settlement.Message{Header: o.Header()}) // in a later group
	if s := b.Book(); s.Booked != 0 || s.Rejected != 1 {
		t.Errorf("stats %+v", s)
	}
	all, err := b.Ledger.Rejections(t.Context(), 10)
	ok(t, err)
	if len(all) != 3 || all[0].Reason != settlement.RejectDuplicate || all[1].Reason != settlement.RejectNumber || all[2].Reason != settlement.RejectDuplicate {
		t.Errorf("rejections %+v", all)
	}
	equal(t, "owner", b.Balance(settlement.OwnerAccount(Owner(1))), 1_800_000)
}

func testRestart(t *testing.T, b *bundle) {
	alice := b.Tenant("alice", 20*schemas.TON)
	in, err := settlement.NewIntake(b.Intake())
	ok(t, err)
	for range 3 {
		b.Do(Work{Tenant: alice, Worker: "w1", Owner: Owner(1), Usage: schemas.Usage{Prompt: 10}})
		_, err := in.Step(t.Context())
		ok(t, err)
		ok(t, b.Ledger.Close())
		b.Ledger = b.reopen(t, b.Clock)
		in, err = settlement.NewIntake(b.Intake())
		ok(t, err)
	}
	if b.Position() != 3 {
		t.Errorf("position %d", b.Position())
	}
	// Two intakes on one ledger book everything once.
	for range 100 {
		b.Do(Work{Tenant: alice, Worker: "w1", Owner: Owner(1), Usage: schemas.Usage{Prompt: 10}})
	}
	second := b.reopen(t, b.Clock)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	for _, l := range []*settlement.Ledger{b.Ledger, second} {
		cfg := b.Intake()
		cfg.Ledger, cfg.Group = l, 7
		in, err := settlement.NewIntake(cfg)
		ok(t, err)
		go func() { done <- in.Run(ctx) }()
	}
	for deadline := time.Now().Add(20 * time.Second); b.Position() < 103 && time.Now().Before(deadline); {
		<-time.After(time.Millisecond)
	}
	cancel()
	ok(t, <-done)
	ok(t, <-done)
	b.NoneRejected()
	b.Check()
	equal(t, "owner", b.Balance(settlement.OwnerAccount(Owner(1))), 103*900_000)
}

func testAppendOnly(t *testing.T, b *bundle) {
	alice := b.Tenant("alice", 20*schemas.TON)
	b.Do(Work{Tenant: alice, Worker: "w1", Owner: Owner(1), Usage: schemas.Usage{Prompt: 10}})
	b.Book()
	for _, query := range []string{
		"UPDATE postings SET amount = amount + 1", "DELETE FROM postings", "UPDATE entries SET kind = 'gift'", "DELETE FROM entries",
		"UPDATE receipts SET total = 0", "DELETE FROM receipts", "DELETE FROM accounts", "UPDATE catalogues SET version = 2", "DELETE FROM catalogues",
		"INSERT INTO postings (account, entry, amount) VALUES (1, 1, 0)",
	} {
		if err := b.db.Exec(query); err == nil {
			t.Errorf("the database allowed %q", query)
		}
	}
	b.Check()
	// What can be changed is found out.
	ok(t, b.db.Exec("UPDATE accounts SET balance = balance + 1 WHERE name LIKE 'owner:%'"))
	kind(t, b.Ledger.Check(t.Context()), schemas.KindCorrupt)
}

func testWithdrawal(t *testing.T, b *bundle) {
	ctx := t.Context()
	alice := b.Tenant("alice", 5*schemas.TON)
	for range 2 {
		ok(t, b.Ledger.RefundTenant(ctx, "r1", alice, Owner(9), 3*schemas.TON))
	}
	kind(t, b.Ledger.RefundTenant(ctx, "r1", alice, Owner(9), 2*schemas.TON), schemas.KindConflict)
	kind(t, b.Ledger.RefundTenant(ctx, "r2", alice, Owner(9), 2*schemas.TON), schemas.KindCredit)
	kind(t, b.Ledger.WithdrawFees(ctx, "f1", Owner(8), 1), schemas.KindCredit)
	kind(t, b.Ledger.CancelWithdrawal(ctx, "r9"), schemas.KindNotFound)
	b.Check()
	ok(t, b.Ledger.CancelWithdrawal(ctx, "r1"))
	kind(t, b.Ledger.CancelWithdrawal(ctx, "r1"), schemas.KindConflict)
	equal(t, "balance", b.Balance(settlement.TenantAccount(alice)), 4*schemas.TON)
	b.Check()
}

func testStores(t *testing.T, b *bundle) {
	ctx := t.Context()
	ok(t, b.Ledger.AddCatalogue(ctx, b.Catalogue(1)))
	other := b.Catalogue(1)
	other.FeeBP = 1
	kind(t, b.Ledger.AddCatalogue(ctx, other), schemas.KindConflict)
	ok(t, b.Ledger.AddCatalogue(ctx, b.Catalogue(7)))
	newest, err := b.Ledger.NewestCatalogue(ctx)
	ok(t, err)
	if newest.Version != 7 {
		t.Errorf("newest is %d", newest.Version)
	}
	_, err = b.Ledger.Catalogue(ctx, 3)
	kind(t, err, schemas.KindNotFound)
	key := Key("x").Public().(ed25519.PublicKey)
	_, err = b.Ledger.BrokerKey(ctx, schemas.KeyIDOf(key))
	kind(t, err, schemas.KindNotFound)
	ok(t, b.Ledger.AddBrokerKey(ctx, key))
	ok(t, b.Ledger.AddBrokerKey(ctx, key))
	have, err := b.Ledger.BrokerKey(ctx, schemas.KeyIDOf(key))
	ok(t, err)
	if !have.Equal(key) {
		t.Error("another key came back")
	}
}

func testNewer(t *testing.T, b *bundle) {
	ok(t, b.db.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (9000, "+"'1'"+")"))
	_, err := b.db.Open(settlement.LedgerOptions{})
	kind(t, err, schemas.KindUnsupported)
}
