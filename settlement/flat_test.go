//go:build measure

package settlement_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
)

// TestBookingStaysFlat books COCOON_FLAT receipts, 2,000,000 if it is not set, which takes minutes, in parts of a million,
// and compares the cost and the memory of the last part with the first. The signatures are left out: their cost does
// not depend on what is booked. What else goes on in a machine makes the same work cost more or less CPU time, so the
// cost is counted in a yardstick of fixed work that is done in between.
func TestBookingStaysFlat(t *testing.T) {
	const group, part = 1000, 1_000_000
	n := 2 * part
	if set := os.Getenv("COCOON_FLAT"); set != "" {
		var err error
		if n, err = strconv.Atoi(set); err != nil || n < 2*part {
			t.Fatal("COCOON_FLAT must be a number of receipts, at least 2,000,000")
		}
	}
	w := newWorld(t, 0)
	alice := w.Tenant("alice", 1000*schemas.TON)
	book, err := settlement.Booker(w.Ledger, w.Outcome(ledgertest.Work{Tenant: alice, Worker: "w1", Owner: ledgertest.Owner(1), Usage: schemas.Usage{Prompt: 1}}))
	if err != nil {
		t.Fatal(err)
	}
	y := newYardstick(t)
	var first, last float64  // receipts in yards
	var before, after uint64 // bytes of heap
	for from := 0; from+part <= n; from += part {
		var cost, yard time.Duration
		start := time.Now()
		for at := from; at < from+part; at += group {
			cpu := settlement.CPU()
			if err := book(t.Context(), at, group); err != nil {
				t.Fatal(err)
			}
			cost += settlement.CPU() - cpu
			yard += y.measure()
		}
		last, after = cost.Seconds()/yard.Seconds(), heap()
		if from == 0 {
			first, before = last, after
		}
		t.Logf("after %d receipts: %s CPU and %s in all for each of the last million, %.3f of the yardstick, heap %d KiB",
			from+part, cost/part, time.Since(start)/part, last, after>>10)
	}
	if last > 1.2*first {
		t.Errorf("the last million costs %.2f times the first", last/first)
	}
	if after > before+before/5+8<<20 {
		t.Error("memory grows")
	}
}

// yardstick is fixed work of the kind that booking is: arithmetic, and pages that go to a file and come back.
type yardstick struct {
	t    *testing.T
	file *os.File
	page []byte
}

// newYardstick makes one.
func newYardstick(t *testing.T) *yardstick {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "yardstick"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &yardstick{t, f, make([]byte, 2048)}
}

// measure does the work once and returns the CPU time that it took.
func (y *yardstick) measure() time.Duration {
	y.t.Helper()
	start := settlement.CPU()
	for i := range int64(200) {
		sum := sha256.Sum256(y.page)
		copy(y.page, sum[:])
		_, err := y.file.WriteAt(y.page, i*2048)
		if _, again := y.file.ReadAt(y.page, (199-i)*2048); err != nil || again != nil && !errors.Is(again, io.EOF) {
			y.t.Fatal(err, again)
		}
	}
	return settlement.CPU() - start
}

// heap is the size of what is in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
