package tonnet

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// TestWallets: the stock client with stock wallets, in process and over ADNL, under the lax and the strict policy: deploy,
// pay, wait, and read back in every way that the client has.
func TestWallets(t *testing.T) {
	t.Parallel()
	versions := map[string]wallet.VersionConfig{
		"v3r2": wallet.V3R2, "v4r2": wallet.V4R2, "v5r1": wallet.ConfigV5R1Final{NetworkGlobalID: GlobalID},
		"highload v3": wallet.ConfigHighloadV3{MessageTTL: 3600, MessageBuilder: func(context.Context, uint32) (uint32, int64, error) {
			return 77, time.Now().Unix() - 20, nil
		}},
	}
	for _, policy := range []tonapi.ProofCheckPolicy{tonapi.ProofCheckPolicyUnsafe, tonapi.ProofCheckPolicySecure} {
		b := setup(t, quick, func(c *Config) { c.Seed = fmt.Append(nil, t.Name(), policy) })
		adnl := b.adnl(policy)
		b.run()
		inProcess := func() *tonapi.APIClient {
			api := tonapi.NewAPIClient(b.srv, policy)
			api.SetTrustedBlock(b.Genesis())
			return api
		}
		for seam, api := range map[string]func() *tonapi.APIClient{"in process": inProcess, "ADNL": adnl} {
			for name, version := range versions {
				t.Run(fmt.Sprintf("policy %d/%s/%s", policy, seam, name), func(t *testing.T) {
					t.Parallel()
					sum := sha256.Sum256([]byte(t.Name()))
					exercise(t, b, api, version, int(sum[0])<<8|int(sum[1]))
				})
			}
		}
	}
}

// exercise pays four receivers from a new wallet and reads everything back.
func exercise(t *testing.T, b *bundle, api func() *tonapi.APIClient, version wallet.VersionConfig, n int) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w, err := wallet.FromPrivateKey(api(), key(n), version)
	if err != nil {
		t.Fatal(err)
	}
	if err = b.Faucet(w.WalletAddress(), tlb.MustFromTON("10")); err != nil {
		t.Fatal(err)
	}
	awaitBalance(t, b, w.WalletAddress(), 10_000_000_000)
	base := 1_000_000 + 10*n
	var ms []*wallet.Message
	for i := range 4 {
		m, err := w.BuildTransfer(someone(base+i), tlb.MustFromTON(fmt.Sprintf("0.%d", i+1)), false, "batch-1")
		if err != nil {
			t.Fatal(err)
		}
		ms = append(ms, m)
	}
	if _, _, err = w.SendManyWaitTransaction(ctx, ms); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		awaitBalance(t, b, someone(base+i), int64(i+1)*100_000_000)
	}
	readBack(ctx, t, api(), w, someone(base))
}

// awaitBalance waits until an account has an amount.
func awaitBalance(t *testing.T, b *bundle, a *address.Address, want int64) {
	t.Helper()
	for {
		b.mu.Lock()
		grown := b.grown
		b.mu.Unlock()
		c, err := b.Balance(a)
		if err != nil {
			t.Fatal(err)
		}
		if c.Nano().Int64() == want {
			return
		}
		select {
		case <-grown:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s has %s, want %d", a, c, want)
		}
	}
}

// readBack reads a payment in every way that the client has.
func readBack(ctx context.Context, t *testing.T, api *tonapi.APIClient, w *wallet.Wallet, to *address.Address) {
	t.Helper()
	mc, err := api.CurrentMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	acc, err := api.WaitForBlock(mc.SeqNo).GetAccount(ctx, mc, to)
	if err != nil {
		t.Fatal(err)
	}
	list, err := api.ListTransactions(ctx, to, 10, acc.LastTxLT, acc.LastTxHash)
	if err != nil || len(list) != 1 || list[0].IO.In.AsInternal().Comment() != "batch-1" {
		t.Fatalf("transactions: %v, %v", list, err)
	}
	shards, err := api.GetBlockShardsInfo(ctx, mc)
	if err != nil || len(shards) != 1 {
		t.Fatalf("shards: %v, %v", shards, err)
	}
	id, err := api.LookupBlock(ctx, basechain, shards[0].Shard, shards[0].SeqNo)
	if err != nil || !id.Equals(shards[0]) {
		t.Fatalf("lookup: %v, %v", id, err)
	}
	if _, err = api.GetBlockchainConfig(ctx, mc, 20, 21, 34); err != nil {
		t.Fatalf("config: %v", err)
	}
	var found tl.Serializable
	q := tonapi.LookupBlock{Mode: lookupByLT, ID: &tonapi.BlockInfoShort{Workchain: basechain, Shard: wholeShard}, LT: acc.LastTxLT}
	if err = api.Client().QueryLiteserver(ctx, q, &found); err != nil {
		t.Fatal(err)
	}
	header, ok := found.(tonapi.BlockHeader)
	if !ok {
		t.Fatalf("lookup by logical time: %v", found)
	}
	readBlock(ctx, t, api, header.ID, to, acc.LastTxLT)
	last, err := api.FindLastTransactionByInMsgHashAfterTime(ctx, to, inMsgHash(t, list[0]), time.Now().Add(-time.Minute))
	if err != nil || last.LT != acc.LastTxLT {
		t.Errorf("find by message: %v, %v", last, err)
	}
	if balance, err := w.GetBalance(ctx, mc); err != nil || balance.Nano().Sign() <= 0 {
		t.Errorf("wallet's balance: %v, %v", balance, err)
	}
}

