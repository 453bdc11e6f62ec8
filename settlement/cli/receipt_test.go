package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	shared "github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/chaintest"
	"github.com/cocoon-network/cocoon/settlement/cli"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// TestReceiptToTheChain: a worker with its receipt, the proof that the operator gave it, and the network's global config
// sees that it was paid, asking liteservers it need not trust. What does not fit is refused.
func TestReceiptToTheChain(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	devnet := chaintest.New(t, chaintest.Options{ADNL: true})
	treasury, err := devnet.Connect(t).Treasury(ledgertest.Key("treasury"), ton.TreasuryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	devnet.Fund(t, treasury.Address(), 20*schemas.TON)
	devnet.Settle(t)
	file := func(name string, b []byte) string {
		t.Helper()
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var outcomes []schemas.Outcome
	s.with(func(l *settlement.Ledger) {
		n := ledgertest.NewNetwork(t, l, ledgertest.NewClock())
		alice := n.Tenant("alice", 50*schemas.TON)
		for i := range 4 {
			o := n.Outcome(ledgertest.Work{Tenant: alice, Worker: "w1", Owner: ledgertest.Owner(0x100 + i%2), Usage: schemas.Usage{Prompt: 1000}})
			n.Feed.Append(settlement.Message{Header: o.Header()})
			outcomes = append(outcomes, o)
		}
		n.Book()
		p, err := settlement.NewPayer(settlement.PayerConfig{Ledger: l, Treasury: treasury})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := p.Tick(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			devnet.Step(t, 5*time.Second)
			devnet.Settle(t)
		}
	})
	proof := file("proof.json", []byte(s.ok(nil, "payouts", "proof", string(outcomes[0].Job))))
	receipts := file("receipts.txt", []byte(outcomes[0].Grant+"\n"+outcomes[0].Receipt+"\n"))
	others := file("others.txt", []byte(outcomes[1].Grant+"\n"+outcomes[1].Receipt+"\n"))
	chain := file("global.json", devnet.Config().GlobalConfig)

	var c cli.StatementCheck
	out := s.ok(nil, "receipt", "verify", receipts, "--statement", proof, "--chain", chain, "--json")
	if err := json.Unmarshal([]byte(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:]), &c); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if c.Batch != 1 || c.Amount != 90_000_000 || c.Payout != 180_000_000 || c.OnChain == nil || c.OnChain.To != ledgertest.Owner(0x100) {
		t.Errorf("proven: %+v", c)
	}
	s.ok(nil, "receipt", "verify", receipts, "--statement", proof)
	s.code(shared.ExitNotFound, "receipt", "verify", others, "--statement", proof)
	s.code(shared.ExitUsage, "receipt", "verify", "-", "--statement", proof)
	forged := strings.Replace(string(mustRead(t, proof)), `"amount": "180000000"`, `"amount": "180000001"`, 1)
	s.code(shared.ExitNotFound, "receipt", "verify", receipts, "--statement", file("forged.json", []byte(forged)), "--chain", chain)
}

// mustRead reads a file.
func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
