package settlement

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// ReconcileConfig names the sources of truth; what is nil is left out of the comparison.
type ReconcileConfig struct {
	Ledger *Ledger
	// Treasury and Deposits are read from their first transaction on.
	Treasury Wallet
	Deposits Wallet
	// Intake supplies feed, keys and prices. Receipts are verified and priced again from what the stream still holds, up
	// to the position that the ledger had at the start.
	Intake *IntakeConfig
	// First is the lowest position that the stream still holds, by its own count; 0 means 1.
	First uint64
}

// Difference is one thing on which ledger and truth disagree.
type Difference struct {
	// Kind is one of the Diff constants.
	Kind string `json:"kind"`
	// Subject is the job, batch item, address or transaction.
	Subject string `json:"subject"`
	// Ledger and Truth are the two sides, empty when a side does not know it.
	Ledger string `json:"ledger"`
	Truth  string `json:"truth"`
}

// The kinds of differences.
const (
	// DiffBook: the ledger contradicts itself.
	DiffBook = "broken_book"
	// DiffMissingReceipt: the stream has a valid receipt that the ledger does not know.
	DiffMissingReceipt = "missing_receipt"
	// DiffExtraReceipt: the ledger booked something for which the stream has no valid receipt.
	DiffExtraReceipt = "extra_receipt"
	// DiffReceipt: both know the receipt, with different contents.
	DiffReceipt = "different_receipt"
	// DiffMissingDeposit: the chain shows money that arrived and that the ledger does not know, or with another amount.
	DiffMissingDeposit = "missing_deposit"
	// DiffExtraDeposit: the ledger booked money as arrived that the chain does not show.
	DiffExtraDeposit = "extra_deposit"
	// DiffUnknownPayment: the treasury paid something that the ledger does not know.
	DiffUnknownPayment = "unknown_payment"
	// DiffUnpaidItem: the ledger says paid, the chain does not.
	DiffUnpaidItem = "unpaid_item"
	// DiffBalance: book and chain differ in what the treasury holds.
	DiffBalance = "balance"
)

// Report is the result of Reconcile.
type Report struct {
	Differences []Difference `json:"differences"`
	// Receipts, Payouts and Deposits count what was compared and agreed. Deposits are all arrivals of money, top-ups and
	// payouts that came back included.
	Receipts uint64 `json:"receipts"`
	Payouts  uint64 `json:"payouts"`
	Deposits uint64 `json:"deposits"`
	// ChainBalance is the treasury's proven balance.
	ChainBalance schemas.NanoTON `json:"chain_balance"`
}

// add notes a difference.
func (r *Report) add(kind, subject, ledger, truth string) {
	r.Differences = append(r.Differences, Difference{kind, subject, ledger, truth})
}

