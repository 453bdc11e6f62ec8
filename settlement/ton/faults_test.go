package ton_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/chaintest"
	"github.com/cocoon-network/cocoon/settlement/ton"
	"github.com/cocoon-network/cocoon/settlement/tonnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// key is the i-th key of the tests.
func key(i int) ed25519.PrivateKey {
	sum := sha256.Sum256(fmt.Appendf(nil, "ton %d", i))
	return ed25519.NewKeyFromSeed(sum[:])
}

// owner is the i-th receiver of the tests.
func owner(i int) schemas.Owner {
	return schemas.Owner(fmt.Sprintf("0:%x", sha256.Sum256(fmt.Appendf(nil, "owner %d", i))))
}

// bundle is a devnet with a client and a funded wallet.
type bundle struct {
	*chaintest.Devnet
	t        *testing.T
	chain    *ton.Chain
	treasury *ton.Treasury
}

func setup(t *testing.T, opt chaintest.Options) *bundle {
	t.Helper()
	t.Parallel()
	d := chaintest.New(t, opt)
	b := &bundle{Devnet: d, t: t, chain: d.Connect(t)}
	var err error
	if b.treasury, err = b.chain.Treasury(key(0), ton.TreasuryOptions{Timeout: 10 * time.Minute}); err != nil {
		t.Fatal(err)
	}
	d.Fund(t, b.treasury.Address(), 100*schemas.TON)
	d.Settle(t)
	return b
}

