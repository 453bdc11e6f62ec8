package cli

import (
	"context"
	"strconv"

	"github.com/cocoon-network/cocoon/consumers/dashboard"
	"github.com/cocoon-network/cocoon/settlement"
)

// What the dashboard lists.
const (
	shownOwners  = 50
	shownBatches = 20
	shownAlerts  = 10
)

// books shows a ledger to the dashboard.
type books struct {
	ledger *settlement.Ledger
	chain  string
}

// Money shows a ledger to the dashboard. chain is the name of the network that pays, such as "mainnet" or "tonnet".
func Money(ledger *settlement.Ledger, chain string) dashboard.MoneySource {
	return &books{ledger, chain}
}

// Money sums up the books.
func (b *books) Money(ctx context.Context) (dashboard.Money, error) {
	s, err := b.ledger.Payouts(ctx)
	if err != nil {
		return dashboard.Money{}, err
	}
	m := dashboard.Money{
		Held: s.Held, Earned: s.Owed + s.Inflight + s.Paid, Paid: s.Paid, Pending: s.Owed + s.Inflight, Fees: s.Fees, Treasury: s.Treasury, Chain: b.chain,
	}
	owners, err := b.ledger.Payees(ctx, shownOwners)
	if err != nil {
		return m, err
	}
	for _, o := range owners {
		m.Owners = append(m.Owners, dashboard.OwnerRow{Owner: o.Owner, Earned: o.Owed + o.Inflight + o.Paid, Paid: o.Paid, Pending: o.Owed + o.Inflight})
	}
	batches, err := b.ledger.PayoutBatches(ctx, 0, shownBatches)
	if err != nil {
		return m, err
	}
	for _, p := range batches {
		m.Batches = append(m.Batches, dashboard.BatchRow{
			ID: strconv.FormatUint(p.Batch, 10), State: p.State, Created: p.Created, Transfers: p.Items, Amount: p.Total, Root: p.Root, Link: p.Transaction,
		})
	}
	alerts, err := b.ledger.Alerts(ctx, shownAlerts)
	if err != nil {
		return m, err
	}
	if s.Stopped != "" {
		m.Alerts = append(m.Alerts, "payouts are stopped: "+s.Stopped)
	}
	for _, a := range alerts {
		m.Alerts = append(m.Alerts, a.String())
	}
	return m, nil
}
