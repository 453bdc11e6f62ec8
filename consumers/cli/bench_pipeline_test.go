//go:build !worker

package cli

import (
	"context"
	"runtime/debug"
	"syscall"
	"testing"
	"time"
)

// BenchmarkPipeline runs the three programs of BenchPipeline one at a time, for profiles:
//
//	go test ./consumers/cli -run - -bench Pipeline/sealed -benchtime 5000x -cpuprofile cpu.out
//
// Beside the time of a job it reports the processor time of the whole process for one, the server's part included.
func BenchmarkPipeline(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(benchGC))
	n, err := newBenchNet(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := n.close(); err != nil {
			b.Error(err)
		}
	}()
	p := &pipelineBench{net: n, plan: planOf(true)}
	if err := p.prepare(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := p.crew.end(); err != nil {
			b.Error(err)
		}
	}()
	for _, program := range []struct {
		name string
		run  func(ctx context.Context, jobs int) error
	}{
		{"raw", func(ctx context.Context, jobs int) error { _, err := p.raw.Run(ctx, jobs, 0); return err }},
		{"floor", func(ctx context.Context, jobs int) error { _, err := p.floor.Run(ctx, jobs, 0); return err }},
		{"sealed", func(ctx context.Context, jobs int) error { _, err := p.pipeline(ctx, n.tenant, jobs, 0); return err }},
	} {
		b.Run(program.name, func(b *testing.B) {
			b.ReportAllocs()
			before := processorTime(b)
			if err := program.run(b.Context(), b.N); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
