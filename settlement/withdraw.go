package settlement

import (
	"context"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Purposes of payout items.
const (
	PurposeEarnings = "earnings"
	PurposeRefund   = "refund"
	PurposeFee      = "fee"
)

// Withdrawal is a payment out that somebody asked for. The next payout batch carries it.
type Withdrawal struct {
	// ID is the idempotency key: the caller's reference, or the deposit's hash for refunds from suspense.
	ID string `json:"id"`
	// Source is the account that the money comes from, such as "tenant:t…", "suspense" or "fees".
	Source string `json:"source"`
	// To is the address paid.
	To      schemas.Owner   `json:"to"`
	Amount  schemas.NanoTON `json:"amount"`
	Purpose string          `json:"purpose"`
	// State is pending, batched, paid or cancelled.
	State     string    `json:"state"`
	Requested time.Time `json:"requested"`
}

// RefundTenant asks for money of a tenant back: at most its free balance less what is on hold. The same id again does
// nothing.
func (l *Ledger) RefundTenant(ctx context.Context, id string, tenant schemas.TenantID, to schemas.Owner, amount schemas.NanoTON) error {
	return l.write(ctx, func(t *tx) error {
		r, err := t.tenant(tenant)
		if err != nil {
			return err
		}
		b, err := t.standing(r)
		if err != nil {
			return err
		}
		w := Withdrawal{ID: id, Source: tenantPrefix + string(tenant), To: to, Amount: amount, Purpose: PurposeRefund}
		return t.withdraw(w, b.Balance-b.Reserved)
	})
}

// RefundDeposit sends a deposit that waits in suspense back to where it came from.
func (l *Ledger) RefundDeposit(ctx context.Context, hash string) error {
	return l.write(ctx, func(t *tx) error {
		amount, from, err := t.suspended(hash)
		if err != nil {
			return err
		}
		return t.withdraw(Withdrawal{ID: hash, Source: acctSuspense, To: from, Amount: amount, Purpose: PurposeRefund}, amount)
	})
}

// WithdrawFees asks for the network's earned fees. The same id again does nothing.
func (l *Ledger) WithdrawFees(ctx context.Context, id string, to schemas.Owner, amount schemas.NanoTON) error {
	return l.write(ctx, func(t *tx) error {
		fees, err := t.account(acctFees)
		if err != nil {
			return err
		}
		have, err := t.balance(fees)
		if err != nil {
			return err
		}
		return t.withdraw(Withdrawal{ID: id, Source: acctFees, To: to, Amount: amount, Purpose: PurposeFee}, have)
	})
}

// withdraw sets money aside for a payout, if the source has it.
func (t *tx) withdraw(w Withdrawal, have schemas.NanoTON) error {
	if w.ID == "" || len(w.ID) > MaxRef {
		return schemas.FieldError("id", "must have 1 to 128 bytes")
	}
	if _, err := schemas.ParseOwner(string(w.To)); err != nil {
		return err
	}
	if w.Amount <= 0 || w.Amount > MaxAmount {
		return schemas.FieldError("amount", "must lie above 0 and be at most 100,000,000 TON")
	}
	known, err := t.withdrawal(w.ID)
	if err == nil {
		if known.Source != w.Source || known.To != w.To || known.Amount != w.Amount || known.State == "cancelled" {
			return schemas.Errorf(schemas.KindConflict, "withdrawal %q exists with other contents, or was cancelled", w.ID)
		}
		return nil
	}
	if schemas.KindOf(err) != schemas.KindNotFound {
		return err
	}
	if have < w.Amount {
		return schemas.Errorf(schemas.KindCredit, "%s has %s to give, asked for %s", w.Source, max(0, have), w.Amount)
	}
	return t.setAside(entryRequest, w, "pending")
}

// setAside posts the money of a withdrawal and keeps it.
func (t *tx) setAside(kind string, w Withdrawal, state string) error {
	source, err := t.account(w.Source)
	if err != nil {
		return err
	}
	aside, err := t.account(acctWithdrawals)
	if err != nil {
		return err
	}
	if _, err := t.post(kind, w.ID, 0, posting{source, -w.Amount}, posting{aside, w.Amount}); err != nil {
		return err
	}
	_, err = t.exec("INSERT INTO withdrawals (id, source, address, amount, purpose, requested, state) VALUES (?, ?, ?, ?, ?, ?, ?)",
		w.ID, w.Source, string(w.To), int64(w.Amount), w.Purpose, t.now, state)
	return err
}

// CancelWithdrawal gives the money of a pending withdrawal back to its source. One that is in a batch already is
// KindConflict. A cancelled id cannot be used again.
func (l *Ledger) CancelWithdrawal(ctx context.Context, id string) error {
	return l.write(ctx, func(t *tx) error {
		w, err := t.withdrawal(id)
		if err != nil {
			return err
		}
		if w.State != "pending" {
			return schemas.Errorf(schemas.KindConflict, "withdrawal %q is %s", id, w.State)
		}
		source, err := t.account(w.Source)
		if err != nil {
			return err
		}
		aside, err := t.account(acctWithdrawals)
		if err != nil {
			return err
		}
		if _, err := t.post(entryCancel, id, 0, posting{aside, -w.Amount}, posting{source, w.Amount}); err != nil {
			return err
		}
		_, err = t.exec("UPDATE withdrawals SET state = 'cancelled' WHERE id = ?", id)
		return err
	})
}

// withdrawalColumns is what scanWithdrawal reads.
const withdrawalColumns = "SELECT id, source, address, amount, purpose, state, requested FROM withdrawals "

// scanWithdrawal reads a row of withdrawalColumns.
func scanWithdrawal(scan func(...any) error) (w Withdrawal, err error) {
	var at int64
	err = scan(&w.ID, &w.Source, &w.To, &w.Amount, &w.Purpose, &w.State, &at)
	w.Requested = time.Unix(at, 0).UTC()
	return w, err
}

// withdrawal finds a withdrawal by id.
func (t *tx) withdrawal(id string) (w Withdrawal, err error) {
	all, err := t.withdrawals("WHERE id = ?", id)
	if err == nil && len(all) == 0 {
		return w, schemas.Errorf(schemas.KindNotFound, "there is no withdrawal %q", id)
	}
	if err != nil {
		return w, err
	}
	return all[0], nil
}

// withdrawals lists withdrawals that meet a condition.
func (t *tx) withdrawals(where string, args ...any) ([]Withdrawal, error) {
	var all []Withdrawal
	err := t.each(func(scan func(...any) error) error {
		w, err := scanWithdrawal(scan)
		all = append(all, w)
		return err
	}, withdrawalColumns+where, args...)
	return all, err
}

// Withdrawals lists the newest withdrawals first, at most limit.
func (l *Ledger) Withdrawals(ctx context.Context, limit int) ([]Withdrawal, error) {
	var all []Withdrawal
	err := l.read(ctx, func(t *tx) (err error) {
		all, err = t.withdrawals("ORDER BY requested DESC, id LIMIT ?", limit)
		return err
	})
	return all, err
}
