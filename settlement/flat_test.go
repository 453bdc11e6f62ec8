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

// TestBookingStaysFlat books COCOON_FLAT receipts, 2,000,000 if it is not set, which takes minutes, and compares
// the cost of the last million, or half, with the first. The signatures are left out: their cost does not depend on what
// is booked.
func TestBookingStaysFlat(t *testing.T) {
	n := 2_000_000
	if set := os.Getenv("COCOON_FLAT"); set != "" {
		var err error
		if n, err = strconv.Atoi(set); err != nil {
			t.Fatal("COCOON_FLAT must be a number of receipts")
		}
	}
	w := newWorld(t, 0)
	alice := w.Tenant("alice", 1000*schemas.TON)
	const group = 1000
	book, err := settlement.Booker(w.Ledger, w.Outcome(ledgertest.Work{Tenant: alice, Worker: "w1", Owner: ledgertest.Owner(1), Usage: schemas.Usage{Prompt: 1}}))
	if err != nil {
		t.Fatal(err)
	}
	var halves [2]time.Duration
	var heap [2]uint64
	for i := range n / group {
		start := settlement.CPU()
		if err := book(t.Context(), i*group, group); err != nil {
			t.Fatal(err)
		}
		halves[i*2/(n/group)] += settlement.CPU() - start
		if i == n/group/2-1 || i == n/group-1 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			heap[i*2/(n/group)] = m.HeapAlloc
		}
	}
	first, second := halves[0]/time.Duration(n/2), halves[1]/time.Duration(n/2)
	t.Logf("first half %s a receipt, heap %d KiB; second half %s a receipt, heap %d KiB", first, heap[0]>>10, second, heap[1]>>10)
	if float64(second) > 1.2*float64(first) {
		t.Errorf("the second half costs %.2f times the first", float64(second)/float64(first))
	}
	if heap[1] > heap[0]+heap[0]/5+8<<20 {
		t.Error("memory grows")
	}
}
