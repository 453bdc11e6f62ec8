package settlement

import (
	"context"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// audits are queries that find what must not exist. Each returns one row when it does: a description.
var audits = []struct{ rule, query string }{
	{"the postings of an entry add up to zero", `SELECT CAST(entry AS TEXT) FROM postings GROUP BY entry HAVING SUM(amount) <> 0 LIMIT 1`},
	{"a balance is the sum of its postings", `SELECT a.name FROM accounts a LEFT JOIN (SELECT account, SUM(amount) AS amount FROM postings
		GROUP BY account) p ON p.account = a.id WHERE a.balance <> COALESCE(p.amount, 0) LIMIT 1`},
	{"a receipt is posted as it was priced", `SELECT CAST(r.seq AS TEXT) FROM receipts r
		LEFT JOIN postings t ON t.entry = r.entry AND t.account = r.tenant
		LEFT JOIN postings o ON o.entry = r.entry AND o.account = r.owner
		WHERE COALESCE(t.amount, 0) <> -r.total OR COALESCE(o.amount, 0) <> r.total - r.fee LIMIT 1`},
	{"every job entry has its receipt", `SELECT CAST(e.id AS TEXT) FROM entries e LEFT JOIN receipts r ON r.seq = e.place AND r.entry = e.id
		WHERE e.kind = 'job' AND r.seq IS NULL LIMIT 1`},
	{"money in flight is the sum of the open items", `SELECT a.name FROM accounts a WHERE a.name = 'inflight'
		AND a.balance <> COALESCE((SELECT SUM(amount) FROM items WHERE state = 'open'), 0)`},
	{"withdrawals set aside are those pending", `SELECT a.name FROM accounts a WHERE a.name = 'withdrawals'
		AND a.balance <> COALESCE((SELECT SUM(amount) FROM withdrawals WHERE state = 'pending'), 0)`},
	{"what owners were paid is the sum of their paid items", `SELECT o.address FROM owners o LEFT JOIN (SELECT account, SUM(amount) AS amount
		FROM items WHERE state = 'paid' GROUP BY account) i ON i.account = o.account WHERE o.paid <> COALESCE(i.amount, 0) LIMIT 1`},
	{"what workers earned by the hour is the sum of their receipts", `SELECT CAST(COALESCE(e.worker, r.worker) AS TEXT) FROM earnings e
		FULL JOIN (SELECT worker, finished / 3600 * 3600 AS hour, COUNT(*) AS receipts, SUM(prompt + cached + completion + reasoning) AS tokens,
			SUM(total) AS charged, SUM(total - fee) AS earned FROM receipts GROUP BY worker, finished / 3600 * 3600) r
		ON r.worker = e.worker AND r.hour = e.hour
		WHERE r.worker IS NULL OR e.worker IS NULL OR e.receipts <> r.receipts OR e.prompt + e.cached + e.completion + e.reasoning <> r.tokens
			OR e.charged <> r.charged OR e.earned <> r.earned LIMIT 1`},
	{"open items belong to open batches", `SELECT CAST(i.batch AS TEXT) FROM items i JOIN batches b ON b.number = i.batch
		WHERE (i.state = 'open') <> (b.state IN ('signed', 'accepted')) LIMIT 1`},
}

// Check audits the whole book: every entry and the sum of all postings are zero, every balance is the sum of its
// postings, every receipt is posted as priced, and what is in flight is what open batches carry. The first violation is
// KindCorrupt and names the rule. It reads everything, so it takes a while on a large book.
func (l *Ledger) Check(ctx context.Context) error {
	return l.read(ctx, func(t *tx) error {
		for _, a := range audits {
			var subject string
			found, err := t.one([]any{&subject}, a.query)
			if err != nil {
				return err
			}
			if found {
				return corrupt("the book breaks the rule that %s: %s", a.rule, subject)
			}
		}
		return nil
	})
}

// Sum is the sum of all postings, which is zero.
func (l *Ledger) Sum(ctx context.Context) (n schemas.NanoTON, err error) {
	err = l.read(ctx, func(t *tx) error {
		_, err := t.one([]any{&n}, "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM postings")
		return err
	})
	return n, err
}

// Movement is one line of an account's history.
type Movement struct {
	Entry int64     `json:"entry"`
	At    time.Time `json:"at"`
	// Kind is the kind of entry: job, deposit, fund, stake, request, payout, paid, returned, bounce, …
	Kind   string          `json:"kind"`
	Amount schemas.NanoTON `json:"amount"`
	// Ref is the entry's reference; for jobs the job id.
	Ref string `json:"ref"`
	// Model and Usage are set for jobs.
	Model schemas.ModelID `json:"model,omitempty"`
	Usage *schemas.Usage  `json:"usage,omitempty"`
}

// MaxMovements bounds one page of Movements.
const MaxMovements = 10_000

// Movements lists what happened to an account after an entry (0 for the start), oldest first, at most limit. name is
// "tenant:<id>", "stake:<id>", "owner:<address>" or one of the network's own accounts.
func (l *Ledger) Movements(ctx context.Context, name string, after int64, limit int) (all []Movement, err error) {
	err = l.read(ctx, func(t *tx) error {
		account, found, err := t.findAccount(name)
		if err != nil {
			return err
		}
		if !found {
			return schemas.Errorf(schemas.KindNotFound, "there is no account %q", name)
		}
		return t.each(func(scan func(...any) error) error {
			m, err := scanMovement(scan)
			all = append(all, m)
			return err
		}, `SELECT p.entry, e.at, e.kind, p.amount, COALESCE(e.ref, ''), r.job, COALESCE(m.name, ''),
			COALESCE(r.prompt, 0), COALESCE(r.cached, 0), COALESCE(r.completion, 0), COALESCE(r.reasoning, 0)
			FROM postings p JOIN entries e ON e.id = p.entry
			LEFT JOIN receipts r ON e.kind = 'job' AND r.seq = e.place LEFT JOIN models m ON m.id = r.model
			WHERE p.account = ? AND p.entry > ? ORDER BY p.entry LIMIT ?`, account, after, min(limit, MaxMovements))
	})
	return all, err
}

// scanMovement reads one line.
func scanMovement(scan func(...any) error) (m Movement, err error) {
	var at int64
	var job []byte
	var u schemas.Usage
	err = scan(&m.Entry, &at, &m.Kind, &m.Amount, &m.Ref, &job, &m.Model, &u.Prompt, &u.Cached, &u.Completion, &u.Reasoning)
	m.At = time.Unix(at, 0).UTC()
	if job != nil {
		m.Ref, m.Usage = string(jobID(job)), &u
	}
	return m, err
}

// AccountBalance is the balance of an account by name, 0 when it does not exist.
func (l *Ledger) AccountBalance(ctx context.Context, name string) (n schemas.NanoTON, err error) {
	err = l.read(ctx, func(t *tx) error {
		_, err := t.one([]any{&n}, "SELECT balance FROM accounts WHERE name = ?", name)
		return err
	})
	return n, err
}

// TenantAccount, StakeAccount and OwnerAccount name accounts for Movements and AccountBalance.
func TenantAccount(id schemas.TenantID) string { return tenantPrefix + string(id) }

// StakeAccount names the account of a tenant's stake.
func StakeAccount(id schemas.TenantID) string { return stakePrefix + string(id) }

// OwnerAccount names the account of a worker owner.
func OwnerAccount(owner schemas.Owner) string { return ownerPrefix + string(owner) }
