package ledgertest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
)

// earnedAt is a point of a worker's earnings by receipts of 10 prompt and 5 completion tokens.
func earnedAt(b *bundle, worker string, at time.Time, receipts uint64) settlement.Earned {
	return settlement.Earned{
		Worker: WorkerID(worker), At: at, Receipts: receipts, Usage: schemas.Usage{Prompt: 10 * receipts, Completion: 5 * receipts},
		Charged: schemas.NanoTON(2_000_000 * receipts), Earned: schemas.NanoTON(1_800_000 * receipts),
	}
}

func testEarnings(t *testing.T, b *bundle) {
	ctx := t.Context()
	alice := b.Tenant("alice", 20*schemas.TON)
	work := func(worker string, receipts int) {
		for range receipts {
			b.Do(Work{Tenant: alice, Worker: worker, Owner: Owner(1), Usage: schemas.Usage{Prompt: 10, Completion: 5}})
		}
		b.Book()
	}
	first := b.Clock.Now().Truncate(time.Hour)
	work("w1", 2)
	work("w1", 1) // the same hour in another commit
	work("w2", 1)
	b.Clock.Add(time.Hour)
	work("w2", 5)
	b.Clock.Add(47 * time.Hour)
	work("w1", 1)
	b.NoneRejected()
	b.Check()
	second, last := first.Add(time.Hour), first.Add(48*time.Hour)
	day := func(at time.Time) time.Time { return at.Truncate(24 * time.Hour) }

	for name, c := range map[string]struct {
		query settlement.EarningsQuery
		want  []settlement.Earned
	}{
		"hours, who earned most first": {settlement.EarningsQuery{}, []settlement.Earned{
			earnedAt(b, "w2", first, 1), earnedAt(b, "w2", second, 5), earnedAt(b, "w1", first, 3), earnedAt(b, "w1", last, 1),
		}},
		"days": {settlement.EarningsQuery{Step: 24 * time.Hour}, []settlement.Earned{
			earnedAt(b, "w2", day(first), 6), earnedAt(b, "w1", day(first), 3), earnedAt(b, "w1", day(last), 1),
		}},
		"one worker":  {settlement.EarningsQuery{Worker: WorkerID("w1")}, []settlement.Earned{earnedAt(b, "w1", first, 3), earnedAt(b, "w1", last, 1)}},
		"the best":    {settlement.EarningsQuery{Workers: 1}, []settlement.Earned{earnedAt(b, "w2", first, 1), earnedAt(b, "w2", second, 5)}},
		"later":       {settlement.EarningsQuery{Since: second.Add(time.Minute)}, []settlement.Earned{earnedAt(b, "w2", second, 5), earnedAt(b, "w1", last, 1)}},
		"nobody":      {settlement.EarningsQuery{Worker: WorkerID("w3")}, nil},
		"not a whole": {settlement.EarningsQuery{Since: first, Step: 2 * time.Hour, Worker: WorkerID("w1")}, []settlement.Earned{earnedAt(b, "w1", first.Truncate(2*time.Hour), 3), earnedAt(b, "w1", last.Truncate(2*time.Hour), 1)}},
	} {
		got, err := b.Ledger.Earnings(ctx, c.query)
		ok(t, err)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, q := range []settlement.EarningsQuery{{Step: time.Minute}, {Step: -time.Hour}, {Since: first.Add(-settlement.MaxEarningsSteps * time.Hour)}} {
		_, err := b.Ledger.Earnings(ctx, q)
		kind(t, err, schemas.KindInvalid)
	}

	// A ledger from before there were earnings gets them from its receipts.
	want, err := b.Ledger.Earnings(ctx, settlement.EarningsQuery{})
	ok(t, err)
	ok(t, b.db.Exec("DROP TABLE earnings"))
	ok(t, b.db.Exec("DELETE FROM goose_db_version WHERE version_id = 2"))
	older := b.reopen(t, b.Clock)
	got, err := older.Earnings(ctx, settlement.EarningsQuery{})
	ok(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after the migration (-want +got):\n%s", diff)
	}
	ok(t, older.Check(ctx))
	ok(t, b.db.Exec("UPDATE earnings SET earned = earned + 1"))
	kind(t, older.Check(ctx), schemas.KindCorrupt)
}
