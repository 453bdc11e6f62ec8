package chaintest

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
	"github.com/cocoon-network/cocoon/settlement/tonnet"
)

// Clock is a chain clock that a test owns.
type Clock struct {
	mu sync.Mutex
	t  time.Time
}

// NewClock starts a clock at a time.
func NewClock(t time.Time) *Clock { return &Clock{t: t} }

// Now is the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

// Advance moves the clock, also backwards.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// Start is the chain time at which devnets of tests begin.
var Start = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)

// Options say what devnet a test wants.
type Options struct {
	// ADNL makes clients connect over TCP; otherwise they are in the same process.
	ADNL bool
	// SameBlock delivers messages between accounts in the block that sent them; otherwise in the next.
	SameBlock bool
	// Servers is the number of liteservers; 0 means 1. Clients in process use the first only.
	Servers int
	// QueryTimeout is that of the clients; 0 means their default.
	QueryTimeout time.Duration
	// Dir keeps the network on disk; empty means memory.
	Dir string
}

// Devnet is a network with what tests need of it.
type Devnet struct {
	Net     *tonnet.Net
	Servers []*tonnet.Server
	Clock   *Clock
	options Options
}

var _ Backend = (*Devnet)(nil)

// New opens a devnet that is closed when the test ends. Its keys, and so its blocks, depend on the test's name only.
func New(t testing.TB, opt Options) *Devnet {
	t.Helper()
	d := &Devnet{Clock: NewClock(Start), options: opt}
	var err error
	d.Net, err = tonnet.Open(tonnet.Config{Dir: opt.Dir, Now: d.Clock.Now, Seed: []byte(t.Name()), SameBlock: opt.SameBlock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, d.Net.Close()) })
	for range max(1, opt.Servers) {
		s := d.Net.NewServer()
		if opt.ADNL {
			check(t, s.Listen("127.0.0.1:0"))
			t.Cleanup(func() { check(t, s.Close()) })
		}
		d.Servers = append(d.Servers, s)
	}
	return d
}

// check fails the test on an error.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Config is how clients join.
func (d *Devnet) Config() ton.Config {
	cfg := ton.Config{GlobalConfig: d.Net.GlobalConfig(d.Servers...), QueryTimeout: d.options.QueryTimeout}
	if !d.options.ADNL {
		cfg.Client = d.Servers[0]
	}
	return cfg
}

// Connect makes a fresh client that is closed when the test ends. Over ADNL it is connected to all servers.
func (d *Devnet) Connect(t testing.TB) *ton.Chain {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg := d.Config()
	if len(d.Servers) > 1 && d.options.ADNL {
		cfg.Client = d.pool(ctx, t) // by itself the client goes on as soon as one server answers
	}
	c, err := ton.Connect(ctx, cfg)
	for schemas.Retriable(err) && ctx.Err() == nil { // a busy machine can be slower than a short timeout
		c, err = ton.Connect(ctx, cfg)
	}
	check(t, err)
	t.Cleanup(c.Close)
	return c
}

// pool connects to every server.
func (d *Devnet) pool(ctx context.Context, t testing.TB) *liteclient.ConnectionPool {
	t.Helper()
	var global liteclient.GlobalConfig
	check(t, json.Unmarshal(d.Config().GlobalConfig, &global))
	pool := liteclient.NewConnectionPool()
	t.Cleanup(pool.Stop)
	for i, s := range global.Liteservers {
		check(t, pool.AddConnection(ctx, d.Servers[i].Addr().String(), s.ID.Key))
	}
	return pool
}

// Fund gives money to an address, in the next block.
func (d *Devnet) Fund(t testing.TB, to schemas.Owner, amount schemas.NanoTON) {
	t.Helper()
	check(t, d.Net.Faucet(parse(t, to), tlb.FromNanoTONU(uint64(amount))))
}

// Give is Fund with a comment.
func (d *Devnet) Give(t testing.TB, to schemas.Owner, amount schemas.NanoTON, comment string) {
	t.Helper()
	check(t, d.Net.Give(parse(t, to), tlb.FromNanoTONU(uint64(amount)), comment))
}

// refusal is the code of Refuser: SETCP0, DROP (the selector), SEMPTY (is the body empty?), 42 THROWIFNOT.
var refusal = []byte{0xff, 0x00, 0x30, 0xc7, 0x00, 0xf2, 0xaa}

// Refuser deploys a contract, some blocks later at most, that throws on every message with a body: what is sent to it
// with the bounce flag comes back.
func (d *Devnet) Refuser(t testing.TB, i int) schemas.Owner {
	t.Helper()
	code := cell.BeginCell().MustStoreSlice(refusal, uint(len(refusal))*8).EndCell()
	a, err := d.Net.Deploy(code, cell.BeginCell().MustStoreUInt(uint64(i), 32).EndCell(), tlb.MustFromTON("0.05"))
	check(t, err)
	return schemas.Owner(a.StringRaw())
}

