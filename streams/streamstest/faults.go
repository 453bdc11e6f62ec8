package streamstest

import (
	"context"
	"errors"
	"sync"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Fault is what becomes of one try of a write.
type Fault int

// The faults.
const (
	// None: it goes through.
	None Fault = iota
	// Lost: nothing happens, and the caller hears of a failure.
	Lost
	// DoneButError: it happens, and the caller hears of a failure all the same. This is the one that doubles things.
	DoneButError
)

// String names the fault.
func (f Fault) String() string { return [...]string{"none", "lost", "done but error"}[f] }

// ErrFault is the cause of every failure made here.
var ErrFault = errors.New("streamstest: fault")

// Faults decides about the writes of a bus; put Intercept into its configuration. The zero value lets everything through
// and counts.
type Faults struct {
	// Decide is asked for each try; n counts the tries of this kind of write from 0. nil: no faults. It may be set before
	// the bus is used, and changed with Set.
	Decide func(w streams.Write, n int) Fault

	// mu guards Decide after the start, and counts.
	mu     sync.Mutex
	counts map[streams.Op]int
}

// Set replaces Decide and starts counting anew.
func (f *Faults) Set(decide func(w streams.Write, n int) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Decide, f.counts = decide, nil
}

// Count is the number of tries of a kind of write.
func (f *Faults) Count(op streams.Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[op]
}

// Intercept is for streams.Config.
func (f *Faults) Intercept(_ context.Context, w streams.Write, do func() error) error {
	f.mu.Lock()
	n, decide := f.counts[w.Op], f.Decide
	if f.counts == nil {
		f.counts = map[streams.Op]int{}
	}
	f.counts[w.Op]++
	f.mu.Unlock()
	fault := None
	if decide != nil {
		fault = decide(w, n)
	}
	switch fault {
	case Lost:
		return schemas.Errorf(schemas.KindUnavailable, "the write was lost: %w", ErrFault)
	case DoneButError:
		if err := do(); err != nil {
			return err
		}
		return schemas.Errorf(schemas.KindUnavailable, "the answer was lost: %w", ErrFault)
	}
	return do()
}

// First makes the first try of one kind of write fail.
func First(op streams.Op, fault Fault) func(streams.Write, int) Fault {
	return func(w streams.Write, n int) Fault {
		if w.Op == op && n == 0 {
			return fault
		}
		return None
	}
}
