package settlement

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// StoppedByOperator is the reason that StopPayouts leaves.
const StoppedByOperator = "operator"

// PayoutState is whether payouts run.
type PayoutState struct {
	// Treasury is the wallet that pays, empty before the first Payer ran.
	Treasury schemas.Owner `json:"treasury"`
	// Stopped is why payouts are stopped: "operator", "unknown_payment" or "unexplained_balance"; empty while they run.
	Stopped string `json:"stopped,omitempty"`
	// Held is the tenants' money, stake included.
	Held schemas.NanoTON `json:"held"`
	// Owed is the sum of what owners are owed and no batch carries yet.
	Owed schemas.NanoTON `json:"owed"`
	// Paid is what the chain shows as paid to owners, less what came back.
	Paid schemas.NanoTON `json:"paid"`
	// Inflight is the sum of earnings in batches that are signed and not judged.
	Inflight schemas.NanoTON `json:"inflight"`
	// Fees is what the network has earned and not withdrawn, Gas what the chain has taken.
	Fees schemas.NanoTON `json:"fees"`
	Gas  schemas.NanoTON `json:"gas"`
	// Booked is what the treasury should hold.
	Booked schemas.NanoTON `json:"booked"`
}

// Payouts tells whether payouts run and how much waits.
func (l *Ledger) Payouts(ctx context.Context) (s PayoutState, err error) {
	err = l.read(ctx, func(t *tx) error {
		if _, err := t.one([]any{&s.Treasury, &s.Stopped}, "SELECT address, stopped FROM wallets WHERE role = 'treasury' ORDER BY id DESC LIMIT 1"); err != nil {
			return err
		}
		for query, into := range map[string]*schemas.NanoTON{
			"SELECT CAST(COALESCE(SUM(a.balance), 0) AS BIGINT) FROM owners o JOIN accounts a ON a.id = o.account":              &s.Owed,
			"SELECT CAST(COALESCE(SUM(a.balance), 0) AS BIGINT) FROM tenants t JOIN accounts a ON a.id IN (t.account, t.stake)": &s.Held,
			"SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM items WHERE state = 'open' AND withdrawal IS NULL":            &s.Inflight,
			"SELECT CAST(COALESCE(SUM(paid - returned), 0) AS BIGINT) FROM owners":                                              &s.Paid,
		} {
			if _, err := t.one([]any{into}, query); err != nil {
				return err
			}
		}
		for name, into := range map[string]*schemas.NanoTON{acctFees: &s.Fees, acctGas: &s.Gas, acctTreasury: &s.Booked} {
			if _, err := t.one([]any{into}, "SELECT balance FROM accounts WHERE name = ?", name); err != nil {
				return err
			}
		}
		s.Gas, s.Booked = -s.Gas, -s.Booked
		return nil
	})
	return s, err
}

// StopPayouts makes no new batches and sends none until ResumePayouts. The chain is followed on.
func (l *Ledger) StopPayouts(ctx context.Context) error {
	return l.write(ctx, func(t *tx) error {
		n, err := t.exec("UPDATE wallets SET stopped = CASE WHEN stopped = '' THEN ? ELSE stopped END WHERE role = 'treasury'", StoppedByOperator)
		if err == nil && n == 0 {
			err = schemas.Errorf(schemas.KindNotFound, "there is no treasury yet")
		}
		return err
	})
}

// RunPayouts has the next round pay every positive balance of at least its owner's minimum, whatever the thresholds say.
func (l *Ledger) RunPayouts(ctx context.Context) error {
	return l.write(ctx, func(t *tx) error {
		n, err := t.exec("UPDATE wallets SET forced = 1 WHERE role = 'treasury'")
		if err == nil && n == 0 {
			err = schemas.Errorf(schemas.KindNotFound, "there is no treasury yet")
		}
		return err
	})
}

// unforce notes that the round was made that RunPayouts asked for.
func (l *Ledger) unforce(ctx context.Context, w walletRow) error {
	return l.write(ctx, func(t *tx) error {
		_, err := t.exec("UPDATE wallets SET forced = 0 WHERE id = ?", w.id)
		return err
	})
}

