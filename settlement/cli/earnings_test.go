package cli_test

import (
	"strings"
	"testing"
	"time"

	shared "github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"

	"github.com/cocoon-network/cocoon/schemas"
)

func TestEarningsVerb(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	var at time.Time
	s.with(func(l *settlement.Ledger) {
		clock := ledgertest.NewClock()
		clock.Add(time.Since(clock.Now()).Truncate(time.Second) - 3*time.Hour) // the verb looks back from now
		at = clock.Now().Truncate(time.Hour)
		n := ledgertest.NewNetwork(t, l, clock)
		alice := n.Tenant("alice", 20*schemas.TON)
		for _, worker := range []string{"w1", "w2", "w2"} {
			n.Do(ledgertest.Work{Tenant: alice, Worker: worker, Owner: ledgertest.Owner(1), Usage: schemas.Usage{Prompt: 10}})
		}
		n.Book()
		n.NoneRejected()
	})
	var all []settlement.Earned
	if s.ok(&all, "payouts", "earnings"); len(all) != 2 || all[0].Worker != ledgertest.WorkerID("w2") || all[0].Earned != 1_800_000 || !all[0].At.Equal(at) {
		t.Errorf("earnings %+v", all)
	}
	one := string(ledgertest.WorkerID("w1"))
	if s.ok(&all, "payouts", "earnings", one, "--step", "24h"); len(all) != 1 || all[0].Receipts != 1 || !all[0].At.Equal(at.Truncate(24*time.Hour)) {
		t.Errorf("earnings of one %+v", all)
	}
	if out := s.ok(nil, "payouts", "earnings", "--workers", "1"); !strings.Contains(out, "0.0018 TON") || strings.Contains(out, one) {
		t.Errorf("table:\n%s", out)
	}
	if s.ok(&all, "payouts", "earnings", "--since", "1h"); len(all) != 0 {
		t.Errorf("earnings of the last hour %+v", all)
	}
	s.code(shared.ExitUsage, "payouts", "earnings", "somebody")
	s.code(shared.ExitError, "payouts", "earnings", "--step", "90m")
}
