package ton_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/ton/wallet"
	"pgregory.net/rapid"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/chaintest"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

func TestTreasuryAddress(t *testing.T) {
	t.Parallel()
	public := key(0).Public().(ed25519.PublicKey)
	for _, opt := range []ton.TreasuryOptions{{}, {Subwallet: 1}, {Timeout: time.Minute}, {Subwallet: 7, Timeout: 24 * time.Hour}} {
		got, err := ton.TreasuryAddress(public, opt)
		if err != nil {
			t.Fatal(err)
		}
		sub, timeout := opt.Subwallet, opt.Timeout
		if sub == 0 {
			sub = ton.DefaultSubwallet
		}
		if timeout == 0 {
			timeout = time.Hour
		}
		want, err := wallet.AddressFromPubKey(public, wallet.ConfigHighloadV3{MessageTTL: uint32(timeout / time.Second)}, sub)
		if err != nil || string(got) != want.StringRaw() {
			t.Errorf("%+v: %s, want %s, %v", opt, got, want.StringRaw(), err)
		}
	}
	for name, opt := range map[string]ton.TreasuryOptions{
		"too short": {Timeout: time.Second}, "negative": {Timeout: -time.Hour},
		"too long": {Timeout: 49 * 24 * time.Hour}, "split second": {Timeout: time.Hour + 1},
	} {
		if _, err := ton.TreasuryAddress(public, opt); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ton.TreasuryAddress(public[:31], ton.TreasuryOptions{}); !errors.Is(err, schemas.KindInvalid) {
		t.Errorf("short key: %v", err)
	}
}

// TestQueryIDs walks through all query ids: each is valid, none comes twice, and there are as many as there can be.
func TestQueryIDs(t *testing.T) {
	t.Parallel()
	const all = 1<<23 - 1<<13
	n, q := 0, ton.QueryID(0)
	for {
		if !q.Valid() {
			t.Fatalf("%d is not valid", q)
		}
		next := q.Next()
		n++
		if next == 0 {
			break
		}
		if next <= q {
			t.Fatalf("%d after %d", next, q)
		}
		q = next
	}
	if n != all {
		t.Errorf("%d ids, want %d", n, all)
	}
	for _, q := range []ton.QueryID{1023, 2047, 1<<23 - 1, 1 << 23} {
		if q.Valid() {
			t.Errorf("%d is valid", q)
		}
	}
}

// TestCost: the balance that Cost asks for is enough for every batch, deployed or not, with the longest comments and a
// note; and it is not much more than the batch costs.
func TestCost(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 10, 50, 150, 250} {
		for _, comment := range []string{"", strings.Repeat("x", ton.MaxComment)} {
			for _, note := range [][]byte{nil, make([]byte, ton.MaxNote)} {
				t.Run(fmt.Sprintf("%d transfers, %d bytes, note of %d", n, len(comment), len(note)), func(t *testing.T) {
					t.Parallel()
					costs(t, n, comment, note)
				})
			}
		}
	}
}

