package settlement

import (
	"context"
	"fmt"
	"strconv"

	"github.com/cocoon-network/cocoon/schemas"
)

// outcomesPosition names the position of the outcome stream.
const outcomesPosition = "outcomes"

// Position is the last outcome whose effect is durable.
func (l *Ledger) Position(ctx context.Context) (uint64, error) {
	var n uint64
	err := l.read(ctx, func(t *tx) (err error) {
		n, err = t.position()
		return err
	})
	return n, err
}

// StreamPosition is Position by the stream's own count, which starts over when a stream is made anew.
func (l *Ledger) StreamPosition(ctx context.Context) (n uint64, err error) {
	err = l.read(ctx, func(t *tx) error {
		at, err := t.position()
		if err != nil {
			return err
		}
		base, err := t.base()
		n = at - base
		return err
	})
	return n, err
}

// position reads the position of the outcome stream.
func (t *tx) position() (uint64, error) {
	var n int64
	_, err := t.one([]any{&n}, "SELECT value FROM positions WHERE name = ?", outcomesPosition)
	return uint64(n), err
}

// basePosition names what is added to the positions of the outcome stream, so that they go on growing when the stream
// is made anew and counts from 1 again.
const basePosition = "outcomes base"

// base reads what is added to the stream's positions.
func (t *tx) base() (uint64, error) {
	var n int64
	_, err := t.one([]any{&n}, "SELECT value FROM positions WHERE name = ?", basePosition)
	return uint64(n), err
}

// streamBase is base as a call of its own.
func (l *Ledger) streamBase(ctx context.Context) (n uint64, err error) {
	err = l.read(ctx, func(t *tx) error {
		n, err = t.base()
		return err
	})
	return n, err
}