// batch is two transfers, dated now and signed.
func (b *bundle) batch(q ton.QueryID) (ton.Batch, ton.Signed) {
	b.t.Helper()
	now, err := b.chain.Now(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	batch := ton.Batch{QueryID: q, CreatedAt: ton.CreatedAt(now), Deploy: true, Transfers: []ton.Transfer{
		{To: owner(int(q) * 2), Amount: schemas.TON}, {To: owner(int(q)*2 + 1), Amount: 2 * schemas.TON},
	}}
	signed, err := b.treasury.Sign(batch)
	if err != nil {
		b.t.Fatal(err)
	}
	return batch, signed
}

// received is what arrived at the batch's receivers, straight from the network.
func (b *bundle) received(batch ton.Batch) (sum schemas.NanoTON) {
	for _, x := range batch.Transfers {
		sum += b.Received(b.t, x.To, b.treasury.Address())
	}
	return sum
}

// accepted counts the Accepted events of a batch.
func (b *bundle) accepted(signed ton.Signed) (n int) {
	b.t.Helper()
	page, err := b.treasury.History(b.t.Context(), ton.Cursor{}, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range page.Events {
		if e, ok := e.(ton.Accepted); ok && e.Body == signed.Body {
			n++
		}
	}
	return n
}

// TestFates sends one batch through every way in which a message can get lost on its way there or the answer on its way
// back, and then again honestly: it pays exactly once each time.
func TestFates(t *testing.T) {
	for fate, x := range map[tonnet.Fate]struct {
		name   string
		fails  bool // Send returns an error
		passed bool // the message went through all the same
	}{
		tonnet.Deliver: {"deliver", false, true}, tonnet.Lose: {"lost", false, false}, tonnet.DeliverButFail: {"done but error", true, true},
		tonnet.Fail: {"error", true, false}, tonnet.Hold: {"held back", false, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := setup(t, chaintest.Options{ADNL: true})
			batch, signed := b.batch(1)
			b.Servers[0].SetFaults(tonnet.Faults{Submit: func([]byte) tonnet.Fate { return fate }})
			if err := b.treasury.Send(t.Context(), signed.BoC); (err != nil) != x.fails {
				t.Errorf("send: %v", err)
			}
			b.Settle(t)
			if got := b.accepted(signed); (got == 1) != x.passed {
				t.Errorf("accepted %d times", got)
			}
			b.Servers[0].SetFaults(tonnet.Faults{})
			_ = b.treasury.Send(t.Context(), signed.BoC)
			b.Settle(t)
			if fate == tonnet.Hold { // and the held message arrives late
				if err := b.Servers[0].Release(0); err == nil {
					t.Error("the network took the same message twice")
				}
				b.Settle(t)
			}
			if got := b.accepted(signed); got != 1 {
				t.Errorf("accepted %d times", got)
			}
			if got := b.received(batch); got != 3*schemas.TON {
				t.Errorf("received %s", got)
			}
		})
	}
}

// TestLateMessage holds a batch back until it has expired and a new one was sent in its place.
func TestLateMessage(t *testing.T) {
	b := setup(t, chaintest.Options{})
	first, signed := b.batch(1)
	b.Servers[0].SetFaults(tonnet.Faults{Submit: func([]byte) tonnet.Fate { return tonnet.Hold }})
	if err := b.treasury.Send(t.Context(), signed.BoC); err != nil {
		t.Fatal(err)
	}
	b.Servers[0].SetFaults(tonnet.Faults{})
	b.Step(t, b.treasury.Timeout()-31*time.Second)
	page, err := b.treasury.History(t.Context(), ton.Cursor{}, 0)
	if err != nil || b.treasury.Expired(first.CreatedAt, page.At) {
		t.Fatalf("expired a second before its end: %v", err)
	}
	b.Step(t, 2*time.Minute)
	if page, err = b.treasury.History(t.Context(), ton.Cursor{}, 0); err != nil || !page.Complete || !b.treasury.Expired(first.CreatedAt, page.At) {
		t.Fatalf("not expired at %v: %v", page.At, err)
	}
	if err := b.Servers[0].Release(0); err == nil {
		t.Error("an expired batch was accepted")
	}
	b.Settle(t)
	if b.accepted(signed) != 0 || b.received(first) != 0 {
		t.Error("an expired batch was paid")
	}
}

// TestLies tries every lie of a liteserver on every question. None is believed, and each is told apart from silence.
func TestLies(t *testing.T) {
	for name, lie := range map[string]func(*bundle) tonnet.Faults{
		"hidden account": func(*bundle) tonnet.Faults {
			return tonnet.Faults{Hide: func(tonapi.AccountID) bool { return true }}
		},
		"state replaced":    func(*bundle) tonnet.Faults { return tonnet.Faults{Answer: tonnet.ReplaceStates(tlb.MustFromTON("5"))} },
		"signature broken":  func(*bundle) tonnet.Faults { return tonnet.Faults{Answer: tonnet.FlipSignatures} },
		"history shortened": func(*bundle) tonnet.Faults { return tonnet.Faults{Answer: tonnet.ShortenHistory} },
		"forged chain":      func(b *bundle) tonnet.Faults { return tonnet.Faults{Impostor: forge(b)} },
		"nonsense": func(*bundle) tonnet.Faults {
			return tonnet.Faults{Answer: func(_, _ tl.Serializable) tl.Serializable { return tonapi.CurrentTime{Now: 1} }}
		},
		"header of another block": func(b *bundle) tonnet.Faults { return tonnet.Faults{Answer: otherHeader(b)} },
		"block from the future":   func(b *bundle) tonnet.Faults { return tonnet.Faults{Answer: inflate(b)} },
		"header cut out":          func(b *bundle) tonnet.Faults { return tonnet.Faults{Answer: cutHeader(b)} },
		"no proof":                func(*bundle) tonnet.Faults { return tonnet.Faults{Answer: withoutProof} },
		"another account":         func(b *bundle) tonnet.Faults { return tonnet.Faults{Answer: otherAccount(b)} },
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, chaintest.Options{QueryTimeout: 5 * time.Second})
			b.Fund(t, b.treasury.Address(), schemas.TON)
			b.Settle(t)
			before, err := b.treasury.State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b.Step(t, time.Second)
			b.Servers[0].SetFaults(lie(b))
			st, stateErr := b.treasury.State(t.Context())
			page, historyErr := b.treasury.History(t.Context(), ton.Cursor{}, 0)
			newest := b.Net.Last().SeqNo
			if stateErr == nil && (st.Balance != before.Balance || st.Last != before.Last || st.At.Seqno > newest || st.At.Time.Before(before.At.Time)) {
				t.Errorf("believed %+v, want %+v", st, before)
			}
			if historyErr == nil && len(page.Events) != 2 {
				t.Errorf("believed %+v", page)
			}
			if stateErr == nil && historyErr == nil {
				t.Error("the lie went unnoticed")
			}
			for _, err := range []error{stateErr, historyErr} {
				if err != nil && (!errors.Is(err, ton.ErrUnproven) || !schemas.Retriable(err)) {
					t.Errorf("not told apart: %v", err)
				}
			}
			b.Servers[0].SetFaults(tonnet.Faults{})
			if st, err = b.treasury.State(t.Context()); err != nil || st.Balance != before.Balance {
				t.Errorf("after the lie: %+v, %v", st, err)
			}
		})
	}
}

