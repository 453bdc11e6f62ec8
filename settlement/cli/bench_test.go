package cli_test

import (
	"os"
	"testing"

	"github.com/cocoon-network/cocoon/settlement/cli"
)

// TestBenchSettle runs the benchmark in its quick form: it must end, and the figures that do not depend on the machine
// must reach their goals. Set COCOON_BENCH=full for the whole one.
func TestBenchSettle(t *testing.T) {
	r, err := cli.BenchSettle(t.Context(), os.Getenv("COCOON_BENCH") != "full")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Figures {
		t.Logf("%-28s %12.4f %s %s %v", f.Name, f.Value, f.Unit, f.Goal, f.OK)
		switch f.Name {
		case "payout_messages", "payout_fee_per_transfer", "payout_wrong_balances":
			if !f.OK {
				t.Errorf("%s is %v, goal %s", f.Name, f.Value, f.Goal)
			}
		}
	}
}
