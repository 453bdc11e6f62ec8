package settlement

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/schemas"
)

// DefaultStake is the stake that a new tenant's deposits fill first.
const DefaultStake = schemas.TON

// Limits of what people type.
const (
	// MaxName bounds labels and memos in bytes.
	MaxName = 64
	// MaxRef bounds references of payments in bytes.
	MaxRef = 128
	// MaxAmount bounds one amount that a person moves by hand: 100,000,000 TON.
	MaxAmount = 100_000_000 * schemas.TON
)

// Tenant is an account that submits and pays.
type Tenant struct {
	// ID is the id on the wire.
	ID schemas.TenantID `json:"tenant"`
	// Name is the operator's own label; it never leaves the ledger.
	Name string `json:"name,omitempty"`
	// Key is the tenant's Ed25519 public key; brokers verify spend authorisations with it.
	Key ed25519.PublicKey `json:"key"`
	// Memo is the text by which deposits name the tenant. It is random, so that the chain does not show wire ids.
	Memo string `json:"memo"`
	// StakeTarget is how much of the tenant's money is kept locked against overdraft. It also is the window of work
	// that may be in flight unbooked. In CreateTenant 0 means DefaultStake and a negative value none.
	StakeTarget schemas.NanoTON `json:"stake_target"`
	// Created is when the account was made.
	Created time.Time `json:"created"`
}

// Balance is where a tenant stands.
type Balance struct {
	// Available = min(Paid, Stake + Charged) − Reserved − Charged, never below 0: what may be granted now.
	Available schemas.NanoTON `json:"available"`
	// Balance is the money that is not stake; negative while the tenant is overdrawn.
	Balance schemas.NanoTON `json:"balance"`
	// Stake is the locked part.
	Stake schemas.NanoTON `json:"stake"`
	// Reserved is the sum of the unexpired holds.
	Reserved schemas.NanoTON `json:"reserved"`
	// Paid is all that the tenant ever paid in, less the stake and what was paid back.
	Paid schemas.NanoTON `json:"paid"`
	// Charged is all that was ever booked for its jobs.
	Charged schemas.NanoTON `json:"charged"`
}

// tenantRow is a tenant with its accounts.
type tenantRow struct {
	Tenant
	account, stake int64
}

// CreateTenant opens an account. ID and Key are required, an empty Memo is chosen at random. The same tenant again is
// answered with what exists; another key under the same id is KindConflict.
func (l *Ledger) CreateTenant(ctx context.Context, n Tenant) (Tenant, error) {
	if err := n.complete(); err != nil {
		return Tenant{}, err
	}
	var made Tenant
	err := l.write(ctx, func(t *tx) error {
		have, err := t.tenant(n.ID)
		if err == nil {
			made = have.Tenant
			if !bytes.Equal(have.Key, n.Key) {
				return schemas.Errorf(schemas.KindConflict, "tenant %s exists with another key", n.ID)
			}
			return nil
		}
		if schemas.KindOf(err) != schemas.KindNotFound {
			return err
		}
		made = n
		made.Created = time.Unix(t.now, 0).UTC()
		return t.insertTenant(made)
	})
	return made, err
}

// complete checks a new tenant and fills in what was left out.
func (n *Tenant) complete() error {
	if _, err := schemas.ParseTenantID(string(n.ID)); err != nil {
		return err
	}
	if len(n.Key) != ed25519.PublicKeySize {
		return schemas.FieldError("key", "must be an Ed25519 public key of 32 bytes")
	}
	if len(n.Name) > MaxName || !utf8.ValidString(n.Name) {
		return schemas.FieldError("name", "must be at most 64 bytes of UTF-8")
	}
	if n.Memo == "" {
		n.Memo = "cocoon-" + strings.ToLower(rand.Text()[:16])
	}
	if n.Memo == TopUpMemo {
		return schemas.FieldError("memo", "is the one of the operator's top-ups")
	}
	if len(n.Memo) > MaxName || strings.TrimSpace(n.Memo) != n.Memo || !utf8.ValidString(n.Memo) {
		return schemas.FieldError("memo", "must be at most 64 bytes of UTF-8 without space around")
	}
	switch {
	case n.StakeTarget == 0:
		n.StakeTarget = DefaultStake
	case n.StakeTarget < 0:
		n.StakeTarget = 0
	case n.StakeTarget > MaxAmount:
		return schemas.FieldError("stake", "is above 100,000,000 TON")
	}
	return nil
}

