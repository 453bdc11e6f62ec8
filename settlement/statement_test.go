package settlement_test

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
)

// TestStatementExample holds the example of STATEMENT.md to the code.
func TestStatementExample(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("STATEMENT.md")
	if err != nil {
		t.Fatal(err)
	}
	receipt := schemas.HashOf([]byte("a.b.c"))
	root := settlement.ReceiptLeaf(receipt, 90)
	p := settlement.Proof{
		V: 1, Items: 1, Receipt: receipt, Amount: 90,
		Item: settlement.StatementItem{To: ledgertest.Owner(0), Amount: 90, Purpose: settlement.PurposeEarnings, Earned: 90, Receipts: 1, Root: root},
	}
	statement, err := p.Verify("a.b.c")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []schemas.Hash{root, statement} {
		if !strings.Contains(string(page), "`"+hex.EncodeToString(h[:])+"`") {
			t.Errorf("the example lacks %x", h[:])
		}
	}
}
