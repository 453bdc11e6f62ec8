package producerstest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
)

// Example runs a story in a network of its own, for Example functions, which have no testing.T: a failure panics, and
// everything that was started ends before Example returns.
func Example(story func(ctx context.Context, n *Network, t testing.TB)) {
	t := &exampleTB{}
	t.ctx, t.cancel = context.WithTimeout(context.Background(), 2*Wait)
	defer t.end()
	story(t.ctx, New(t), t)
}

// exampleTB is as much of a testing.TB as the kits need.
type exampleTB struct {
	testing.TB // nil: what is not here panics
	ctx        context.Context
	cancel     context.CancelFunc

	mu       sync.Mutex // guards cleanups
	cleanups []func()
}

// Helper does nothing: a panic shows where it comes from.
func (t *exampleTB) Helper() {}

// Context ends with the example.
func (t *exampleTB) Context() context.Context { return t.ctx }

// Cleanup runs f at the end, the last one first.
func (t *exampleTB) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}

// end runs the cleanups.
func (t *exampleTB) end() {
	t.cancel()
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		f := t.cleanups[last]
		t.cleanups = t.cleanups[:last]
		f()
	}
}

// TempDir is a folder that goes with the example.
func (t *exampleTB) TempDir() string {
	dir, err := os.MkdirTemp("", "cocoon-example-")
	if err != nil {
		panic(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Name is shown in connection lists.
func (t *exampleTB) Name() string { return "example" }

// Failed is never asked for a reason: failures panic.
func (t *exampleTB) Failed() bool { return false }

// The ways to fail panic, the ways to tell are silent: an example's output is compared.
func (t *exampleTB) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (t *exampleTB) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (t *exampleTB) Error(args ...any)                 { panic(fmt.Sprint(args...)) }
func (t *exampleTB) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (t *exampleTB) Log(...any)                        {}
func (t *exampleTB) Logf(string, ...any)               {}