// inMsgHash is the hash of the message that caused a transaction.
func inMsgHash(t *testing.T, tx *tlb.Transaction) []byte {
	t.Helper()
	c, err := tlb.ToCell(tx.IO.In.Msg)
	if err != nil {
		t.Fatal(err)
	}
	return c.Hash()
}

// readBlock reads a block and one transaction in it.
func readBlock(ctx context.Context, t *testing.T, api *tonapi.APIClient, id *tonapi.BlockIDExt, a *address.Address, lt uint64) {
	t.Helper()
	infos, more, err := api.GetBlockTransactionsV2(ctx, id, 100)
	if err != nil || more || len(infos) < 2 {
		t.Fatalf("block's transactions: %d, %v, %v", len(infos), more, err)
	}
	first, more, err := api.GetBlockTransactionsV2(ctx, id, 1)
	if err != nil || !more || len(first) != 1 {
		t.Fatalf("first of block's transactions: %d, %v, %v", len(first), more, err)
	}
	rest, more, err := api.GetBlockTransactionsV2(ctx, id, 100, first[0].ID3())
	if err != nil || more || len(rest) != len(infos)-1 {
		t.Fatalf("rest of block's transactions: %d, %v, %v", len(rest), more, err)
	}
	tx, err := api.GetTransaction(ctx, id, a, lt)
	if err != nil || tx.LT != lt {
		t.Fatalf("transaction: %v, %v", tx, err)
	}
	if _, err = api.GetTransaction(ctx, id, a, lt+1); err == nil {
		t.Error("a transaction that does not exist")
	}
	if h, err := api.GetBlockHeader(ctx, id); err != nil || h.SeqNo != id.SeqNo {
		t.Fatalf("header: %v, %v", h, err)
	}
	blk, err := api.GetBlockData(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if txs, err := blk.ListTransactions(); err != nil || len(txs) != len(infos) {
		t.Fatalf("the block, parsed strictly, has %d transactions, listed were %d: %v", len(txs), len(infos), err)
	}
}

// TestSubscription: the stock subscription delivers every deposit with its memo, oldest first.
func TestSubscription(t *testing.T) {
	t.Parallel()
	b := setup(t, twoPhase)
	to := someone(1)
	for i := range 5 {
		if err := b.Give(to, tlb.MustFromTON("1.5"), fmt.Sprintf("client:%d", i)); err != nil {
			t.Fatal(err)
		}
		b.produce()
	}
	ctx, cancel := context.WithCancel(t.Context())
	ch := make(chan *tlb.Transaction)
	done := make(chan struct{})
	go func() { defer close(done); b.api().SubscribeOnTransactions(ctx, to, 0, ch) }()
	prev := uint64(0)
	for i := range 5 {
		tx := <-ch
		if tx == nil || tx.PrevTxLT != prev {
			t.Fatal("gap")
		}
		prev = tx.LT
		if m := tx.IO.In.AsInternal(); m.Comment() != fmt.Sprintf("client:%d", i) || m.Amount.String() != "1.5" {
			t.Error(m.Comment(), m.Amount)
		}
	}
	cancel()
	<-done
}

// TestPolicies: what each proof policy of the stock client believes. The fast one takes a wholly forged chain.
func TestPolicies(t *testing.T) {
	t.Parallel()
	const unsafe, fast, secure = tonapi.ProofCheckPolicyUnsafe, tonapi.ProofCheckPolicyFast, tonapi.ProofCheckPolicySecure
	b := setup(t)
	b.faucet(someone(1), "1000")
	evil := setup(t, func(c *Config) { c.Seed = []byte("evil") })
	evil.faucet(someone(1), "999999")
	evil.produce()
	for _, x := range []struct {
		name   string
		faults Faults
		policy tonapi.ProofCheckPolicy
		want   string // balance, empty: refused
	}{
		{"honest", Faults{}, unsafe, "1000"},
		{"honest", Faults{}, fast, "1000"},
		{"honest", Faults{}, secure, "1000"},
		{"state replaced", Faults{Answer: ReplaceStates(tlb.MustFromTON("5"))}, unsafe, ""},
		{"state replaced", Faults{Answer: ReplaceStates(tlb.MustFromTON("5"))}, fast, ""},
		{"state replaced", Faults{Answer: ReplaceStates(tlb.MustFromTON("5"))}, secure, ""},
		{"signature flipped", Faults{Answer: FlipSignatures}, unsafe, "1000"},
		{"signature flipped", Faults{Answer: FlipSignatures}, fast, "1000"},
		{"signature flipped", Faults{Answer: FlipSignatures}, secure, ""},
		{"forged chain", Faults{Impostor: evil.Net}, fast, "999999"},
		{"forged chain", Faults{Impostor: evil.Net}, secure, ""},
		{"hidden account", Faults{Hide: func(tonapi.AccountID) bool { return true }}, secure, "0"}, // the library believes it
	} {
		s := b.NewServer()
		s.SetFaults(x.faults)
		api := tonapi.NewAPIClient(s, x.policy)
		api.SetTrustedBlock(b.Genesis())
		got := ""
		mc, err := api.GetMasterchainInfo(t.Context())
		if err == nil {
			var a *tlb.Account
			if a, err = api.GetAccount(t.Context(), mc, someone(1)); err == nil {
				got = "0"
				if a.IsActive {
					got = a.State.Balance.String()
				}
			}
		}
		if got != x.want {
			t.Errorf("%s, policy %d: %q, want %q (%v)", x.name, x.policy, got, x.want, err)
		}
	}
}

// TestProofChain: from any block a strict client gets to any other, forwards and backwards.
func TestProofChain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := []*tonapi.BlockIDExt{b.Genesis()}
	for i := range 20 {
		if i%7 == 3 {
			b.faucet(someone(i), "1")
		}
		b.produce()
		ids = append(ids, b.Last())
	}
	api := b.api()
	for _, from := range ids {
		for _, to := range ids {
			if err := api.VerifyProofChain(t.Context(), from, to); err != nil {
				t.Fatalf("from %d to %d: %v", from.SeqNo, to.SeqNo, err)
			}
		}
	}
	wrong := ids[5].Copy()
	wrong.RootHash[0] ^= 1
	for _, from := range []*tonapi.BlockIDExt{ids[0], ids[9]} {
		if err := api.VerifyProofChain(t.Context(), from, wrong); err == nil {
			t.Error("a block that does not exist was proven")
		}
	}
}

