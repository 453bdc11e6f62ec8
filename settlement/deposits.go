package settlement

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// DepositsConfig configures Deposits.
type DepositsConfig struct {
	Ledger *Ledger
	// Wallet is where tenants send money, if that is not the treasury, which the Payer follows.
	Wallet Wallet
	// Poll is the pause between looks at the chain; 0 means 5 s.
	Poll   time.Duration
	Logger *slog.Logger
}

// defaultPoll is the pause between looks at the chain: about one block.
const defaultPoll = 5 * time.Second

// TopUpMemo is the comment by which the operator's own money for payouts names itself when it arrives at the treasury.
const TopUpMemo = "cocoon top-up"

// Deposits credits what arrives at a wallet of deposits, whose key settlement does not have: tenants may pay straight to
// the treasury, where the [Payer] credits them by the same rule, and a second wallet is for operators who keep most of
// what tenants paid under a key of their own. What such a wallet sends to the treasury is known to be the same money.
//
// Money whose memo names a tenant is the tenant's; all other money waits in suspense for [Ledger.AssignDeposit],
// [Ledger.KeepDeposit] or [Ledger.RefundDeposit]. Messages that bounced or failed moved no money and are passed over.
type Deposits struct {
	cfg    DepositsConfig
	follow follower
	// mu lets one round run at a time and guards count, the deposits of the round.
	mu    sync.Mutex
	count int
}

// NewDeposits checks the configuration.
func NewDeposits(cfg DepositsConfig) (*Deposits, error) {
	if cfg.Ledger == nil || cfg.Wallet == nil {
		return nil, schemas.FieldError("deposits", "needs Ledger and Wallet")
	}
	cfg.Poll = positive(cfg.Poll, defaultPoll)
	cfg.Logger = logger(cfg.Logger)
	d := &Deposits{cfg: cfg}
	d.follow = follower{ledger: cfg.Ledger, wallet: cfg.Wallet, role: roleDeposits, apply: d.apply}
	return d, nil
}

// Run follows the wallet until ctx ends; while the chain is away it waits.
func (d *Deposits) Run(ctx context.Context) error {
	for {
		if _, err := d.Tick(ctx); err != nil && ctx.Err() == nil {
			if schemas.KindOf(err) == schemas.KindCorrupt {
				return err
			}
			d.cfg.Logger.Warn("deposits wait", slog.Any("error", err))
		}
		if !pause(ctx, d.cfg.Poll) {
			return nil
		}
	}
}

// Tick books everything that has arrived by now and returns how many deposits that were.
func (d *Deposits) Tick(ctx context.Context) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count = 0
	_, err := d.follow.walk(ctx)
	if errors.Is(err, errMoved) {
		err = nil
	}
	return d.count, err
}

// apply books one event of the deposit wallet.
func (d *Deposits) apply(t *tx, w walletRow, event ton.Event) error {
	deposit, ok := event.(ton.Deposit)
	if !ok || deposit.Amount <= 0 {
		return nil
	}
	d.count++
	return t.deposit(w, deposit, acctDeposits)
}

