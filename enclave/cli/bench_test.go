//go:build !worker

package cli_test

import (
	"context"
	"testing"

	"github.com/cocoon-network/cocoon/enclave/cli"
	shared "github.com/cocoon-network/cocoon/schemas/cli"
)

// TestBench runs the benchmarks once. Their figures depend on the machine, so only that there are some is demanded.
func TestBench(t *testing.T) {
	t.Parallel()
	for name, bench := range map[string]func(context.Context, bool) (shared.BenchResult, error){
		"seal": cli.BenchSeal, "broker": cli.BenchBroker,
	} {
		result, err := bench(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		if result.Bench != name || len(result.Figures) == 0 {
			t.Errorf("%s gave %+v", name, result)
		}
		for _, f := range result.Figures {
			if f.Value <= 0 {
				t.Errorf("%s: %s is %v", name, f.Name, f.Value)
			}
			t.Logf("%s %s %.2f %s %s", name, f.Name, f.Value, f.Unit, f.Goal)
		}
	}
}
