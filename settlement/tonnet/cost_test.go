package tonnet

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// mainnetConfig is mainnet's whole config, from the test data of the tonutils-go module.
func mainnetConfig(t testing.TB) *cell.Cell {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/xssnick/tonutils-go").Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		lack(t, "the tonutils-go module's folder: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "tlb", "testdata", "blockchain_config_mainnet.boc"))
	if err != nil {
		lack(t, "mainnet's config: %v", err)
	}
	c, err := cell.FromBOC(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// lack skips a test that needs something which the machine has not, unless nothing may be skipped.
func lack(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("COCOON_TEST_REQUIRE") == "all" {
		t.Fatalf("missing: "+format, args...)
	}
	t.Skipf("missing: "+format, args...)
}

// TestDevConfig compares the hand-built config with mainnet's, cell by cell, and in effect.
func TestDevConfig(t *testing.T) {
	t.Parallel()
	full := mainnetConfig(t)
	dev, main := tlb.BlockchainConfig{Root: DevConfig()}, tlb.BlockchainConfig{Root: full}
	for _, id := range []uint32{0, 8, 18, 20, 21, 24, 25, 28} {
		a, err := dev.GetParam(id)
		if err != nil {
			t.Fatal(id, err)
		}
		b, err := main.GetParam(id)
		if err != nil {
			t.Fatal(id, err)
		}
		if a.HashKey() != b.HashKey() {
			t.Errorf("param %d: %s, mainnet %s", id, a.Dump(), b.Dump())
		}
	}
	balance := func(params *cell.Cell) int64 {
		h := setup(t, func(c *Config) { c.Params = params }).highload(600, "100")
		ms, _ := h.batch(20, 0, "0.5")
		h.mustSend(true, ms)
		h.produce()
		return h.nano(h.w.WalletAddress())
	}
	const want = 89_973_128_800
	if a, b := balance(nil), balance(full); a != want || b != want {
		t.Errorf("after 20 transfers: %d with ours, %d with mainnet's, want %d", a, b, want)
	}
}

// TestFirstBatchCost pins what a first batch costs above its payouts, deployment included, and the size of its message.
// Above 253 transfers the library nests batches, which is dearer.
func TestFirstBatchCost(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		n, boc int
		cost   int64
	}{
		{1, 810, 6053600},
		{2, 963, 8839200},
		{10, 1563, 16852000},
		{100, 8314, 106999200},
		{253, 20319, 260244000},
		{254, 20475, 263290400},
		{506, 39880, 591501600},
		{830, 64987, 1136695200},
	} {
		h := setup(t).highload(3600, "10000")
		before := h.nano(h.w.WalletAddress())
		ms, total := h.batch(x.n, 0, "0.05")
		ext := h.sign(true, ms)
		c, err := tlb.ToCell(ext)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.api().SendExternalMessage(t.Context(), ext); err != nil {
			t.Fatal(err)
		}
		h.produce()
		cost := before - h.nano(h.w.WalletAddress()) - total
		if h.paid(0, x.n) != x.n || cost != x.cost || len(c.ToBOC()) != x.boc {
			t.Errorf("n=%d paid=%d cost=%d boc=%d", x.n, h.paid(0, x.n), cost, len(c.ToBOC()))
		}
	}
}

// TestBatchCost pins the costs of deployed wallets: highload v3, and v5r1 to compare.
func TestBatchCost(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int64{1: 3606400, 2: 6392000, 10: 14404800, 100: 104552000, 250: 254792000} {
		h := setup(t).highload(3600, "1000")
		if cost := h.secondCost(n, func() *wallet.Wallet { h.qid++; return h.w }); cost != want {
			t.Errorf("highload v3, n=%d: %d, want %d", n, cost, want)
		}
	}
	for n, want := range map[int]int64{1: 3116400, 2: 4104000, 10: 12004800, 100: 100888800, 255: 253966800} {
		b := setup(t, today)
		fresh := func() *wallet.Wallet { // a client keeps the newest block, and with it the sequence number, for a second
			w, err := wallet.FromPrivateKey(b.api(), key(3), wallet.ConfigV5R1Final{NetworkGlobalID: GlobalID})
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		b.faucet(fresh().WalletAddress(), "1000")
		if cost := b.secondCost(n, fresh); cost != want {
			t.Errorf("v5r1, n=%d: %d, want %d", n, cost, want)
		}
	}
}

// secondCost sends one transfer, which deploys the wallet, then n, and returns what these cost above their amounts.
func (b *bundle) secondCost(n int, next func() *wallet.Wallet) (cost int64) {
	b.t.Helper()
	for i, k := range []int{1, n} {
		w := next()
		var ms []*wallet.Message
		for j := range k {
			m, err := w.BuildTransfer(someone(i*1000+j), tlb.MustFromTON("0.05"), false, "settle:1")
			if err != nil {
				b.t.Fatal(err)
			}
			ms = append(ms, m)
		}
		before := b.nano(w.WalletAddress())
		e, err := w.PrepareExternalMessageForMany(b.t.Context(), i == 0, ms)
		if err != nil {
			b.t.Fatal(err)
		}
		if err = b.api().SendExternalMessage(b.t.Context(), e); err != nil {
			b.t.Fatal(err)
		}
		b.produce()
		cost = before - b.nano(w.WalletAddress()) - int64(k)*50_000_000
	}
	return cost
}