// TestMasterchainAccounts: accounts of the masterchain live, at its prices.
func TestMasterchainAccounts(t *testing.T) {
	t.Parallel()
	h := setup(t, twoPhase).highload(600, "100")
	there := address.NewAddress(0, 0xFF, someone(1).Data())
	h.mustSend(true, []*wallet.Message{h.message(there, "5", false), h.message(someone(2), "5", false)})
	for range 3 {
		h.produce()
	}
	if a, b := h.nano(there), h.nano(someone(2)); a != 5_000_000_000 || b != 5_000_000_000 {
		t.Errorf("received %d and %d", a, b)
	}
	acc, err := h.api().GetAccount(t.Context(), h.Last(), there)
	if err != nil || acc.State.Balance.String() != "5" {
		t.Errorf("%v, %v", acc, err)
	}
	if txs := h.history(there); len(txs) != 1 {
		t.Errorf("%d transactions", len(txs))
	}
	list, err := h.api().ListTransactions(t.Context(), there, 10, acc.LastTxLT, acc.LastTxHash)
	if err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestExternalLimits: what a node refuses before any contract is asked.
func TestExternalLimits(t *testing.T) {
	t.Parallel()
	h := setup(t).highload(600, "1000")
	send := func(boc []byte) string {
		var resp tl.Serializable
		if err := h.srv.QueryLiteserver(t.Context(), tonapi.SendMessage{Body: boc}, &resp); err != nil {
			t.Fatal(err)
		}
		if e, ok := resp.(tonapi.LSError); ok {
			return e.Text
		}
		return ""
	}
	ms, _ := h.batch(840, 0, "0.05")
	c, err := tlb.ToCell(h.sign(true, ms))
	if err != nil {
		t.Fatal(err)
	}
	big := c.ToBOC()
	if len(big) <= MaxExternal || !strings.Contains(send(big), "at most 65535") {
		t.Errorf("message of %d bytes: %q", len(big), send(big))
	}
	deep := cell.BeginCell().EndCell()
	for range MaxExternalDepth + 1 {
		deep = cell.BeginCell().MustStoreRef(deep).EndCell()
	}
	if got := send(deep.ToBOC()); !strings.Contains(got, "deep") {
		t.Errorf("deep message: %q", got)
	}
	for name, body := range map[string][]byte{"nothing": nil, "no bag of cells": []byte("hello"), "not a message": cell.BeginCell().EndCell().ToBOC()} {
		if send(body) == "" {
			t.Errorf("%s was accepted", name)
		}
	}
	h.qid = 1023
	ms, _ = h.batch(1, 0, "1")
	err = h.send(true, ms)
	var refused tonapi.LSError
	if !errors.As(err, &refused) || refused.Code != codeNotAccepted || !strings.Contains(refused.Text, "exitcode=") {
		t.Errorf("refusal without the exit code: %v", err)
	}
}
