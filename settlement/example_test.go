package settlement_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
)

// A tenant pays 5 TON by bank transfer. The first TON becomes its stake, which is also how much work it may have in
// flight; the rest is what jobs are charged to.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "ledger-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ledger, err := settlement.OpenLedger(ctx, filepath.Join(dir, "ledger.db"), settlement.LedgerOptions{})
	if err != nil {
		panic(err)
	}
	defer ledger.Close()

	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	tenant, err := ledger.CreateTenant(ctx, settlement.Tenant{ID: "taaaaaaaaaaaaaaaa", Name: "alice", Key: key})
	if err != nil {
		panic(err)
	}
	for range 2 { // the same reference again credits nothing
		if err := ledger.Fund(ctx, tenant.ID, 5*schemas.TON, "invoice 2026-117"); err != nil {
			panic(err)
		}
	}
	b, err := ledger.Balance(ctx, tenant.ID)
	if err != nil {
		panic(err)
	}
	fmt.Println("balance", b.Balance, "stake", b.Stake, "available", b.Available)

	job := schemas.JobIDFrom([16]byte{1})
	answers, err := ledger.Reserve(ctx, []settlement.Hold{
		{Job: job, Tenant: tenant.ID, Amount: schemas.TON / 4, Expires: time.Now().Add(time.Minute)},
		{Job: schemas.JobIDFrom([16]byte{2}), Tenant: tenant.ID, Amount: 2 * schemas.TON, Expires: time.Now().Add(time.Minute)},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(answers[0], "/", schemas.KindOf(answers[1]))
	sum, err := ledger.Sum(ctx)
	fmt.Println("all postings add up to", sum, err)
	// Output:
	// balance 4 TON stake 1 TON available 1 TON
	// <nil> / insufficient_credit
	// all postings add up to 0 TON <nil>
}

// A worker checks offline that its receipt is covered by a payout, and learns which root must stand on chain.
func ExampleProof_Verify() {
	const receipt = "eyJhbGciOiJFZERTQSJ9.e30.c2ln"
	leaf := schemas.HashOf([]byte(receipt))
	root, _ := settlement.Tree([]schemas.Hash{settlement.ReceiptLeaf(leaf, 90)}, 0)
	p := settlement.Proof{
		V: 1, Batch: 17, Items: 1, Receipt: leaf, Amount: 90,
		Item: settlement.StatementItem{To: "0:ab", Amount: 90, Purpose: settlement.PurposeEarnings, Earned: 90, Receipts: 1, Root: root},
	}
	_, err := p.Verify(receipt)
	fmt.Println(err)
	p.Amount = 91
	_, err = p.Verify(receipt)
	fmt.Println(err)
	// Output:
	// <nil>
	// invalid: path: does not lead from the receipt to the item
}
