package cli_test

import (
	"os"
	"testing"

	"github.com/cocoon-network/cocoon/producers/cli"
	exit "github.com/cocoon-network/cocoon/schemas/cli"
)

// TestBenchGateway runs the benchmark: it must end and have all its figures. Whether goals are reached is not a test's
// business, on a machine that also runs other tests.
func TestBenchGateway(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	r, err := cli.BenchGateway(t.Context(), true)
	report(t, r, err, "gateway_vs_direct", "receipts_booked")
}

// report prints figures and checks that some are there.
func report(t *testing.T, r exit.BenchResult, err error, names ...string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if err := exit.FigureTable([]exit.BenchResult{r}).Write(os.Stdout); err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, f := range r.Figures {
		have[f.Name] = f.Value > 0
	}
	for _, name := range names {
		if !have[name] {
			t.Errorf("no figure %s", name)
		}
	}
}

// TestBenchBatch is TestBenchGateway for batches.
func TestBenchBatch(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	r, err := cli.BenchBatch(t.Context(), true)
	report(t, r, err, "validate", "submission_vs_raw")
}
