package tonnet

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"

	"github.com/cocoon-network/cocoon/schemas"
)

// TestFaults: each fault does what it says, and no more.
func TestFaults(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 9 {
		b.produce()
	}
	last := func(f Faults) uint32 {
		t.Helper()
		b.srv.SetFaults(f)
		var resp tl.Serializable
		if err := b.srv.QueryLiteserver(t.Context(), tonapi.GetMasterchainInf{}, &resp); err != nil {
			return 0
		}
		return resp.(tonapi.MasterchainInfo).Last.SeqNo
	}
	for _, x := range []struct {
		name string
		f    Faults
		want uint32
	}{
		{"honest", Faults{}, 10},
		{"down", Faults{Down: true}, 0},
		{"lag", Faults{Lag: 3}, 7},
		{"lag behind the start", Faults{Lag: 30}, 1},
		{"freeze", Faults{Freeze: 4}, 4},
		{"freeze in the future", Faults{Freeze: 40}, 10},
		{"both", Faults{Freeze: 4, Lag: 2}, 2},
	} {
		if got := last(x.f); got != x.want {
			t.Errorf("%s: newest block %d, want %d", x.name, got, x.want)
		}
	}
	b.srv.SetFaults(Faults{Freeze: 4})
	var resp tl.Serializable
	if err := b.srv.QueryLiteserver(t.Context(), tonapi.GetBlockHeader{ID: b.Last()}, &resp); err != nil {
		t.Fatal(err)
	}
	if e, ok := resp.(tonapi.LSError); !ok || e.Code != codeNotReady {
		t.Errorf("a frozen server knows a later block: %v", resp)
	}
}

// TestHold: messages held back come later, in any order, and not twice.
func TestHold(t *testing.T) {
	t.Parallel()
	h := setup(t).highload(600, "100")
	h.srv.SetFaults(Faults{Submit: func([]byte) Fate { return Hold }})
	for i := range 3 {
		h.qid = uint32(i + 1)
		ms, _ := h.batch(1, i, "1")
		h.mustSend(true, ms)
	}
	h.produce()
	if h.srv.Held() != 3 || h.paid(0, 3) != 0 {
		t.Fatalf("held %d, paid %d", h.srv.Held(), h.paid(0, 3))
	}
	if err := h.srv.Release(1); err != nil {
		t.Fatal(err)
	}
	h.produce()
	if h.srv.Held() != 2 || h.nano(someone(1)) == 0 || h.paid(0, 3) != 1 {
		t.Errorf("held %d, paid %d", h.srv.Held(), h.paid(0, 3))
	}
	if err := h.srv.Release(2); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("released what is not held: %v", err)
	}
	h.clock.advance(time.Hour)
	if err := h.srv.Release(0); err == nil {
		t.Error("an expired message was accepted")
	}
}

// TestRun: blocks come soon when they are needed and seldom when not, in chain time.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, err := Open(Config{Seed: []byte("run")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		blocks := func(d time.Duration) int {
			before := n.Stats().Blocks
			time.Sleep(d)
			synctest.Wait()
			return n.Stats().Blocks - before
		}
		if got := blocks(time.Hour); got != 120 {
			t.Errorf("%d empty blocks in an hour, want 120", got)
		}
		if err := n.Faucet(someone(1), tlb.MustFromTON("1")); err != nil {
			t.Fatal(err)
		}
		if got := blocks(defaultBlockTime + time.Millisecond); got != 1 {
			t.Errorf("%d blocks for a gift, want 1", got)
		}
		if c, err := n.Balance(someone(1)); err != nil || c.String() != "1" {
			t.Errorf("balance %s, %v", c, err)
		}
		now, err := n.NewServer(), error(nil)
		var resp tl.Serializable
		if err = now.QueryLiteserver(t.Context(), tonapi.GetTime{}, &resp); err != nil || int64(resp.(tonapi.CurrentTime).Now) != time.Now().Unix() {
			t.Errorf("time %v, %v", resp, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if _, err := n.Produce(); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestWait: a question about a block to come is answered when it comes, or after its time.
func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, err := Open(Config{Seed: []byte("wait")})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		api := tonapi.NewAPIClient(n.NewServer(), tonapi.ProofCheckPolicySecure)
		api.SetTrustedBlock(n.Genesis())
		got := make(chan uint32, 1)
		go func() {
			id, err := api.WaitForBlock(3).GetMasterchainInfo(t.Context())
			if err != nil {
				t.Error(err)
				got <- 0
				return
			}
			got <- id.SeqNo
		}()
		for range 2 {
			synctest.Wait()
			select {
			case seqno := <-got:
				t.Fatalf("answered with block %d", seqno)
			default:
			}
			if _, err := n.Produce(); err != nil {
				t.Fatal(err)
			}
		}
		if seqno := <-got; seqno != 3 {
			t.Errorf("block %d, want 3", seqno)
		}
		began := time.Now()
		_, err = api.WaitForBlock(9).GetMasterchainInfo(t.Context())
		var late tonapi.LSError
		if !errors.As(err, &late) || late.Code != codeTimeout || time.Since(began) != 10*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// TestClock: a block is never older than the one before, whatever the clock does.
func TestClock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.clock.advance(time.Minute)
	first := b.produce()
	b.clock.advance(-time.Hour)
	if got := b.produce(); !got.Time.Equal(first.Time) || b.Now() != first.Time {
		t.Errorf("%v after %v", got.Time, first.Time)
	}
	b.clock.advance(2 * time.Hour)
	if got := b.produce(); got.Time.Sub(first.Time) != time.Hour {
		t.Errorf("%v after %v", got.Time, first.Time)
	}
}
