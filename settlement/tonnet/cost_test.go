package tonnet

import (
	"testing"
)

// TestBatchCost pins the exact cost in nanoTON, above the payouts, of a first batch (which deploys the wallet) and the
// size of its message. The figures are those of the C++ TVM.
func TestBatchCost(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		n, boc int
		cost   int64
	}{{1, 810, 6053600}, {2, 963, 8839200}, {10, 1563, 16852000}, {100, 8314, 106999200}, {253, 20319, 260244000}} {
		h := setup(t).highload(3600, "10000")
		before := h.nano(h.w.WalletAddress())
		ms, total := h.batch(x.n, 0, "0.05")
		h.mustSend(true, ms)
		h.produce()
		cost := before - h.nano(h.w.WalletAddress()) - total
		if h.paid(0, x.n) != x.n || cost != x.cost {
			t.Errorf("n=%d paid=%d cost=%d want %d", x.n, h.paid(0, x.n), cost, x.cost)
		}
	}
}
