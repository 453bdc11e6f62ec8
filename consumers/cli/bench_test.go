//go:build !worker

package cli

import (
	"encoding/json"
	"testing"

	"github.com/cocoon-network/cocoon/schemas/cli"
)

// TestBenchPipeline runs the benchmark as `cocoon bench --quick` does; its figures are printed, not judged.
func TestBenchPipeline(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	r, err := BenchPipeline(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	printed(t, r)
}

// TestBenchQueue likewise.
func TestBenchQueue(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	r, err := BenchQueue(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	printed(t, r)
}

// printed prints the figures, which must be positive.
func printed(t *testing.T, r cli.BenchResult) {
	t.Helper()
	for _, f := range r.Figures {
		if f.Value <= 0 {
			t.Errorf("%s is %v %s", f.Name, f.Value, f.Unit)
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", b)
}