// forge makes a chain of its own on which the treasury is rich: consistent in itself, with another validator.
func forge(b *bundle) *tonnet.Net {
	b.t.Helper()
	evil, err := tonnet.Open(tonnet.Config{Now: b.Clock.Now, Seed: []byte("evil")})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { evil.Close() })
	a, err := ton.ParseAddress(string(b.treasury.Address()))
	if err != nil {
		b.t.Fatal(err)
	}
	if err = evil.Faucet(libAddress(a), tlb.MustFromTON("999999")); err != nil {
		b.t.Fatal(err)
	}
	for range b.Net.Last().SeqNo + 5 {
		if _, err = evil.Produce(); err != nil {
			b.t.Fatal(err)
		}
	}
	return evil
}

// otherHeader answers each question for a header with the first block's.
func otherHeader(b *bundle) func(q, a tl.Serializable) tl.Serializable {
	genesis := b.Net.Genesis()
	var first tl.Serializable
	if err := b.Servers[0].QueryLiteserver(b.t.Context(), tonapi.GetBlockHeader{ID: genesis}, &first); err != nil {
		b.t.Fatal(err)
	}
	return func(_, a tl.Serializable) tl.Serializable {
		if h, ok := a.(tonapi.BlockHeader); ok {
			h.HeaderProof = first.(tonapi.BlockHeader).HeaderProof
			return h
		}
		return a
	}
}

// inflate adds to the number of the newest block, which is not part of what validators sign, and keeps the story up.
func inflate(b *bundle) func(q, a tl.Serializable) tl.Serializable {
	const more = 1000
	honest := b.Net.NewServer()
	ask := func(q, a tl.Serializable) tl.Serializable {
		var resp tl.Serializable
		if err := honest.QueryLiteserver(context.Background(), q, &resp); err != nil {
			return a
		}
		return resp
	}
	return func(q, a tl.Serializable) tl.Serializable {
		switch q := q.(type) {
		case tonapi.GetMasterchainInf:
			info := a.(tonapi.MasterchainInfo)
			info.Last = info.Last.Copy()
			info.Last.SeqNo += more
			return info
		case tonapi.GetBlockProof:
			q.TargetBlock.SeqNo -= more
			if p, ok := ask(q, a).(tonapi.PartialBlockProof); ok {
				link := p.Steps[0].(tonapi.BlockLinkForward)
				link.To.SeqNo += more
				p.Steps[0] = link
				p.To.SeqNo += more
				return p
			}
		case tonapi.GetBlockHeader:
			q.ID.SeqNo -= more
			if h, ok := ask(q, a).(tonapi.BlockHeader); ok {
				h.ID.SeqNo += more
				return h
			}
		case tonapi.GetAccountState:
			q.ID.SeqNo -= more
			if st, ok := ask(q, a).(tonapi.AccountState); ok {
				st.ID.SeqNo += more
				return st
			}
		}
		return a
	}
}

// cutHeader proves a block without its header, so that its time would be read as zero.
func cutHeader(b *bundle) func(q, a tl.Serializable) tl.Serializable {
	honest := b.Net.NewServer()
	return func(q, a tl.Serializable) tl.Serializable {
		h, ok := a.(tonapi.BlockHeader)
		if !ok {
			return a
		}
		var resp tl.Serializable
		if err := honest.QueryLiteserver(context.Background(), tonapi.GetBlockData{ID: h.ID}, &resp); err != nil {
			return a
		}
		blk, err := cell.FromBOC(resp.(tonapi.BlockData).Payload)
		if err != nil {
			return a
		}
		proof := cell.NewMerkleProofBuilder(blk)
		proof.Root().MustBeginParse()
		c, err := proof.CreateProof()
		if err != nil {
			return a
		}
		h.HeaderProof = c.ToBOC()
		return h
	}
}

