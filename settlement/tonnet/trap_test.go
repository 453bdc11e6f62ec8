package tonnet

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// These tests pin down what highload wallet v3, and the library that speaks to it, do where one would expect otherwise.
// Package settlement/ton is built around each of these.

// TestSilentSkip: the library attaches the sum and 0.007 TON a transfer to the wallet's message to itself. With less, the
// batch is used up, "processed?" says yes, and nobody is paid.
func TestSilentSkip(t *testing.T) {
	t.Parallel()
	for extra, want := range map[string]int{"12.8": 0, "13.5": 0, "14.2": 0, "14.4": 0, "14.5": 250} {
		h := setup(t).highload(600, extra)
		ms, _ := h.batch(250, 0, "0.05")
		h.mustSend(true, ms)
		h.produce()
		if n := h.paid(0, 250); n != want || !h.processed(1) {
			t.Errorf("%s TON for 12.5: paid %d, want %d", extra, n, want)
		}
	}
}

// TestPackAliasing: above 253 messages the library overwrites element 253 of the caller's slice.
func TestPackAliasing(t *testing.T) {
	t.Parallel()
	h := setup(t).highload(600, "1000")
	ms, _ := h.batch(300, 0, "0.01")
	want := ms[253].InternalMessage.DstAddr.StringRaw()
	first := h.sign(false, ms)
	if got := ms[253].InternalMessage.DstAddr.StringRaw(); got == want || got != h.w.WalletAddress().StringRaw() {
		t.Error("element 253 is no longer overwritten")
	}
	if second := h.sign(false, ms); first.Body.HashKey() == second.Body.HashKey() {
		t.Error("building twice from one slice now gives one batch")
	}
}

// TestQueryID: ids whose low ten bits are 1023 are refused for ever.
func TestQueryID(t *testing.T) {
	t.Parallel()
	h := setup(t).highload(600, "100")
	for i, q := range []uint32{0, 1022, 1023, 1024, 2047, 8387583, 1<<23 - 2, 1<<23 - 1} {
		h.qid = q
		ms, _ := h.batch(2, i*10, "0.1")
		err := h.send(i == 0, ms)
		h.produce()
		if bad := q&1023 == 1023; bad != (err != nil) || bad != (h.paid(i*10, 2) == 0) {
			t.Errorf("query id %d: %v, paid %d", q, err, h.paid(i*10, 2))
		}
	}
}