// setPosition stores a position.
func (t *tx) setPosition(name string, value uint64) error {
	_, err := t.exec("INSERT INTO positions (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, int64(value))
	return err
}

// NewStream says that the outcome stream was made anew: its first outcome comes after everything booked so far. Outcomes
// of the old stream that appear in it again are rejected as duplicates. Nothing may be booking meanwhile.
func (l *Ledger) NewStream(ctx context.Context) error {
	return l.write(ctx, func(t *tx) error {
		position, err := t.position()
		if err != nil {
			return err
		}
		if _, _, err := t.alert(walletRow{}, AlertStream, strconv.FormatUint(position, 10), "the outcome stream was made anew"); err != nil {
			return err
		}
		return t.setPosition(basePosition, position)
	})
}

// AcceptGap says that outcomes before first, a position of the stream, are lost for good: they left the stream before
// they were booked, and whoever earned with them has to be dealt with by hand. Nothing may be booking meanwhile.
func (l *Ledger) AcceptGap(ctx context.Context, first uint64) error {
	return l.write(ctx, func(t *tx) error {
		position, err := t.position()
		if err != nil {
			return err
		}
		base, err := t.base()
		if err != nil {
			return err
		}
		next := base + first
		if next <= position+1 {
			return nil
		}
		detail := fmt.Sprintf("outcomes %d to %d left the stream before they were booked", position+1-base, first-1)
		if _, _, err := t.alert(walletRow{}, AlertStream, strconv.FormatUint(position, 10), detail); err != nil {
			return err
		}
		return t.setPosition(outcomesPosition, next-1)
	})
}

// book posts a group of judged outcomes in one commit, together with the position, so that an outcome takes effect
// exactly once however often it is read.
//
// The first try trusts that all jobs are new, as the outcome stream promises, and lets the unique indexes check it.
// When they object, the group is booked again with a look-up for each job, and the offenders are rejected.
func (l *Ledger) book(ctx context.Context, group []verdict) (IntakeStats, error) {
	b := &booking{group: group}
	err := l.write(ctx, b.run)
	if schemas.KindOf(err) == schemas.KindConflict {
		b = &booking{group: group, careful: true}
		if err = l.write(ctx, b.run); schemas.KindOf(err) == schemas.KindConflict {
			err = corrupt("booking conflicts with what was looked up: %w", err)
		}
	}
	return b.done, err
}

// booking is one try to book a group.
type booking struct {
	group   []verdict
	careful bool

	t        *tx
	fees     int64
	entries  []any
	postings []any
	receipts []any
	holds    []any
	earnings earnings
	jobs     map[schemas.JobID]bool
	numbers  map[number]bool
	done     IntakeStats
}

// number is a worker's receipt number.
type number struct {
	worker int64
	seq    uint64
}

// run is the transaction.
func (b *booking) run(t *tx) error {
	b.t, b.jobs, b.numbers = t, map[schemas.JobID]bool{}, map[number]bool{}
	n := len(b.group)
	b.entries, b.postings, b.receipts, b.holds = make([]any, 0, 5*n), make([]any, 0, 9*n), make([]any, 0, 19*n), make([]any, 0, n)
	position, err := t.position()
	if err != nil {
		return err
	}
	if b.fees, err = t.account(acctFees); err != nil {
		return err
	}
	for i := range b.group {
		if v := &b.group[i]; v.seq > position { // what is not is booked already, by us or by another intake
			if err := b.add(v); err != nil {
				return err
			}
			position = v.seq
		}
	}
	return b.flush(position)
}

// add books one outcome.
func (b *booking) add(v *verdict) error {
	if key, err := jobBytes(v.outcome.Job); err == nil {
		b.holds = append(b.holds, key)
	}
	switch {
	case v.reason != "":
		return b.reject(v, v.reason, v.detail)
	case v.claim == nil:
		b.done.Free++
		return nil
	}
	tenant, found, err := b.t.findAccount(tenantPrefix + string(v.claim.grant.Tenant))
	if err != nil {
		return err
	}
	if !found {
		return b.reject(v, RejectTenant, "")
	}
	worker, err := b.t.named("workers", string(v.claim.receipt.Worker))
	if err != nil {
		return err
	}
	if b.careful {
		if reason, err := b.known(v.claim, worker); err != nil || reason != "" {
			return b.refuse(v, reason, err)
		}
	}
	return b.claim(v.seq, v.claim, tenant, worker)
}

// refuse rejects for a reason, unless finding the reason failed.
func (b *booking) refuse(v *verdict, reason Reason, err error) error {
	if err != nil {
		return err
	}
	return b.reject(v, reason, "")
}

// known reports whether the job or the receipt's number was booked before, in the ledger or in this group.
func (b *booking) known(c *claim, worker int64) (Reason, error) {
	n := number{worker, c.receipt.Seq}
	if b.jobs[c.receipt.Job] {
		return RejectDuplicate, nil
	}
	if b.numbers[n] {
		return RejectNumber, nil
	}
	var seq int64
	found, err := b.t.one([]any{&seq}, "SELECT seq FROM receipts WHERE job = ?", c.job)
	if err != nil || found {
		return RejectDuplicate, err
	}
	found, err = b.t.one([]any{&seq}, "SELECT seq FROM receipts WHERE worker = ? AND number = ?", worker, int64(n.seq))
	if err != nil || found {
		return RejectNumber, err
	}
	b.jobs[c.receipt.Job], b.numbers[n] = true, true
	return "", nil
}

// claim posts one receipt: debit the tenant, credit the worker's owner and the network.
func (b *booking) claim(seq uint64, c *claim, tenant, worker int64) error {
	owner, err := b.t.account(ownerPrefix + string(c.grant.Owner))
	if err != nil {
		return err
	}
	model, err := b.t.named("models", string(c.grant.Model))
	if err != nil {
		return err
	}
	id, err := b.t.entryID()
	if err != nil {
		return err
	}
	b.entries = append(b.entries, id, entryJob, int64(seq), b.t.now, nil)
	b.postings, err = b.t.lines(b.postings, id, []posting{
		{tenant, -c.charge.Total}, {owner, c.charge.Worker}, {b.fees, c.charge.Fee},
	})
	u := c.receipt.Usage
	b.receipts = append(b.receipts, int64(seq), id, c.job, tenant, owner, worker, int64(c.receipt.Seq), model,
		string(c.grant.Class), int64(c.grant.Catalogue), int64(c.grant.Multiplier),
		int64(u.Prompt), int64(u.Cached), int64(u.Completion), int64(u.Reasoning),
		int64(c.charge.Total), int64(c.charge.Fee), c.hash[:], c.receipt.Finished.Unix())
	b.earnings.add(worker, c)
	b.done.Booked++
	return err
}

// reject keeps a claim that got no money, with its documents.
func (b *booking) reject(v *verdict, reason Reason, detail string) error {
	b.done.Rejected++
	_, err := b.t.exec("INSERT INTO rejections (seq, job, tenant, reason, detail, grant_jws, receipt_jws, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		int64(v.seq), string(v.outcome.Job), string(v.outcome.Tenant), string(reason), printable(detail, maxDetail),
		printable(v.outcome.Grant, schemas.MaxSignedHeader), printable(v.outcome.Receipt, schemas.MaxSignedHeader), b.t.now)
	return err
}

// flush writes what was collected, releases the holds and moves the position.
func (b *booking) flush(position uint64) error {
	if err := b.t.insert(intoEntries, 5, b.entries); err != nil {
		return err
	}
	if err := b.t.insert(intoPostings, 3, b.postings); err != nil {
		return err
	}
	if err := b.t.insert(intoReceipts, 19, b.receipts); err != nil {
		return err
	}
	if err := b.earnings.flush(b.t); err != nil {
		return err
	}
	if err := b.t.release(b.holds); err != nil {
		return err
	}
	return b.t.setPosition(outcomesPosition, position)
}

// maxDetail bounds the explanation kept with a rejection, in bytes.
const maxDetail = 256

// printable makes outside text safe to store and show: ASCII without control characters, at most limit bytes.
func printable(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// Rejection is an outcome that claimed money and got none.
type Rejection struct {
	Seq    uint64           `json:"seq"`
	Job    schemas.JobID    `json:"job"`
	Tenant schemas.TenantID `json:"tenant"`
	Reason Reason           `json:"reason"`
	Detail string           `json:"detail"`
	// Grant and Receipt are the documents as they came.
	Grant   string `json:"grant"`
	Receipt string `json:"receipt"`
}

// Rejections lists the newest rejections first, at most limit.
func (l *Ledger) Rejections(ctx context.Context, limit int) ([]Rejection, error) {
	var all []Rejection
	err := l.read(ctx, func(t *tx) error {
		return t.each(func(scan func(...any) error) error {
			var r Rejection
			err := scan(&r.Seq, &r.Job, &r.Tenant, &r.Reason, &r.Detail, &r.Grant, &r.Receipt)
			all = append(all, r)
			return err
		}, "SELECT seq, job, tenant, reason, detail, grant_jws, receipt_jws FROM rejections ORDER BY seq DESC LIMIT ?", limit)
	})
	return all, err
}