// deposit credits one arrival of money to the tenant that its memo names, or to suspense.
func (t *tx) deposit(w walletRow, d ton.Deposit, wallet string) error {
	from, err := t.account(wallet)
	if err != nil {
		return err
	}
	tenant, err := t.tenantByMemo(d.Memo)
	if err != nil {
		return err
	}
	var lines []posting
	var id any // NULL
	if tenant != nil {
		id = string(tenant.ID)
		lines, err = t.credit(*tenant, d.Amount)
	} else {
		var suspense int64
		suspense, err = t.account(acctSuspense)
		lines = []posting{{suspense, d.Amount}}
	}
	if err != nil {
		return err
	}
	entry, err := t.post(entryDeposit, d.Hash.String(), d.LT, append(lines, posting{from, -d.Amount})...)
	if err != nil {
		return err
	}
	_, err = t.exec("INSERT INTO deposits (hash, wallet, lt, sender, amount, memo, tenant, entry) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		d.Hash.String(), w.id, int64(d.LT), string(d.From), int64(d.Amount), printable(d.Memo, MaxRef), id, entry)
	return err
}

// tenantByMemo finds who a memo names, nil for nobody. Space around it is forgiven: wallets and people add it.
func (t *tx) tenantByMemo(memo string) (*tenantRow, error) {
	memo = strings.TrimSpace(memo)
	if memo == "" || len(memo) > MaxName {
		return nil, nil
	}
	var id schemas.TenantID
	found, err := t.one([]any{&id}, "SELECT id FROM tenants WHERE memo = ?", memo)
	if err != nil || !found {
		return nil, err
	}
	r, err := t.tenant(id)
	return &r, err
}

// DepositRow is one arrival of money.
type DepositRow struct {
	// Hash is the transaction.
	Hash   string          `json:"hash"`
	From   schemas.Owner   `json:"from"`
	Amount schemas.NanoTON `json:"amount"`
	// Memo is user input, cut to 128 bytes and made printable.
	Memo string `json:"memo"`
	// Tenant is who was credited, empty while the money is in suspense.
	Tenant schemas.TenantID `json:"tenant,omitempty"`
	At     time.Time        `json:"at"`
}

// Deposits lists arrivals, the newest first; suspense limits the list to those that wait for a decision.
func (l *Ledger) Deposits(ctx context.Context, suspense bool, limit int) ([]DepositRow, error) {
	var all []DepositRow
	query := `SELECT d.hash, d.sender, d.amount, d.memo, COALESCE(d.tenant, ''), e.at FROM deposits d JOIN entries e ON e.id = d.entry `
	if suspense {
		query += `WHERE d.tenant IS NULL AND NOT EXISTS (SELECT 1 FROM entries x WHERE x.kind = 'assign' AND x.ref = d.hash)
			AND NOT EXISTS (SELECT 1 FROM withdrawals w WHERE w.id = d.hash AND w.state <> 'cancelled') `
	}
	err := l.read(ctx, func(t *tx) error {
		return t.each(func(scan func(...any) error) error {
			var d DepositRow
			var at int64
			err := scan(&d.Hash, &d.From, &d.Amount, &d.Memo, &d.Tenant, &at)
			d.At = time.Unix(at, 0).UTC()
			all = append(all, d)
			return err
		}, query+"ORDER BY d.entry DESC LIMIT ?", limit)
	})
	return all, err
}

// AssignDeposit gives a deposit that waits in suspense to a tenant.
func (l *Ledger) AssignDeposit(ctx context.Context, hash string, id schemas.TenantID) error {
	return l.write(ctx, func(t *tx) error {
		amount, _, err := t.suspended(hash)
		if err != nil {
			return err
		}
		r, err := t.tenant(id)
		if err != nil {
			return err
		}
		suspense, err := t.account(acctSuspense)
		if err != nil {
			return err
		}
		lines, err := t.credit(r, amount)
		if err != nil {
			return err
		}
		_, err = t.post(entryAssign, hash, 0, append(lines, posting{suspense, -amount})...)
		return err
	})
}

// KeepDeposit books a deposit that waits in suspense as the operator's own: a top-up of the treasury without its memo.
func (l *Ledger) KeepDeposit(ctx context.Context, hash string) error {
	return l.write(ctx, func(t *tx) error {
		amount, _, err := t.suspended(hash)
		if err != nil {
			return err
		}
		operator, err := t.account(acctOperator)
		if err != nil {
			return err
		}
		suspense, err := t.account(acctSuspense)
		if err != nil {
			return err
		}
		_, err = t.post(entryAssign, hash, 0, posting{suspense, -amount}, posting{operator, amount})
		return err
	})
}

// DepositAddress is where tenants pay: the wallet of deposits that was followed last, else the treasury. It is
// KindNotFound before settlement has followed either.
func (l *Ledger) DepositAddress(ctx context.Context) (address schemas.Owner, err error) {
	err = l.read(ctx, func(t *tx) error {
		found, err := t.one([]any{&address}, "SELECT address FROM wallets ORDER BY role = 'deposits' DESC, id DESC LIMIT 1")
		if err == nil && !found {
			err = schemas.Errorf(schemas.KindNotFound, "no wallet takes deposits yet: settlement has not run with a chain")
		}
		return err
	})
	return address, err
}

// suspended finds a deposit about which nobody has decided yet.
func (t *tx) suspended(hash string) (amount schemas.NanoTON, from schemas.Owner, err error) {
	var tenant string
	found, err := t.one([]any{&amount, &from, &tenant}, "SELECT amount, sender, COALESCE(tenant, '') FROM deposits WHERE hash = ?", hash)
	if err != nil {
		return 0, "", err
	}
	if !found {
		return 0, "", schemas.Errorf(schemas.KindNotFound, "there is no deposit %s", hash)
	}
	assigned, err := t.posted(entryAssign, hash)
	if err != nil {
		return 0, "", err
	}
	var state string
	refunded, err := t.one([]any{&state}, "SELECT state FROM withdrawals WHERE id = ? AND state <> 'cancelled'", hash)
	if err == nil && (tenant != "" || assigned || refunded) {
		err = schemas.Errorf(schemas.KindConflict, "deposit %s is not in suspense any more", hash)
	}
	return amount, from, err
}
