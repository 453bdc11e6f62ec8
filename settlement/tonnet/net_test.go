package tonnet

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/ton/wallet"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if runCrashChild() {
		return
	}
	goleak.VerifyTestMain(m)
}

// start is the chain time at which tests begin.
var start = time.Unix(1_800_000_000, 0)

// clock is a chain clock that a test owns.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// bundle is a network with what tests need of it.
type bundle struct {
	*Net
	t     testing.TB
	clock *clock
	srv   *Server
}

// setup opens a network in memory, on a clock of the test's, delivering within the block.
func setup(t testing.TB, change ...func(*Config)) *bundle {
	t.Helper()
	ck := &clock{t: start}
	cfg := Config{Now: ck.now, Seed: []byte(t.Name()), SameBlock: true}
	for _, f := range change {
		f(&cfg)
	}
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bundle{Net: n, t: t, clock: ck, srv: n.NewServer()}
}

// today stops the chain's clock at the machine's time, which ordinary wallets date their messages by.
func today(c *Config) {
	now := time.Now()
	c.Now = func() time.Time { return now }
}

// quick makes blocks 10 ms after they are needed, on the machine's clock.
func quick(c *Config) { c.Now, c.BlockTime = time.Now, 10*time.Millisecond }

// twoPhase delivers messages in the next block.
func twoPhase(c *Config) { c.SameBlock = false }

// api is a fresh client in process: a client keeps the newest block for a second.
func (b *bundle) api() *tonapi.APIClient {
	api := tonapi.NewAPIClient(b.srv, tonapi.ProofCheckPolicySecure)
	api.SetTrustedBlock(b.Genesis())
	return api
}

// adnl gives a maker of clients that connect over TCP, by the global config.
func (b *bundle) adnl(policy tonapi.ProofCheckPolicy) func() *tonapi.APIClient {
	b.t.Helper()
	if err := b.srv.Listen("127.0.0.1:0"); err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(b.t.TempDir(), "global.config.json")
	if err := b.WriteGlobalConfig(path, b.srv, b.NewServer()); err != nil { // the second does not listen
		b.t.Fatal(err)
	}
	cfg, err := liteclient.GetConfigFromFile(path)
	if err != nil || len(cfg.Liteservers) != 1 {
		b.t.Fatal(cfg, err)
	}
	pool := liteclient.NewConnectionPool()
	if err := pool.AddConnectionsFromConfig(b.t.Context(), cfg); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		pool.Stop()
		if err := b.srv.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return func() *tonapi.APIClient {
		api := tonapi.NewAPIClient(pool, policy)
		api.SetTrustedBlockFromConfig(cfg)
		return api
	}
}

// run makes blocks as they are needed until the test ends.
func (b *bundle) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	})
}

func (b *bundle) faucet(to *address.Address, ton string) {
	b.t.Helper()
	if err := b.Faucet(to, tlb.MustFromTON(ton)); err != nil {
		b.t.Fatal(err)
	}
	b.produce()
}

func (b *bundle) produce() Block {
	b.t.Helper()
	blk, err := b.Produce()
	if err != nil {
		b.t.Fatal(err)
	}
	return blk
}

// nano is an account's balance.
func (b *bundle) nano(a *address.Address) int64 {
	b.t.Helper()
	c, err := b.Balance(a)
	if err != nil {
		b.t.Fatal(err)
	}
	return c.Nano().Int64()
}

// key is the i-th key of the tests.
func key(i int) ed25519.PrivateKey {
	sum := sha256.Sum256(fmt.Appendf(nil, "key %d", i))
	return ed25519.NewKeyFromSeed(sum[:])
}

// someone is the i-th receiver of the tests, an account without code.
func someone(i int) *address.Address {
	d := make([]byte, 32)
	big.NewInt(int64(i + 1)).FillBytes(d)
	d[0] = 0xAA
	return address.NewAddress(0, 0, d)
}

// highload is a highload v3 wallet whose query id and creation time the test sets.
type highload struct {
	*bundle
	w   *wallet.Wallet
	qid uint32
	at  int64
}

func (b *bundle) highload(timeout uint32, fund string) *highload {
	b.t.Helper()
	h := &highload{bundle: b, qid: 1, at: b.clock.now().Unix() - 10}
	w, err := wallet.FromPrivateKey(b.api(), key(7), wallet.ConfigHighloadV3{
		MessageTTL:     timeout,
		MessageBuilder: func(context.Context, uint32) (uint32, int64, error) { return h.qid, h.at, nil },
	})
	if err != nil {
		b.t.Fatal(err)
	}
	h.w = w
	b.faucet(w.WalletAddress(), fund)
	return h
}

func (h *highload) message(to *address.Address, ton string, bounce bool) *wallet.Message {
	m, err := h.w.BuildTransfer(to, tlb.MustFromTON(ton), bounce, fmt.Sprintf("settle:%d", h.qid))
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

// batch is n transfers to receivers from base on.
func (h *highload) batch(n, base int, ton string) (out []*wallet.Message, total int64) {
	for i := range n {
		m := h.message(someone(base+i), ton, false)
		out = append(out, m)
		total += m.InternalMessage.Amount.Nano().Int64()
	}
	return out, total
}

// sign builds the external message.
func (h *highload) sign(deploy bool, ms []*wallet.Message) *tlb.ExternalMessage {
	h.t.Helper()
	e, err := h.w.PrepareExternalMessageForMany(h.t.Context(), deploy, ms)
	if err != nil {
		h.t.Fatal(err)
	}
	return e
}

// send signs and sends.
func (h *highload) send(deploy bool, ms []*wallet.Message) error {
	h.t.Helper()
	return h.api().SendExternalMessage(h.t.Context(), h.sign(deploy, ms))
}

// mustSend is send that has to succeed.
func (h *highload) mustSend(deploy bool, ms []*wallet.Message) {
	h.t.Helper()
	if err := h.send(deploy, ms); err != nil {
		h.t.Fatal(err)
	}
}

// paid counts the receivers from base on that have money.
func (b *bundle) paid(base, n int) (k int) {
	for i := range n {
		if b.nano(someone(base+i)) > 0 {
			k++
		}
	}
	return k
}

// processed asks the wallet's get method.
func (h *highload) processed(qid uint32) bool {
	h.t.Helper()
	r, err := h.api().RunGetMethod(h.t.Context(), h.Last(), h.w.WalletAddress(), "processed?", big.NewInt(int64(qid)), big.NewInt(-1))
	if err != nil {
		h.t.Fatal(err)
	}
	return r.MustInt(0).Sign() != 0
}

// history is an account's transactions.
func (b *bundle) history(a *address.Address) []*tlb.Transaction {
	b.t.Helper()
	txs, err := b.History(a)
	if err != nil {
		b.t.Fatal(err)
	}
	return txs
}

// action is a transaction's action phase.
func action(tx *tlb.Transaction) *tlb.ActionPhase {
	if d, ok := tx.Description.(tlb.TransactionDescriptionOrdinary); ok {
		return d.ActionPhase
	}
	return nil
}