// Reconcile rebuilds the truth from the chain and the outcome stream and names every difference to the ledger. It uses
// the verification of intake and the history reader of the payer, and changes nothing. Run it while no payout is in
// flight, or the batches in flight show as differences in the balance.
func Reconcile(ctx context.Context, cfg ReconcileConfig) (*Report, error) {
	r := &Report{Differences: []Difference{}}
	if err := cfg.Ledger.Check(ctx); schemas.KindOf(err) == schemas.KindCorrupt {
		r.add(DiffBook, "ledger", err.Error(), "")
	} else if err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context, ReconcileConfig, *Report) error{reconcileReceipts, reconcileDeposits, reconcilePayouts} {
		if err := step(ctx, cfg, r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// bookedReceipt is a receipt as the ledger has it.
type bookedReceipt struct {
	job    []byte
	total  schemas.NanoTON
	fee    schemas.NanoTON
	hash   []byte
	tenant string
	owner  string
}

// String is what two sides are compared by.
func (b bookedReceipt) String() string {
	return fmt.Sprintf("job %s from %s to %s: %s, fee %s, receipt %s", jobID(b.job), b.tenant, b.owner, b.total, b.fee, hex.EncodeToString(b.hash))
}

// reconcileReceipts judges the stream's outcomes again and compares them with the ledger, group by group.
func reconcileReceipts(ctx context.Context, cfg ReconcileConfig, r *Report) error {
	if cfg.Intake == nil {
		return nil
	}
	in := *cfg.Intake
	in.Ledger = cfg.Ledger
	in, err := in.withDefaults()
	if err != nil {
		return err
	}
	end, err := cfg.Ledger.Position(ctx)
	if err != nil {
		return err
	}
	base, err := cfg.Ledger.streamBase(ctx)
	if err != nil {
		return err
	}
	intake := &Intake{cfg: in, judge: in.judge()}
	for at := base + max(cfg.First, 1) - 1; at < end; {
		group, err := intake.next(ctx, at)
		if err != nil {
			return err
		}
		from := at
		at = group[len(group)-1].seq
		booked, rejected, err := cfg.Ledger.bookedBetween(ctx, from, min(at, end))
		if err != nil {
			return err
		}
		for i := range group {
			if group[i].seq <= end {
				compareReceipt(r, &group[i], booked, rejected)
			}
		}
		for seq, b := range booked {
			r.add(DiffExtraReceipt, fmt.Sprintf("outcome %d", seq), b.String(), "")
		}
	}
	return nil
}

// bookedBetween reads receipts and rejections with positions in (from, through].
func (l *Ledger) bookedBetween(ctx context.Context, from, through uint64) (map[uint64]bookedReceipt, map[uint64]Reason, error) {
	booked, rejected := map[uint64]bookedReceipt{}, map[uint64]Reason{}
	err := l.read(ctx, func(t *tx) error {
		err := t.each(func(scan func(...any) error) error {
			var seq uint64
			var b bookedReceipt
			err := scan(&seq, &b.job, &b.total, &b.fee, &b.hash, &b.tenant, &b.owner)
			booked[seq] = b
			return err
		}, `SELECT r.seq, r.job, r.total, r.fee, r.hash, t.name, o.name FROM receipts r JOIN accounts t ON t.id = r.tenant
			JOIN accounts o ON o.id = r.owner WHERE r.seq > ? AND r.seq <= ?`, int64(from), int64(through))
		if err != nil {
			return err
		}
		return t.each(func(scan func(...any) error) error {
			var seq uint64
			var reason Reason
			err := scan(&seq, &reason)
			rejected[seq] = reason
			return err
		}, "SELECT seq, reason FROM rejections WHERE seq > ? AND seq <= ?", int64(from), int64(through))
	})
	return booked, rejected, err
}

// compareReceipt compares one outcome with what the ledger made of it, and takes it out of booked.
func compareReceipt(r *Report, v *verdict, booked map[uint64]bookedReceipt, rejected map[uint64]Reason) {
	have, found := booked[v.seq]
	if v.claim == nil {
		return // what is booked without a claim stays in booked and is reported as extra
	}
	delete(booked, v.seq)
	c := v.claim
	want := bookedReceipt{
		job: c.job, total: c.charge.Total, fee: c.charge.Fee, hash: c.hash[:],
		tenant: tenantPrefix + string(c.grant.Tenant), owner: ownerPrefix + string(c.grant.Owner),
	}
	subject := fmt.Sprintf("outcome %d", v.seq)
	switch reason := rejected[v.seq]; {
	case !found && (reason == RejectTenant || reason == RejectDuplicate || reason == RejectNumber):
		// Refused for what the ledger held at that time, which the outcome alone does not show.
	case !found:
		r.add(DiffMissingReceipt, subject, string(reason), want.String())
	case have.String() != want.String():
		r.add(DiffReceipt, subject, have.String(), want.String())
	default:
		r.Receipts++
	}
}

// reconcileDeposits compares all money that arrived at the wallets with the ledger's.
func reconcileDeposits(ctx context.Context, cfg ReconcileConfig, r *Report) error {
	for account, wallet := range map[string]Wallet{acctDeposits: cfg.Deposits, acctTreasury: cfg.Treasury} {
		if wallet == nil {
			continue
		}
		if err := reconcileArrivals(ctx, cfg.Ledger, account, wallet, r); err != nil {
			return err
		}
	}
	return nil
}

// reconcileArrivals compares what arrived at one wallet: deposits, and at the treasury also top-ups and payouts that
// came back.
func reconcileArrivals(ctx context.Context, l *Ledger, account string, wallet Wallet, r *Report) error {
	known, err := l.arrivals(ctx, account, wallet.Address())
	if err != nil {
		return err
	}
	_, err = eachEvent(ctx, wallet, func(e ton.Event) error {
		var amount schemas.NanoTON
		var from schemas.Owner
		switch e := e.(type) {
		case ton.Deposit:
			amount, from = e.Amount, e.From
		case ton.Bounced:
			if account == acctTreasury { // a wallet of deposits sends nothing that we would have to take back
				amount, from = e.Amount, e.From
			}
		}
		if amount <= 0 {
			return nil
		}
		hash := e.Where().Hash.String()
		switch have, found := known[hash]; {
		case !found:
			r.add(DiffMissingDeposit, hash, "", fmt.Sprintf("%s from %s", amount, from))
		case have != amount:
			r.add(DiffMissingDeposit, hash, have.String(), amount.String())
		default:
			r.Deposits++
		}
		delete(known, hash)
		return nil
	})
	for hash, amount := range known {
		r.add(DiffExtraDeposit, hash, amount.String(), "")
	}
	return err
}

// arrivals lists the money that the ledger holds for arrived at a wallet, by transaction.
func (l *Ledger) arrivals(ctx context.Context, account string, wallet schemas.Owner) (map[string]schemas.NanoTON, error) {
	known := map[string]schemas.NanoTON{}
	err := l.read(ctx, func(t *tx) error {
		return t.each(func(scan func(...any) error) error {
			var hash string
			var amount schemas.NanoTON
			err := scan(&hash, &amount)
			known[hash] = amount
			return err
		}, `SELECT d.hash, d.amount FROM deposits d JOIN wallets w ON w.id = d.wallet WHERE w.address = ?
			UNION ALL SELECT e.ref, -p.amount FROM entries e JOIN postings p ON p.entry = e.id JOIN accounts a ON a.id = p.account
			WHERE a.name = ? AND p.amount < 0 AND e.kind IN (?, ?)`, string(wallet), account, entryTopUp, entryBounce)
	})
	return known, err
}

// reconcilePayouts compares every transfer that left the treasury with the items that the ledger holds for paid.
func reconcilePayouts(ctx context.Context, cfg ReconcileConfig, r *Report) error {
	if cfg.Treasury == nil {
		return nil
	}
	paid, err := cfg.Ledger.paidItems(ctx, cfg.Treasury.Address())
	if err != nil {
		return err
	}
	_, err = eachEvent(ctx, cfg.Treasury, func(e ton.Event) error {
		batch, ok := e.(ton.Executed)
		if !ok {
			return nil
		}
		for _, out := range batch.Outs {
			truth := payment(out.To, out.Amount)
			switch ledger, found := paid[out.LT]; {
			case !found:
				r.add(DiffUnknownPayment, batch.Hash.String(), "", truth)
			case ledger != truth:
				r.add(DiffUnknownPayment, batch.Hash.String(), ledger, truth)
			default:
				r.Payouts++
			}
			delete(paid, out.LT)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for lt, ledger := range paid {
		r.add(DiffUnpaidItem, fmt.Sprintf("logical time %d", lt), ledger, "")
	}
	return reconcileBalance(ctx, cfg, r)
}

// payment spells a transfer.
func payment(to schemas.Owner, amount schemas.NanoTON) string {
	return fmt.Sprintf("%s to %s", amount, to)
}

// paidItems lists what the ledger holds for paid, and what was adopted, by the logical time of the transfer.
func (l *Ledger) paidItems(ctx context.Context, wallet schemas.Owner) (map[uint64]string, error) {
	paid := map[uint64]string{}
	err := l.read(ctx, func(t *tx) error {
		err := t.each(func(scan func(...any) error) error {
			var lt uint64
			var to schemas.Owner
			var amount schemas.NanoTON
			err := scan(&lt, &to, &amount)
			paid[lt] = payment(to, amount)
			return err
		}, `SELECT i.out_lt, i.address, i.amount FROM items i JOIN batches b ON b.number = i.batch JOIN wallets w ON w.id = b.wallet
			WHERE i.state = 'paid' AND w.address = ?`, string(wallet))
		if err != nil {
			return err
		}
		adopted, err := t.strangers(strangerAdopted, strangerAdopted)
		for _, s := range adopted {
			for _, out := range s.Outs {
				paid[out.LT] = payment(out.To, out.Amount)
			}
		}
		return err
	})
	return paid, err
}

// reconcileBalance compares the treasury's proven balance with the book, which lags behind by the fees since the last
// time they were booked.
func reconcileBalance(ctx context.Context, cfg ReconcileConfig, r *Report) error {
	state, err := cfg.Treasury.State(ctx)
	if err != nil {
		return away(err)
	}
	r.ChainBalance = state.Balance
	book, err := cfg.Ledger.AccountBalance(ctx, acctTreasury)
	if err != nil {
		return err
	}
	if -book-state.Balance > idleGas || -book-state.Balance < -idleGas {
		r.add(DiffBalance, string(cfg.Treasury.Address()), (-book).String(), state.Balance.String())
	}
	return nil
}