// ResumePayouts lets payouts go on. If the chain shows payments that this ledger does not know, adopt must be set, or the
// answer is KindConflict: they are then booked against the owners that received them, so that nobody is paid twice, and
// against "unexplained" for all other receivers. With adopt a balance that nobody can explain is written off, too.
func (l *Ledger) ResumePayouts(ctx context.Context, adopt bool) error {
	return l.write(ctx, func(t *tx) error {
		strangers, err := t.strangers(strangerAccepted, strangerExecuted)
		if err != nil {
			return err
		}
		if len(strangers) > 0 && !adopt {
			return schemas.Errorf(schemas.KindConflict, "the treasury made %d payments that are not in the ledger; look at them and adopt them", len(strangers))
		}
		for _, s := range strangers {
			if s.state != strangerExecuted {
				return schemas.Errorf(schemas.KindUnavailable, "transaction %s is not carried out yet; try again in a minute", s.Transaction)
			}
			if err := t.adopt(s); err != nil {
				return err
			}
		}
		_, err = t.exec("UPDATE wallets SET explained = CASE WHEN stopped = ? THEN ? ELSE explained END, stopped = '' WHERE role = 'treasury'",
			string(AlertUnexplained), flag(adopt))
		return err
	})
}

// Stranger is a payment by the treasury that no batch of this ledger asked for.
type Stranger struct {
	Transaction string    `json:"transaction"`
	Outs        []ton.Out `json:"outs"`
	lt          uint64
	wallet      int64
	state       string
}

// Strangers lists payments that the ledger does not know and nobody has adopted.
func (l *Ledger) Strangers(ctx context.Context) (all []Stranger, err error) {
	err = l.read(ctx, func(t *tx) error {
		all, err = t.strangers(strangerAccepted, strangerExecuted)
		return err
	})
	return all, err
}

// strangers lists rows in one of two states.
func (t *tx) strangers(a, b string) ([]Stranger, error) {
	var all []Stranger
	err := t.each(func(scan func(...any) error) error {
		var s Stranger
		var outs []byte
		if err := scan(&s.wallet, &s.lt, &s.Transaction, &outs, &s.state); err != nil {
			return err
		}
		all = append(all, s)
		return json.Unmarshal(outs, &all[len(all)-1].Outs)
	}, "SELECT wallet, lt, hash, outs, state FROM strangers WHERE state IN (?, ?) ORDER BY lt", a, b)
	return all, err
}

// adopt books a stranger's payments. The entries carry the logical time of the stranger's transaction, so that they
// count once in the owners' coverage: no mark lies beyond it, because payouts have been stopped since.
func (t *tx) adopt(s Stranger) error {
	treasury, err := t.account(acctTreasury)
	if err != nil {
		return err
	}
	for i, out := range s.Outs {
		account, known, err := t.findAccount(ownerPrefix + string(out.To))
		if err == nil && !known {
			account, err = t.account(acctUnexplained)
		}
		if err != nil {
			return err
		}
		ref := s.Transaction + "/" + strconv.Itoa(i)
		if _, err := t.exec("UPDATE owners SET returned = returned - ? WHERE account = ?", int64(out.Amount), account); err != nil {
			return err
		}
		if _, err := t.post(entryAdopted, ref, s.lt, posting{account, -out.Amount}, posting{treasury, out.Amount}); err != nil {
			return err
		}
	}
	_, err = t.exec("UPDATE strangers SET state = ? WHERE wallet = ? AND lt = ?", strangerAdopted, s.wallet, int64(s.lt))
	return err
}

// Payee is a worker owner as payouts see it.
type Payee struct {
	Owner schemas.Owner `json:"owner"`
	// Owed is what no batch carries yet, Inflight what a batch carries that is not judged, Paid what the chain shows as
	// paid, less what came back. Their sum is what the owner ever earned.
	Owed     schemas.NanoTON `json:"owed"`
	Inflight schemas.NanoTON `json:"inflight"`
	Paid     schemas.NanoTON `json:"paid"`
	// Minimum is the smallest payout that the owner wants.
	Minimum schemas.NanoTON `json:"minimum"`
	// Flagged is why the owner is not paid: "bounced", or empty.
	Flagged string `json:"flagged,omitempty"`
}

