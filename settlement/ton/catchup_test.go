package ton_test

import (
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/tl"
	tonapi "github.com/xssnick/tonutils-go/ton"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/chaintest"
	"github.com/cocoon-network/cocoon/settlement/ton"
	"github.com/cocoon-network/cocoon/settlement/tonnet"
)

// TestCatchUp: after a long absence the pages of an account come in order, without gaps, at the cost of walking through
// the history about twice, however small the pages are; also while new transactions arrive.
func TestCatchUp(t *testing.T) {
	t.Parallel()
	d := chaintest.New(t, chaintest.Options{SameBlock: true})
	account, err := d.Connect(t).Account(owner(1))
	if err != nil {
		t.Fatal(err)
	}
	const n, limit = 3000, 100
	for i := range n {
		d.Fund(t, owner(1), schemas.NanoTON(i+1)*1_000_000)
	}
	d.Step(t, time.Second)
	queries := 0
	d.Servers[0].SetFaults(tonnet.Faults{Answer: func(q, a tl.Serializable) tl.Serializable {
		if _, ok := q.(tonapi.GetTransactions); ok {
			queries++
		}
		return a
	}})
	var after ton.Cursor
	got, late := 0, 0
	for complete := false; !complete; {
		page, err := account.History(t.Context(), after, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			got++
			if x, ok := e.(ton.Deposit); !ok || x.Amount != schemas.NanoTON(got)*1_000_000 {
				t.Fatalf("event %d: %+v", got, e)
			}
		}
		after, complete = page.Next, page.Complete
		if late < 5 {
			late++
			d.Fund(t, owner(1), schemas.NanoTON(n+late)*1_000_000)
			d.Step(t, time.Second)
		}
	}
	if got != n+late {
		t.Errorf("%d events, want %d", got, n+late)
	}
	const perQuery = 16
	if most := 2*n/perQuery + 3*n/limit; queries > most {
		t.Errorf("%d queries for %d transactions, want at most %d", queries, n, most)
	}
}
