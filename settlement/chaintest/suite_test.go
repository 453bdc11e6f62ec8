package chaintest_test

import (
	"crypto/ed25519"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/chaintest"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestDevnet runs the suite on the devnet in every way that it can be reached.
func TestDevnet(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]chaintest.Options{
		"in process":          {},
		"in process, at once": {SameBlock: true},
		"ADNL":                {ADNL: true},
		"ADNL, three servers": {ADNL: true, Servers: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chaintest.Run(t, func(t testing.TB) chaintest.Backend { return chaintest.New(t, opt) })
		})
	}
}

// TestDrain: a batch that was affordable when it was signed is not when it arrives. It is used up and pays nobody, and
// the client says so.
func TestDrain(t *testing.T) {
	t.Parallel()
	d := chaintest.New(t, chaintest.Options{})
	treasury, err := d.Connect(t).Treasury(ed25519.NewKeyFromSeed(make([]byte, 32)), ton.TreasuryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d.Fund(t, treasury.Address(), 10*schemas.TON)
	d.Settle(t)
	const to schemas.Owner = "0:1111111111111111111111111111111111111111111111111111111111111111"
	signed, err := treasury.Sign(ton.Batch{
		QueryID: 1, CreatedAt: chaintest.Start.Add(-time.Minute), Deploy: true,
		Transfers: []ton.Transfer{{To: to, Amount: 5 * schemas.TON}}, Note: []byte("n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Drain(t, treasury, 2, schemas.TON)
	d.Settle(t)
	if got := d.Balance(t, treasury.Address()); got < schemas.TON || got > schemas.TON+schemas.TON/100 {
		t.Errorf("left %s", got)
	}
	if err = treasury.Send(t.Context(), signed.BoC); err != nil {
		t.Fatal(err)
	}
	d.Settle(t)
	page, err := treasury.History(t.Context(), ton.Cursor{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	last, ok := page.Events[len(page.Events)-1].(ton.Accepted)
	if !ok || last.Body != signed.Body || last.MessageLT != 0 || d.Received(t, to, treasury.Address()) != 0 {
		t.Errorf("%+v", page.Events)
	}
}
