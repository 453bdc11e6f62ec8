package ton_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
	"github.com/cocoon-network/cocoon/settlement/tonnet"
)

// A payer's whole loop: sign, keep, send, and believe nothing but history.
func Example() {
	ctx := context.Background()
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	net, err := tonnet.Open(tonnet.Config{Now: func() time.Time { return now }})
	if err != nil {
		panic(err)
	}
	defer net.Close()
	chain, err := ton.Connect(ctx, ton.Config{GlobalConfig: net.GlobalConfig(), Client: net.NewServer()})
	if err != nil {
		panic(err)
	}
	defer chain.Close()
	seed := sha256.Sum256([]byte("a treasury"))
	treasury, err := chain.Treasury(ed25519.NewKeyFromSeed(seed[:]), ton.TreasuryOptions{})
	if err != nil {
		panic(err)
	}
	if err = net.Faucet(address.MustParseRawAddr(string(treasury.Address())), tlb.MustFromTON("10")); err != nil {
		panic(err)
	}
	if err = net.ProduceAll(1); err != nil {
		panic(err)
	}

	state, err := treasury.State(ctx)
	if err != nil {
		panic(err)
	}
	batch := ton.Batch{
		QueryID: 1, CreatedAt: ton.CreatedAt(state.At), Deploy: !state.Deployed, Note: []byte("root"),
		Transfers: []ton.Transfer{
			{To: "0:1111111111111111111111111111111111111111111111111111111111111111", Amount: 2 * schemas.TON, Comment: "c:1"},
			{To: "0:2222222222222222222222222222222222222222222222222222222222222222", Amount: 3 * schemas.TON, Comment: "c:1"},
		},
	}
	fmt.Println("affordable:", batch.Cost() <= state.Balance)
	signed, err := treasury.Sign(batch)
	if err != nil {
		panic(err)
	}
	// Here a payer stores batch, signed and state.Last, in one durable write. Then it sends, as often as it likes.
	for range 3 {
		_ = treasury.Send(ctx, signed.BoC)
	}
	if err = net.ProduceAll(3); err != nil {
		panic(err)
	}
	page, err := treasury.History(ctx, state.Last, 0)
	if err != nil {
		panic(err)
	}
	for _, e := range page.Events {
		switch e := e.(type) {
		case ton.Accepted:
			fmt.Println("accepted:", e.Body == signed.Body)
		case ton.Executed:
			for _, out := range e.Outs {
				fmt.Println("paid:", out.To[:6], out.Amount, out.Comment)
			}
			fmt.Printf("note: %s\n", e.Note)
		}
	}
	fmt.Println("complete:", page.Complete)
	// Output:
	// affordable: true
	// accepted: true
	// paid: 0:1111 2 TON c:1
	// paid: 0:2222 3 TON c:1
	// note: root
	// complete: true
}

// Addresses in both spellings.
func ExampleParseAddress() {
	a, err := ton.ParseAddress("EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k")
	fmt.Println(a.Owner, a.Bounceable, err)
	_, err = ton.ParseAddress("EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73K")
	fmt.Println(schemas.KindOf(err))
	// Output:
	// 0:a7b3b6d84a9d22805bd2d70a5be70b198c2282575f4c0f9015cc8e04cb1b2753 true <nil>
	// invalid
}

// A voucher is a claim that its holder can check without asking anybody.
func ExampleSignVoucher() {
	seed := sha256.Sum256([]byte("a proxy"))
	key := ed25519.NewKeyFromSeed(seed[:])
	voucher, err := ton.SignVoucher(key, ton.Voucher{Worker: "0:1111111111111111111111111111111111111111111111111111111111111111", Tokens: 1_000_000})
	if err != nil {
		panic(err)
	}
	fmt.Println(voucher.Verify(key.Public().(ed25519.PublicKey)))
	voucher.Tokens *= 10
	fmt.Println(voucher.Verify(key.Public().(ed25519.PublicKey)))
	// Output:
	// <nil>
	// denied: ton: voucher is not signed by the key
}
