package enginebench

import (
	"log/slog"
	"os"
	"testing"

	"github.com/cocoon-network/cocoon/consumers/ggml/gguf"
)

func TestMain(m *testing.M) {
	slog.SetLogLoggerLevel(slog.LevelError) // ollama's packages log to the default logger
	os.Exit(m.Run())
}

// TestRun: the measurement works and its invariants hold on a small model; the figures themselves are for `cocoon bench`.
func TestRun(t *testing.T) {
	t.Parallel()
	f, err := Run(t.Context(), Plan{Rounds: 1, Tokens: 24, Shape: gguf.Shape{Seed: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if f.BatchingGain <= 0 || f.TTFTGain <= 0 || f.Overload <= 0 || f.GreedySame < 0.5 {
		t.Errorf("%+v", f)
	}
}

// BenchmarkEngine is the measurement of the goals: go test -bench Engine -benchtime 1x.
func BenchmarkEngine(b *testing.B) {
	for b.Loop() {
		f, err := Run(b.Context(), Plan{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(f.BatchingGain, "batching-gain")
		b.ReportMetric(f.TTFTGain, "ttft-gain")
		b.ReportMetric(f.GreedySame, "greedy-same")
		b.ReportMetric(f.Overload, "overload-ratio")
		b.Logf("\n%v", f)
	}
}