// Payees lists owners, those owed most first.
func (l *Ledger) Payees(ctx context.Context, limit int) (all []Payee, err error) {
	err = l.read(ctx, func(t *tx) error {
		return t.each(func(scan func(...any) error) error {
			var p Payee
			err := scan(&p.Owner, &p.Owed, &p.Inflight, &p.Paid, &p.Minimum, &p.Flagged)
			all = append(all, p)
			return err
		}, `SELECT o.address, a.balance, CAST(COALESCE(i.amount, 0) AS BIGINT), o.paid - o.returned, o.minimum, o.flagged
			FROM owners o JOIN accounts a ON a.id = o.account
			LEFT JOIN (SELECT account, SUM(amount) AS amount FROM items WHERE state = 'open' GROUP BY account) i ON i.account = o.account
			ORDER BY a.balance DESC, o.address LIMIT ?`, limit)
	})
	return all, err
}

// SetMinimum sets the smallest payout that an owner wants. The owner need not have earned anything yet.
func (l *Ledger) SetMinimum(ctx context.Context, owner schemas.Owner, minimum schemas.NanoTON) error {
	if _, err := schemas.ParseOwner(string(owner)); err != nil {
		return err
	}
	if minimum < 0 || minimum > MaxAmount {
		return schemas.FieldError("minimum", "must lie between 0 and 100,000,000 TON")
	}
	return l.write(ctx, func(t *tx) error {
		account, err := t.account(ownerPrefix + string(owner))
		if err != nil {
			return err
		}
		_, err = t.exec("UPDATE owners SET minimum = ? WHERE account = ?", int64(minimum), account)
		return err
	})
}

// ClearFlag lets an owner be paid again whose address refused a payout.
func (l *Ledger) ClearFlag(ctx context.Context, owner schemas.Owner) error {
	return l.write(ctx, func(t *tx) error {
		n, err := t.exec("UPDATE owners SET flagged = '' WHERE address = ?", string(owner))
		if err == nil && n == 0 {
			err = schemas.Errorf(schemas.KindNotFound, "there is no owner %s", owner)
		}
		return err
	})
}

// PayoutBatch is one batch of payouts.
type PayoutBatch struct {
	Batch uint64 `json:"batch"`
	// State is signed, accepted, done or expired.
	State string `json:"state"`
	// Created is chain time.
	Created time.Time       `json:"created"`
	Items   int             `json:"items"`
	Total   schemas.NanoTON `json:"total"`
	// Paid is what the chain shows as paid.
	Paid schemas.NanoTON `json:"paid"`
	// Root is the statement root in hex; it stands on chain in the batch's note.
	Root string `json:"root"`
	// Transaction is the one that settled it, in hex.
	Transaction string `json:"transaction,omitempty"`
}

// PayoutBatches lists the newest batches first, at most limit; with a number above 0 only that one.
func (l *Ledger) PayoutBatches(ctx context.Context, number uint64, limit int) (all []PayoutBatch, err error) {
	err = l.read(ctx, func(t *tx) error {
		return t.each(func(scan func(...any) error) error {
			var b PayoutBatch
			var created int64
			err := scan(&b.Batch, &b.State, &created, &b.Root, &b.Transaction, &b.Items, &b.Total, &b.Paid)
			b.Created = time.Unix(created, 0).UTC()
			all = append(all, b)
			return err
		}, `SELECT b.number, b.state, b.created, b.root, b.settled_tx, COUNT(*), CAST(SUM(i.amount) AS BIGINT),
			CAST(SUM(CASE WHEN i.state = 'paid' THEN i.amount ELSE 0 END) AS BIGINT)
			FROM batches b JOIN items i ON i.batch = b.number WHERE ? = 0 OR b.number = ?
			GROUP BY b.number, b.state, b.created, b.root, b.settled_tx ORDER BY b.number DESC LIMIT ?`, int64(number), int64(number), limit)
	})
	return all, err
}

// PayoutItem is one transfer of a batch as it stands.
type PayoutItem struct {
	To      schemas.Owner   `json:"to"`
	Amount  schemas.NanoTON `json:"amount"`
	Purpose string          `json:"purpose"`
	// State is open, paid or owed.
	State string `json:"state"`
}

// PayoutItems lists the items of a batch in order.
func (l *Ledger) PayoutItems(ctx context.Context, batch uint64) (all []PayoutItem, err error) {
	err = l.read(ctx, func(t *tx) error {
		return t.each(func(scan func(...any) error) error {
			var i PayoutItem
			err := scan(&i.To, &i.Amount, &i.Purpose, &i.State)
			all = append(all, i)
			return err
		}, "SELECT address, amount, purpose, state FROM items WHERE batch = ? ORDER BY position", int64(batch))
	})
	return all, err
}