// TestReplayAndExpiry: what the contract refuses, and what its get method forgets.
func TestReplayAndExpiry(t *testing.T) {
	t.Parallel()
	h := setup(t).highload(600, "100")
	ok := func(name string, e *tlb.ExternalMessage, want bool) {
		t.Helper()
		if err := h.api().SendExternalMessage(t.Context(), e); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	batch := func(q uint32, age int64, n, base int) *tlb.ExternalMessage {
		h.qid, h.at = q, h.clock.now().Unix()-age
		ms, _ := h.batch(n, base, "1")
		return h.sign(q == 1, ms)
	}
	first := batch(1, 10, 3, 0)
	ok("first", first, true)
	ok("again before the block: the mempool drops it", first, true)
	h.produce()
	if !h.processed(1) || h.processed(2) {
		t.Error("processed?")
	}
	ok("same bytes after the block", first, false)
	ok("query id used for another batch", batch(1, 10, 3, 100), false)
	ok("created 30 s ahead", batch(2, -30, 1, 200), false)
	ok("created before the timeout", batch(3, 601, 1, 200), false)
	ok("accepted into the mempool", batch(4, 5, 1, 300), true)
	h.clock.advance(700 * time.Second) // it expires before a block is made
	h.produce()
	if h.nano(someone(300)) != 0 || h.Stats().Dropped != 1 || h.processed(4) {
		t.Errorf("an expired message was executed: %+v", h.Stats())
	}
	ok("again under a new query id", batch(5, 5, 1, 300), true)
	h.produce()
	if got := h.nano(someone(300)); got != 1_000_000_000 {
		t.Errorf("paid %d", got)
	}
	if !h.processed(1) {
		t.Error("processed?(1) after 700 s")
	}
	h.clock.advance(1300 * time.Second)
	h.produce()
	if h.processed(1) {
		t.Error("processed?(1) is remembered after 2000 s; history is the only truth")
	}
	ok("query id used again after twice the timeout", batch(1, 5, 1, 400), true)
	other, err := wallet.FromPrivateKey(h.api(), key(7), wallet.ConfigHighloadV3{
		MessageTTL:     601,
		MessageBuilder: func(context.Context, uint32) (uint32, int64, error) { return 9, h.clock.now().Unix() - 5, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ms, _ := h.batch(1, 500, "1")
	e, err := other.PrepareExternalMessageForMany(t.Context(), false, ms)
	if err != nil {
		t.Fatal(err)
	}
	e.DstAddr = h.w.WalletAddress()
	ok("another timeout", e, false)
}

// toSelf packs transfers by hand into the wallet's message to itself.
func (h *highload) toSelf(value string, out []*wallet.Message) *wallet.Message {
	h.t.Helper()
	list := cell.BeginCell().EndCell()
	for _, m := range out {
		c, err := tlb.ToCell(m.InternalMessage)
		if err != nil {
			h.t.Fatal(err)
		}
		list = cell.BeginCell().MustStoreRef(list).MustStoreUInt(0x0ec3c86d, 32).MustStoreUInt(3, 8).MustStoreRef(c).EndCell()
	}
	return &wallet.Message{Mode: 3, InternalMessage: &tlb.InternalMessage{
		IHRDisabled: true, DstAddr: h.w.WalletAddress(), Amount: tlb.MustFromTON(value),
		Body: cell.BeginCell().MustStoreUInt(0xae42e5a4, 32).MustStoreUInt(uint64(h.qid), 64).MustStoreRef(list).EndCell(),
	}}
}

// step sends, makes a block, and checks the wallet's last action phase; "processed?" says yes whatever happened.
func (h *highload) step(name string, ms []*wallet.Message, code int32, skipped uint16) {
	h.t.Helper()
	h.qid++
	before := len(h.history(h.w.WalletAddress()))
	h.mustSend(before < 2, ms)
	h.produce()
	if !h.processed(h.qid) {
		h.t.Error(name, "not processed")
	}
	txs := h.history(h.w.WalletAddress())[before:]
	last := action(txs[min(2, len(txs))-1]) // of the second transaction where there is one
	if last.ResultCode != code || last.SkippedActions != skipped {
		h.t.Errorf("%s: code %d, %d skipped, want %d, %d", name, last.ResultCode, last.SkippedActions, code, skipped)
	}
}

// TestFailures: every way in which a batch is used up without paying all of it.
func TestFailures(t *testing.T) {
	t.Parallel()
	h := setup(t).highload(600, "5")
	has := func(i int, want int64) {
		t.Helper()
		if got := h.nano(someone(i)); got != want {
			t.Errorf("receiver %d has %d, want %d", i, got, want)
		}
	}
	ms, _ := h.batch(10, 0, "1")
	h.step("more than the balance", ms, 0, 1)
	if h.paid(0, 10) != 0 {
		t.Error("paid")
	}
	ms, _ = h.batch(2, 20, "0.5")
	h.step("fine", ms, 0, 0)
	has(20, 500_000_000)
	h.step("bounceable to no contract", []*wallet.Message{h.message(someone(40), "0.5", true), h.message(someone(41), "0.5", false)}, 0, 0)
	has(40, 0) // comes back
	has(41, 500_000_000)
	nowhere := address.NewAddress(0, 5, someone(50).Data())
	h.step("unknown workchain, mode 3", []*wallet.Message{h.message(nowhere, "0.1", false), h.message(someone(51), "0.1", false)}, 0, 1)
	has(51, 100_000_000)
	bad := h.message(nowhere, "0.1", false)
	bad.Mode = 1
	h.step("unknown workchain, mode 1: one bad action stops all", []*wallet.Message{bad, h.message(someone(52), "0.1", false)}, 36, 0)
	has(52, 0)
	h.step("single transfer above the balance", []*wallet.Message{h.message(someone(70), "100", false)}, 0, 1)
	for _, x := range []struct {
		n    int
		code int32
	}{{254, 0}, {255, 33}} {
		h.faucet(h.w.WalletAddress(), "20")
		h.qid++
		ms, _ := h.batch(x.n, 1000*x.n, "0.01")
		h.qid--
		h.step(fmt.Sprintf("%d actions", x.n), []*wallet.Message{h.toSelf("10", ms)}, x.code, 0)
		if (h.paid(1000*x.n, x.n) == x.n) != (x.code == 0) {
			t.Error(x.n, "actions: paid", h.paid(1000*x.n, x.n))
		}
	}
}

// TestPrefixPaid: the message to itself goes out, the money runs out in the second transaction: a prefix is paid.
func TestPrefixPaid(t *testing.T) {
	t.Parallel()
	h := setup(t).highload(600, "5")
	ms, _ := h.batch(10, 0, "1")
	h.mustSend(true, []*wallet.Message{h.toSelf("0.1", ms)})
	h.produce()
	txs := h.history(h.w.WalletAddress())
	act := action(txs[len(txs)-1])
	if h.paid(0, 4) != 4 || h.paid(4, 6) != 0 || !act.Success || act.SkippedActions != 6 || !h.processed(1) {
		t.Errorf("paid %d, skipped %d, success %v", h.paid(0, 10), act.SkippedActions, act.Success)
	}
}

// TestTwoPhases: with delivery in the next block there are three moments: nothing, accepted but not paid, paid.
func TestTwoPhases(t *testing.T) {
	t.Parallel()
	h := setup(t, twoPhase).highload(600, "50")
	ms, _ := h.batch(10, 0, "1")
	h.mustSend(true, ms)
	for i, want := range []struct{ txs, paid int }{{2, 0}, {3, 0}, {3, 10}} {
		h.produce()
		if txs, paid := len(h.history(h.w.WalletAddress())), h.paid(0, 10); txs != want.txs || paid != want.paid {
			t.Errorf("block %d: %d transactions, %d paid, want %+v", i, txs, paid, want)
		}
	}
	if !h.processed(1) {
		t.Error("not processed")
	}
}
