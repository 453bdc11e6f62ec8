package cli

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/consumers/dashboard"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
)

// What the dashboard lists.
const (
	shownOwners  = 50
	shownBatches = 50
	shownAlerts  = 10
	// shownEarners are the workers of the earnings chart, shownHours how far back it goes.
	shownEarners = 8
	shownHours   = 48
	// totalsEvery is how often the sums over all that was ever booked are read.
	totalsEvery = 30 * time.Second
)

// explorers are where transactions can be looked at, by chain.
var explorers = map[string]string{
	"mainnet": "https://tonviewer.com/transaction/", "testnet": "https://testnet.tonviewer.com/transaction/",
}

// books shows a ledger to the dashboard.
type books struct {
	ledger *settlement.Ledger
	chain  string

	// mu guards the sums that are not read every time.
	mu               sync.Mutex
	summed           time.Time
	receipts, tokens uint64
}

// Money shows a ledger to the dashboard. chain is the name of the network that pays, such as "mainnet" or "tonnet"; the
// transactions of mainnet and testnet are linked to an explorer.
func Money(ledger *settlement.Ledger, chain string) dashboard.MoneySource {
	return &books{ledger: ledger, chain: chain}
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
	for _, read := range []func(context.Context, *dashboard.Money) error{b.owners, b.batches, b.alerts, b.earnings, b.totals} {
		if err := read(ctx, &m); err != nil {
			return m, err
		}
	}
	if s.Stopped != "" {
		m.Alerts = append([]string{"payouts are stopped: " + s.Stopped}, m.Alerts...)
	}
	return m, nil
}

// owners lists who earns.
func (b *books) owners(ctx context.Context, m *dashboard.Money) error {
	owners, err := b.ledger.Payees(ctx, shownOwners)
	for _, o := range owners {
		m.Owners = append(m.Owners, dashboard.OwnerRow{Owner: o.Owner, Earned: o.Owed + o.Inflight + o.Paid, Paid: o.Paid, Pending: o.Owed + o.Inflight})
	}
	return err
}

// batches lists the newest payout batches.
func (b *books) batches(ctx context.Context, m *dashboard.Money) error {
	batches, err := b.ledger.PayoutBatches(ctx, 0, shownBatches)
	for _, p := range batches {
		row := dashboard.PayoutRow{
			ID: strconv.FormatUint(p.Batch, 10), State: p.State, Created: p.Created, Transfers: p.Items, Amount: p.Total, Paid: p.Paid,
			Root: p.Root, Transaction: p.Transaction,
		}
		if explorer := explorers[b.chain]; explorer != "" && p.Transaction != "" {
			row.Link = explorer + p.Transaction
		}
		m.Batches = append(m.Batches, row)
	}
	return err
}

// alerts lists what asks for a person.
func (b *books) alerts(ctx context.Context, m *dashboard.Money) error {
	alerts, err := b.ledger.Alerts(ctx, shownAlerts)
	for _, a := range alerts {
		m.Alerts = append(m.Alerts, a.String())
	}
	return err
}

// earnings are the chart of the workers that earned most. Every worker has a value for every hour.
func (b *books) earnings(ctx context.Context, m *dashboard.Money) error {
	since := time.Now().UTC().Truncate(time.Hour).Add(-(shownHours - 1) * time.Hour)
	points, err := b.ledger.Earnings(ctx, settlement.EarningsQuery{Since: since, Workers: shownEarners})
	if err != nil || len(points) == 0 {
		return err
	}
	for i := range shownHours {
		m.Earnings.Hours = append(m.Earnings.Hours, since.Add(time.Duration(i)*time.Hour).Unix())
	}
	for _, p := range points { // those of a worker lie together, the worker that earned most first
		workers := m.Earnings.Workers
		if len(workers) == 0 || workers[len(workers)-1].Worker != p.Worker {
			workers = append(workers, dashboard.WorkerEarning{Worker: p.Worker, Earned: make([]schemas.NanoTON, shownHours)})
		}
		w := &workers[len(workers)-1]
		if i := int(p.At.Sub(since) / time.Hour); i >= 0 && i < shownHours {
			w.Earned[i] += p.Earned
			w.Total += p.Earned
		}
		m.Earnings.Workers = workers
	}
	return nil
}

// totals counts all that was ever booked.
func (b *books) totals(ctx context.Context, m *dashboard.Money) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.summed) > totalsEvery {
		receipts, tokens, err := b.ledger.Served(ctx)
		if err != nil {
			return err
		}
		b.receipts, b.tokens, b.summed = receipts, tokens, time.Now()
	}
	m.Receipts, m.Tokens = b.receipts, b.tokens
	return nil
}