// insertTenant writes a new tenant.
func (t *tx) insertTenant(n Tenant) error {
	account, err := t.account(tenantPrefix + string(n.ID))
	if err != nil {
		return err
	}
	stake, err := t.account(stakePrefix + string(n.ID))
	if err != nil {
		return err
	}
	_, err = t.exec("INSERT INTO tenants (id, name, key, memo, account, stake, target, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		string(n.ID), n.Name, []byte(n.Key), n.Memo, account, stake, int64(n.StakeTarget), n.Created.Unix())
	return err
}

// tenantColumns is what scanTenant reads.
const tenantColumns = "SELECT id, name, key, memo, account, stake, target, created FROM tenants "

// scanTenant reads a row of tenantColumns.
func scanTenant(scan func(...any) error) (r tenantRow, err error) {
	var created int64
	var key []byte
	err = scan(&r.ID, &r.Name, &key, &r.Memo, &r.account, &r.stake, &r.StakeTarget, &created)
	r.Key, r.Created = key, time.Unix(created, 0).UTC()
	return r, err
}

// tenant finds a tenant by id.
func (t *tx) tenant(id schemas.TenantID) (r tenantRow, err error) {
	found := false
	err = t.each(func(scan func(...any) error) (err error) {
		found = true
		r, err = scanTenant(scan)
		return err
	}, tenantColumns+"WHERE id = ?", string(id))
	if err == nil && !found {
		err = schemas.Errorf(schemas.KindNotFound, "there is no tenant %s", id)
	}
	return r, err
}

// Tenant finds an account by id; KindNotFound when there is none.
func (l *Ledger) Tenant(ctx context.Context, id schemas.TenantID) (Tenant, error) {
	var r tenantRow
	err := l.read(ctx, func(t *tx) (err error) {
		r, err = t.tenant(id)
		return err
	})
	return r.Tenant, err
}

// Tenants lists all accounts, oldest first.
func (l *Ledger) Tenants(ctx context.Context) ([]Tenant, error) {
	var all []Tenant
	err := l.read(ctx, func(t *tx) error {
		return t.each(func(scan func(...any) error) error {
			r, err := scanTenant(scan)
			all = append(all, r.Tenant)
			return err
		}, tenantColumns+"ORDER BY created, id")
	})
	return all, err
}

// Balance computes where a tenant stands.
func (l *Ledger) Balance(ctx context.Context, id schemas.TenantID) (Balance, error) {
	var b Balance
	err := l.read(ctx, func(t *tx) error {
		r, err := t.tenant(id)
		if err != nil {
			return err
		}
		if b, err = t.standing(r); err != nil {
			return err
		}
		_, err = t.one([]any{&b.Charged}, `SELECT -COALESCE(SUM(p.amount), 0) FROM postings p JOIN entries e ON e.id = p.entry
			WHERE p.account = ? AND e.kind = ?`, r.account, entryJob)
		b.Paid = b.Balance + b.Charged
		return err
	})
	return b, err
}

// standing computes what brokers need; Charged and Paid, which cancel out of Available, are left out.
//
// With Charged counted on both sides, min(Paid, Stake + Charged) − Charged is min(Balance, Stake): a tenant may have as
// much unbooked work in flight as its stake covers, and never more than it has money for.
func (t *tx) standing(r tenantRow) (b Balance, err error) {
	if b.Balance, err = t.balance(r.account); err != nil {
		return b, err
	}
	if b.Stake, err = t.balance(r.stake); err != nil {
		return b, err
	}
	_, err = t.one([]any{&b.Reserved}, "SELECT COALESCE(SUM(amount), 0) FROM holds WHERE tenant = ? AND expires > ?", string(r.ID), t.now)
	b.Available = max(0, min(b.Balance, b.Stake)-b.Reserved)
	return b, err
}

// Fund credits money that reached the operator by another way than the chain. ref names the payment: the same
// ref again does nothing, with another amount or tenant it is KindConflict.
func (l *Ledger) Fund(ctx context.Context, id schemas.TenantID, amount schemas.NanoTON, ref string) error {
	if amount <= 0 || amount > MaxAmount {
		return schemas.FieldError("amount", "must lie above 0 and be at most 100,000,000 TON")
	}
	if ref == "" || len(ref) > MaxRef {
		return schemas.FieldError("ref", "must have 1 to 128 bytes")
	}
	return l.write(ctx, func(t *tx) error {
		r, err := t.tenant(id)
		if err != nil {
			return err
		}
		operator, err := t.account(acctOperator)
		if err != nil {
			return err
		}
		known, err := t.posted(entryFund, ref)
		if err != nil {
			return err
		}
		if known {
			return t.sameFund(r, operator, amount, ref)
		}
		lines, err := t.credit(r, amount)
		if err != nil {
			return err
		}
		_, err = t.post(entryFund, ref, 0, append(lines, posting{operator, -amount})...)
		return err
	})
}

// sameFund checks that a repeated payment is the one that was booked.
func (t *tx) sameFund(r tenantRow, operator int64, amount schemas.NanoTON, ref string) error {
	var booked, toTenant schemas.NanoTON
	_, err := t.one([]any{&booked, &toTenant}, `SELECT
		COALESCE(-SUM(CASE WHEN p.account = ? THEN p.amount END), 0), COALESCE(SUM(CASE WHEN p.account IN (?, ?) THEN p.amount END), 0)
		FROM entries e JOIN postings p ON p.entry = e.id WHERE e.kind = ? AND e.ref = ?`, operator, r.account, r.stake, entryFund, ref)
	if err == nil && (booked != amount || toTenant != amount) {
		err = schemas.Errorf(schemas.KindConflict, "payment %q was booked with another amount or tenant", ref)
	}
	return err
}

// credit splits money that arrives for a tenant: first what it is overdrawn, then the stake up to its target, the rest
// is free balance.
func (t *tx) credit(r tenantRow, amount schemas.NanoTON) ([]posting, error) {
	balance, err := t.balance(r.account)
	if err != nil {
		return nil, err
	}
	stake, err := t.balance(r.stake)
	if err != nil {
		return nil, err
	}
	debt := min(amount, max(0, -balance))
	lock := min(amount-debt, max(0, r.StakeTarget-stake))
	return []posting{{r.account, amount - lock}, {r.stake, lock}}, nil
}

// SetStake changes the stake target and moves as much as there is, in either direction.
func (l *Ledger) SetStake(ctx context.Context, id schemas.TenantID, target schemas.NanoTON) error {
	if target < 0 || target > MaxAmount {
		return schemas.FieldError("stake", "must lie between 0 and 100,000,000 TON")
	}
	return l.write(ctx, func(t *tx) error {
		r, err := t.tenant(id)
		if err != nil {
			return err
		}
		if _, err := t.exec("UPDATE tenants SET target = ? WHERE id = ?", int64(target), string(id)); err != nil {
			return err
		}
		b, err := t.standing(r)
		if err != nil {
			return err
		}
		move := min(target-b.Stake, max(0, b.Balance))
		if move == 0 {
			return nil
		}
		_, err = t.post(entryStake, rand.Text(), 0, posting{r.account, -move}, posting{r.stake, move})
		return err
	})
}