// otherAccount answers each question for an account with another's state and proof.
func otherAccount(b *bundle) func(q, a tl.Serializable) tl.Serializable {
	return func(q, a tl.Serializable) tl.Serializable {
		ask, ok := q.(tonapi.GetAccountState)
		if !ok {
			return a
		}
		ask.Account.ID = make([]byte, 32)
		var other tl.Serializable
		honest := b.Net.NewServer()
		if err := honest.QueryLiteserver(context.Background(), ask, &other); err != nil {
			return a
		}
		return other
	}
}

// withoutProof leaves the proof out of account states.
func withoutProof(_, a tl.Serializable) tl.Serializable {
	if st, ok := a.(tonapi.AccountState); ok {
		st.Proof, st.ShardProof = nil, nil
		return st
	}
	return a
}

// TestAbsenceIsProven shows why the package does not use the library's GetAccount: it believes a server that cuts the
// account out of the proof.
func TestAbsenceIsProven(t *testing.T) {
	b := setup(t, chaintest.Options{})
	b.Servers[0].SetFaults(tonnet.Faults{Hide: func(tonapi.AccountID) bool { return true }})
	api := tonapi.NewAPIClient(b.Servers[0], tonapi.ProofCheckPolicySecure)
	api.SetTrustedBlock(b.Net.Genesis())
	a, err := ton.ParseAddress(string(b.treasury.Address()))
	if err != nil {
		t.Fatal(err)
	}
	acc, err := api.GetAccount(t.Context(), b.Net.Last(), libAddress(a))
	if err != nil || acc.IsActive {
		t.Fatalf("the library refuses it by now, so our own check can go: %v", err)
	}
	if _, err := b.treasury.State(t.Context()); !errors.Is(err, ton.ErrUnproven) {
		t.Errorf("hidden account: %v", err)
	}
}

// TestStale: a client never goes back, whichever server answers; a fresh one goes with what it gets, and says as of when.
func TestStale(t *testing.T) {
	b := setup(t, chaintest.Options{ADNL: true, Servers: 2})
	frozen := b.Net.Last().SeqNo
	b.Step(t, time.Minute)
	b.Step(t, time.Minute)
	newest, err := b.chain.Now(t.Context())
	if err != nil || newest.Seqno <= frozen {
		t.Fatal(newest, err)
	}
	b.Servers[0].SetFaults(tonnet.Faults{Freeze: frozen})
	for range 8 { // the client goes round its servers
		if got, err := b.chain.Now(t.Context()); err != nil || got.Seqno < newest.Seqno {
			t.Fatalf("went back to %+v, %v", got, err)
		}
	}
	b.Servers[1].SetFaults(tonnet.Faults{Lag: 2})
	if _, err := b.chain.Now(t.Context()); !errors.Is(err, ton.ErrStale) || !schemas.Retriable(err) {
		t.Errorf("all servers behind: %v", err)
	}
	fresh := b.Connect(t)
	if got, err := fresh.Now(t.Context()); err != nil || got.Seqno != frozen || !got.Time.Before(newest.Time) {
		t.Errorf("a fresh client sees %+v, %v", got, err)
	}
	again, err := ton.Connect(t.Context(), ton.Config{GlobalConfig: b.Config().GlobalConfig, Trusted: b.chain.Trusted()})
	if err == nil {
		defer again.Close()
		if got, _ := again.Now(t.Context()); got.Seqno > newest.Seqno {
			t.Errorf("from the future: %+v", got)
		}
	}
}

// TestLossyServer: a server that swallows messages does not keep them from the network if there is another, whichever of
// the two the client likes better; and a silent one does not hold it up.
func TestLossyServer(t *testing.T) {
	for name, f := range map[string]tonnet.Faults{
		"lossy":  {Submit: func([]byte) tonnet.Fate { return tonnet.Lose }},
		"fails":  {Submit: func([]byte) tonnet.Fate { return tonnet.Fail }},
		"silent": {Down: true},
	} {
		for bad := range 2 {
			t.Run(fmt.Sprintf("%s %d", name, bad), func(t *testing.T) {
				b := setup(t, chaintest.Options{ADNL: true, Servers: 2})
				_, signed := b.batch(1)
				b.Servers[bad].SetFaults(f)
				began := time.Now()
				for range 3 { // the good one refuses it when it has run; that does not make Send wait for the silent one either
					_ = b.treasury.Send(t.Context(), signed.BoC)
					b.Step(t, time.Second)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("took %v", took)
				}
				b.Servers[bad].SetFaults(tonnet.Faults{})
				if got := b.accepted(signed); got != 1 {
					t.Errorf("accepted %d times", got)
				}
			})
		}
	}
}

