package settlement

import (
	"context"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// mark says how far an owner's earnings are covered by payouts. Seq and LT do not depend on this ledger: a ledger
// restored from an old copy books the same receipts and chain events under the same numbers again.
type mark struct {
	// Entry is the last entry looked at; it only saves looking at older ones.
	Entry int64 `json:"entry"`
	// Seq is the last position of the outcome stream, and LT the last logical time of the treasury, that is covered.
	Seq uint64 `json:"seq"`
	LT  uint64 `json:"lt"`
}

// due is one payment that should be made.
type due struct {
	StatementItem
	account    int64
	withdrawal string // set for withdrawals
	source     string // the account a withdrawal's money came from
	from       mark
	through    mark
}

// rules say when an owner is paid.
type rules struct {
	threshold, least schemas.NanoTON
	maxAge           time.Duration
	force            bool
	limit            int
}

// due lists what should be paid now, longest waiting first, withdrawals before earnings. It looks at one snapshot and
// changes nothing; what it says is checked again when a batch is written.
func (l *Ledger) due(ctx context.Context, w walletRow, r rules) ([]due, error) {
	var all []due
	err := l.read(ctx, func(t *tx) error {
		withdrawals, err := t.dueWithdrawals(w, r.limit)
		if err != nil {
			return err
		}
		owners, err := t.dueOwners(w, r)
		if err != nil {
			return err
		}
		end, err := t.end(w)
		if err != nil {
			return err
		}
		all = withdrawals
		taken := map[schemas.Owner]bool{}
		for _, d := range withdrawals {
			taken[d.To] = true
		}
		for i := range owners {
			if taken[owners[i].To] { // in the next round
				continue
			}
			covered, err := t.cover(&owners[i], end)
			if err != nil {
				return err
			}
			if covered {
				all = append(all, owners[i])
			}
		}
		return nil
	})
	return all, err
}

// end is the mark of everything that is booked now.
func (t *tx) end(w walletRow) (m mark, err error) {
	if _, err = t.one([]any{&m.Entry}, "SELECT COALESCE(MAX(id), 0) FROM entries"); err != nil {
		return m, err
	}
	if m.Seq, err = t.position(); err != nil {
		return m, err
	}
	fresh, err := t.wallet(w.address)
	m.LT = fresh.cursor.LT
	return m, err
}

// dueWithdrawals lists what was asked for and is not in a batch, one for each address: two transfers to one address at
// the same time could not be told apart on chain.
func (t *tx) dueWithdrawals(w walletRow, limit int) ([]due, error) {
	aside, found, err := t.findAccount(acctWithdrawals)
	if err != nil || !found {
		return nil, err
	}
	pending, err := t.withdrawals(`WHERE state = 'pending' AND address <> ? AND NOT EXISTS (SELECT 1 FROM items i
		WHERE i.address = withdrawals.address AND i.state = 'open') ORDER BY requested, id LIMIT ?`, string(w.address), limit)
	var all []due
	taken := map[schemas.Owner]bool{}
	for _, w := range pending {
		if taken[w.To] {
			continue
		}
		taken[w.To] = true
		all = append(all, due{account: aside, withdrawal: w.ID, source: w.Source, StatementItem: StatementItem{
			To: w.To, Amount: w.Amount, Purpose: w.Purpose, Carried: w.Amount,
		}})
	}
	return all, err
}

// dueOwners lists owners whose balance is worth a transfer, with where their coverage begins. A worker that names the
// treasury itself as its owner earns for the network: the wallet cannot pay itself.
func (t *tx) dueOwners(w walletRow, r rules) ([]due, error) {
	threshold, old, least := r.threshold, int64(-1), r.least
	if r.maxAge > 0 {
		old = t.now - int64(r.maxAge/time.Second)
	}
	if r.force {
		threshold = 1
	}
	var all []due
	err := t.each(func(scan func(...any) error) error {
		d := due{StatementItem: StatementItem{Purpose: PurposeEarnings}}
		err := scan(&d.account, &d.To, &d.Amount, &d.from.Entry, &d.from.Seq, &d.from.LT)
		all = append(all, d)
		return err
	}, `SELECT o.account, o.address, a.balance, o.paid_entry, o.paid_seq, o.paid_lt FROM owners o JOIN accounts a ON a.id = o.account
		WHERE a.balance > 0 AND o.flagged = '' AND a.balance >= o.minimum AND o.address <> ?
		AND (a.balance >= ? OR (a.since <= ? AND a.balance >= ?))
		AND NOT EXISTS (SELECT 1 FROM items i WHERE i.address = o.address AND i.state = 'open')
		ORDER BY a.since, o.account LIMIT ?`, string(w.address), int64(threshold), old, int64(least), r.limit)
	return all, err
}

// cover walks through what an owner earned since its mark and fills in the item. False means that the books are behind
// the owner's mark, after a restore, and must catch up first.
func (t *tx) cover(d *due, end mark) (bool, error) {
	if end.Seq < d.from.Seq || end.LT < d.from.LT {
		return false, nil
	}
	d.through = end
	var receipts tree
	err := t.coverage(d.account, d.from, d.through, func(amount schemas.NanoTON, receipt *schemas.Hash) {
		if receipt == nil {
			d.Carried += amount
			return
		}
		d.Earned += amount
		receipts.add(receiptLeaf(*receipt, amount))
	})
	if err != nil {
		return false, err
	}
	d.Receipts, d.Root = receipts.size, receipts.root()
	if d.Earned+d.Carried != d.Amount {
		return false, corrupt("owner %s holds %d, its uncovered entries add up to %d", d.To, d.Amount, d.Earned+d.Carried)
	}
	return true, nil
}

// coverage calls fn for everything that was credited to an owner between two marks, oldest first: receipts with their
// hash, other things without. Payouts and their returns are no credits.
func (t *tx) coverage(account int64, from, through mark, fn func(schemas.NanoTON, *schemas.Hash)) error {
	return t.each(func(scan func(...any) error) error {
		var kind string
		var place int64
		var amount schemas.NanoTON
		var hash []byte
		if err := scan(&kind, &place, &amount, &hash); err != nil {
			return err
		}
		switch kind {
		case entryJob:
			if len(hash) != len(schemas.Hash{}) {
				return corrupt("the receipt of outcome %d is missing", place)
			}
			if uint64(place) > from.Seq && uint64(place) <= through.Seq {
				fn(amount, (*schemas.Hash)(hash))
			}
		case entryBounce, entryAdopted:
			if uint64(place) > from.LT && uint64(place) <= through.LT {
				fn(amount, nil)
			}
		case entryPayout, entryReturned:
		default:
			return corrupt("an entry of kind %s touches an owner", kind)
		}
		return nil
	}, `SELECT e.kind, e.place, p.amount, r.hash FROM postings p JOIN entries e ON e.id = p.entry
		LEFT JOIN receipts r ON e.kind = 'job' AND r.seq = e.place
		WHERE p.account = ? AND p.entry > ? AND p.entry <= ? ORDER BY p.entry`, account, from.Entry, through.Entry)
}

// fill takes payments from the front of the list into one batch, as many as fit size and budget, and returns the rest.
// What does not fit the budget now is left out, so that one large payment does not block small ones.
func fill(list []due, size int, budget schemas.NanoTON, batch func([]due) ton.Batch) (taken, rest []due, short bool) {
	for i := range list {
		if len(taken) == size {
			return taken, append(rest, list[i:]...), short
		}
		if with := append(taken[:len(taken):len(taken)], list[i]); batch(with).Cost() <= budget {
			taken = with
		} else {
			rest, short = append(rest, list[i]), true
		}
	}
	return taken, rest, short
}