// costs pays a batch out of a wallet that has exactly its cost, twice: with and without deploying it.
func costs(t *testing.T, n int, comment string, note []byte) {
	d := chaintest.New(t, chaintest.Options{SameBlock: true})
	treasury, err := d.Connect(t).Treasury(key(0), ton.TreasuryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for round, q := range []ton.QueryID{1, 2} {
		b := ton.Batch{QueryID: q, CreatedAt: chaintest.Start.Add(-time.Minute), Deploy: round == 0, Note: note}
		for i := range n {
			b.Transfers = append(b.Transfers, ton.Transfer{To: owner(round*1000 + i), Amount: schemas.TON / 7, Comment: comment})
		}
		d.Fund(t, treasury.Address(), b.Cost()-d.Balance(t, treasury.Address()))
		d.Settle(t)
		have := d.Balance(t, treasury.Address())
		signed, err := treasury.Sign(b)
		if err != nil {
			t.Fatal(err)
		}
		if err = treasury.Send(t.Context(), signed.BoC); err != nil {
			t.Fatal(err)
		}
		d.Settle(t)
		for _, x := range b.Transfers {
			if got := d.Balance(t, x.To); got != x.Amount {
				t.Fatalf("round %d: %s has %s of %s", round, x.To, got, x.Amount)
			}
		}
		fees := have - d.Balance(t, treasury.Address()) - schemas.NanoTON(n)*(schemas.TON/7)
		if reserve := b.Cost() - schemas.NanoTON(n)*(schemas.TON/7); fees > reserve || reserve > fees*7/2+schemas.TON/40 {
			t.Errorf("round %d: fees %s, reserved %s", round, fees, reserve)
		}
	}
}

// TestFeePerTransfer: a full batch costs at most 0.00105 TON a transfer.
func TestFeePerTransfer(t *testing.T) {
	t.Parallel()
	d := chaintest.New(t, chaintest.Options{})
	treasury, err := d.Connect(t).Treasury(key(0), ton.TreasuryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d.Fund(t, treasury.Address(), 1000*schemas.TON)
	d.Settle(t)
	for q := ton.QueryID(1); q < 4; q++ {
		b := ton.Batch{QueryID: q, CreatedAt: chaintest.Start.Add(-time.Minute), Deploy: q == 1, Note: make([]byte, 32)}
		for i := range ton.MaxTransfers {
			b.Transfers = append(b.Transfers, ton.Transfer{To: owner(int(q)*1000 + i), Amount: schemas.TON / 2, Comment: "c:123456"})
		}
		before := d.Balance(t, treasury.Address())
		signed, err := treasury.Sign(b)
		if err != nil {
			t.Fatal(err)
		}
		if err = treasury.Send(t.Context(), signed.BoC); err != nil {
			t.Fatal(err)
		}
		d.Settle(t)
		fee := (before - d.Balance(t, treasury.Address()) - ton.MaxTransfers*schemas.TON/2) / ton.MaxTransfers
		if t.Logf("batch %s: %s a transfer", q, fee); fee <= 0 || fee > 1_050_000 {
			t.Errorf("batch %s: %s a transfer", q, fee)
		}
	}
}

// TestSignIsDeterministic: the bytes depend on the batch and on nothing else, and every part of the batch matters.
func TestSignIsDeterministic(t *testing.T) {
	t.Parallel()
	chain := chaintest.New(t, chaintest.Options{}).Connect(t)
	treasury, err := chain.Treasury(key(0), ton.TreasuryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := chain.Treasury(key(0), ton.TreasuryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		b := ton.Batch{
			QueryID:   ton.QueryID(rapid.Uint32Range(0, 1<<23-1).Filter(func(q uint32) bool { return ton.QueryID(q).Valid() }).Draw(t, "query id")),
			CreatedAt: time.Unix(rapid.Int64Range(1, 1<<40).Draw(t, "created at"), 0),
			Deploy:    rapid.Bool().Draw(t, "deploy"),
			Note:      rapid.SliceOfN(rapid.Byte(), 0, ton.MaxNote).Draw(t, "note"),
		}
		for i := range rapid.IntRange(1, 30).Draw(t, "transfers") {
			b.Transfers = append(b.Transfers, ton.Transfer{
				To: owner(i), Amount: schemas.NanoTON(rapid.Int64Range(1, 1e15).Draw(t, "amount")),
				Comment: rapid.StringN(0, 20, 40).Draw(t, "comment"), Bounce: rapid.Bool().Draw(t, "bounce"),
			})
		}
		one, err := treasury.Sign(b)
		if err != nil {
			t.Fatal(err)
		}
		two, err := again.Sign(b)
		if err != nil || string(one.BoC) != string(two.BoC) || one.Body != two.Body {
			t.Fatalf("another message for the same batch: %v", err)
		}
		b.Transfers[len(b.Transfers)-1].Amount++
		if other, err := treasury.Sign(b); err != nil || other.Body == one.Body {
			t.Fatalf("the same message for another batch: %v", err)
		}
	})
}

func TestExpired(t *testing.T) {
	t.Parallel()
	treasury, err := chaintest.New(t, chaintest.Options{}).Connect(t).Treasury(key(0), ton.TreasuryOptions{Timeout: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	made := ton.CreatedAt(ton.BlockTime{Time: chaintest.Start})
	if treasury.Timeout() != 10*time.Minute || !treasury.Expires(made).Equal(made.Add(10*time.Minute)) || !made.Before(chaintest.Start) {
		t.Errorf("timeout %v, made %v, expires %v", treasury.Timeout(), made, treasury.Expires(made))
	}
	for after, want := range map[time.Duration]bool{0: false, 10 * time.Minute: false, 11 * time.Minute: false, 11*time.Minute + time.Second: true} {
		if got := treasury.Expired(made, ton.BlockTime{Time: made.Add(after)}); got != want {
			t.Errorf("%v after: %v", after, got)
		}
	}
}