// patiently asks again while the answer is that it may be asked again: a busy machine can be slower than a short timeout.
func patiently(ask func() error) (err error) {
	const tries = 20
	for range tries {
		if err = ask(); !schemas.Retriable(err) {
			break
		}
	}
	return err
}

// TestFailover: one server that is silent, slow or lies does not stop a client that has another.
func TestFailover(t *testing.T) {
	for name, f := range map[string]tonnet.Faults{
		"down":  {Down: true},
		"slow":  {Delay: time.Minute},
		"liar":  {Answer: tonnet.FlipSignatures},
		"hider": {Hide: func(tonapi.AccountID) bool { return true }},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, chaintest.Options{ADNL: true, Servers: 2, QueryTimeout: 200 * time.Millisecond})
			b.Servers[0].SetFaults(f)
			for range 4 {
				b.Step(t, time.Second)
				var st ton.State
				err := patiently(func() (err error) { st, err = b.treasury.State(t.Context()); return err })
				if err != nil || st.Balance != 100*schemas.TON || st.At.Seqno != b.Net.Last().SeqNo {
					t.Fatalf("%+v, %v", st, err)
				}
			}
		})
	}
}

// TestAway: with no server left every question fails in time and says that it can be asked again.
func TestAway(t *testing.T) {
	b := setup(t, chaintest.Options{ADNL: true, QueryTimeout: 100 * time.Millisecond})
	b.Servers[0].SetFaults(tonnet.Faults{Down: true})
	_, err := b.treasury.State(t.Context())
	_, historyErr := b.treasury.History(t.Context(), ton.Cursor{}, 0)
	for _, err := range []error{err, historyErr, b.treasury.Send(t.Context(), []byte("x"))} {
		if !errors.Is(err, schemas.KindUnavailable) || errors.Is(err, ton.ErrUnproven) {
			t.Error(err)
		}
	}
	b.Servers[0].SetFaults(tonnet.Faults{})
	var st ton.State
	if err = patiently(func() (err error) { st, err = b.treasury.State(t.Context()); return err }); err != nil || st.Balance != 100*schemas.TON {
		t.Errorf("back again: %+v, %v", st, err)
	}
}

// TestPruned: history that the server no longer has is an error of its own, not an end of history.
func TestPruned(t *testing.T) {
	b := setup(t, chaintest.Options{})
	b.Servers[0].SetFaults(tonnet.Faults{Answer: func(q, a tl.Serializable) tl.Serializable {
		if _, ok := q.(tonapi.GetTransactions); ok {
			return tonapi.LSError{Code: -400, Text: "lt not in db"}
		}
		return a
	}})
	if _, err := b.treasury.History(t.Context(), ton.Cursor{}, 0); !errors.Is(err, ton.ErrPruned) || !schemas.Retriable(err) {
		t.Error(err)
	}
}

// TestConnectRefuses lists configs that no trust can start from.
func TestConnectRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]string{
		"not JSON":  "x",
		"no block":  `{"liteservers":[]}`,
		"bad block": `{"validator":{"init_block":{"workchain":-1,"shard":-9223372036854775808,"seqno":1,"root_hash":"AAAA","file_hash":"AAAA"}}}`,
		"not of the masterchain": `{"validator":{"init_block":{"workchain":0,"shard":-9223372036854775808,"seqno":1,
			"root_hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","file_hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}}`,
	} {
		_, err := ton.Connect(t.Context(), ton.Config{GlobalConfig: []byte(cfg)})
		if !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	nowhere := `{"validator":{"init_block":{"workchain":-1,"shard":-9223372036854775808,"seqno":1,
		"root_hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","file_hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}}`
	if _, err := ton.Connect(t.Context(), ton.Config{GlobalConfig: []byte(nowhere)}); !errors.Is(err, schemas.KindUnavailable) {
		t.Errorf("no servers: %v", err)
	}
}
