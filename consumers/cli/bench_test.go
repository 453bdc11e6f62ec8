//go:build !worker

package cli

import (
	"encoding/json"
	"testing"
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
