//go:build !worker

package cli

import "testing"

// TestBenchEngine runs the benchmark as `cocoon bench --quick` does; its figures are printed, not judged: other tests
// share the machine.
func TestBenchEngine(t *testing.T) {
	if testing.Short() {
		t.Skip("measures for ten seconds")
	}
	r, err := BenchEngine(t.Context(), true, "")
	if err != nil {
		t.Fatal(err)
	}
	if r.Bench != "engine" || len(r.Figures) == 0 {
		t.Fatalf("%+v", r)
	}
	for _, f := range r.Figures {
		t.Logf("%s %.2f %s (goal %s)", f.Name, f.Value, f.Unit, f.Goal)
	}
}