// Step lets time pass and makes one block.
func (d *Devnet) Step(t testing.TB, by time.Duration) {
	t.Helper()
	d.Clock.Advance(by)
	_, err := d.Net.Produce()
	check(t, err)
}

// Drain takes money out of a treasury behind the payer's back, as an operator with the key could: it sends away all but an
// amount, under a query id of its own, past all faults. It happens in the next block.
func (d *Devnet) Drain(t testing.TB, treasury *ton.Treasury, q ton.QueryID, leave schemas.NanoTON) {
	t.Helper()
	const fee = schemas.TON / 100
	amount := d.Balance(t, treasury.Address()) - leave - fee
	if amount <= 0 {
		return
	}
	signed, err := treasury.Sign(ton.Batch{
		QueryID: q, CreatedAt: ton.CreatedAt(ton.BlockTime{Time: d.Clock.Now().Truncate(time.Second)}), Deploy: true,
		Transfers: []ton.Transfer{{To: Sink, Amount: amount, Comment: "drained"}},
	})
	check(t, err)
	var resp tl.Serializable
	check(t, d.Net.NewServer().QueryLiteserver(context.Background(), tonapi.SendMessage{Body: signed.BoC}, &resp))
	if refused, ok := resp.(tonapi.LSError); ok {
		t.Fatal("drain:", refused)
	}
}

// Sink is where Drain sends money.
const Sink schemas.Owner = "0:00000000000000000000000000000000000000000000000000000000deadbeef"

// Settle makes blocks, a second apart, until nothing is under way.
func (d *Devnet) Settle(t testing.TB) {
	t.Helper()
	d.Step(t, time.Second)
	const blocks = 8 // external, to self, to receiver, bounce, and as many again
	check(t, d.Net.ProduceAll(blocks))
}

// Balance is what an address has, from the network itself.
func (d *Devnet) Balance(t testing.TB, of schemas.Owner) schemas.NanoTON {
	t.Helper()
	c, err := d.Net.Balance(parse(t, of))
	check(t, err)
	return schemas.NanoTON(c.Nano().Int64())
}

// Received is the sum of what arrived at an address from one sender and stayed, from the network itself. Money that came
// back, or was sent back, does not count. It is what an audit of payouts compares with.
func (d *Devnet) Received(t testing.TB, at, from schemas.Owner) (sum schemas.NanoTON) {
	t.Helper()
	d.arrivals(t, at, from, func(m *tlb.InternalMessage, sentBack bool) {
		if !m.Bounced && !sentBack {
			sum += schemas.NanoTON(m.Amount.Nano().Int64())
		}
	})
	return sum
}

// Lost is what the network took of the money that one address sent to another and that came back.
func (d *Devnet) Lost(t testing.TB, at, from schemas.Owner) (sum schemas.NanoTON) {
	t.Helper()
	d.arrivals(t, at, from, func(m *tlb.InternalMessage, sentBack bool) {
		if sentBack {
			sum += schemas.NanoTON(m.Amount.Nano().Int64())
		}
	})
	d.arrivals(t, from, at, func(m *tlb.InternalMessage, _ bool) {
		if m.Bounced {
			sum -= schemas.NanoTON(m.Amount.Nano().Int64())
		}
	})
	return sum
}

// arrivals calls fn for every message from one address to another, and says whether it was sent back.
func (d *Devnet) arrivals(t testing.TB, at, from schemas.Owner, fn func(m *tlb.InternalMessage, sentBack bool)) {
	t.Helper()
	txs, err := d.Net.History(parse(t, at))
	check(t, err)
	for _, tx := range txs {
		if tx.IO.In == nil || tx.IO.In.MsgType != tlb.MsgTypeInternal {
			continue
		}
		if m := tx.IO.In.AsInternal(); m.SrcAddr.StringRaw() == string(from) {
			fn(m, sentBack(tx))
		}
	}
}

// sentBack reports whether a transaction sent the money back that it got.
func sentBack(tx *tlb.Transaction) bool {
	d, ok := tx.Description.(tlb.TransactionDescriptionOrdinary)
	if !ok || d.BouncePhase == nil {
		return false
	}
	_, ok = d.BouncePhase.Phase.(tlb.BouncePhaseOk)
	return ok
}

// parse reads an owner's address.
func parse(t testing.TB, o schemas.Owner) *address.Address {
	t.Helper()
	a, err := address.ParseRawAddr(string(o))
	check(t, err)
	return a
}
