//go:build measure

package settlement_test

import (
	"os"
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
// not depend on what is booked.
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
	var first, last time.Duration // CPU time of a receipt
	var before, after uint64      // bytes of heap
	for from := 0; from+part <= n; from += part {
		cpu, start := settlement.CPU(), time.Now()
		for at := from; at < from+part; at += group {
			if err := book(t.Context(), at, group); err != nil {
				t.Fatal(err)
			}
		}
		last, after = (settlement.CPU()-cpu)/part, heap()
		if from == 0 {
			first, before = last, after
		}
		t.Logf("after %d receipts: %s CPU and %s in all for each of the last million, heap %d KiB", from+part, last, time.Since(start)/part, after>>10)
	}
	if float64(last) > 1.2*float64(first) {
		t.Errorf("the last million costs %.2f times the first", float64(last)/float64(first))
	}
	if after > before+before/5+8<<20 {
		t.Error("memory grows")
	}
}

// heap is the size of what is in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
