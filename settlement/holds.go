package settlement

import (
	"context"
	"encoding/base32"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// MaxHolds bounds one call of Reserve.
const MaxHolds = 256

// Hold reserves a job's ceiling until its outcome is booked, it is released, or it expires.
type Hold struct {
	Job     schemas.JobID
	Tenant  schemas.TenantID
	Amount  schemas.NanoTON
	Expires time.Time
}

// Reserve makes holds, in one commit. It returns one error per hold, nil for those that stand: KindCredit when the
// tenant's available credit does not cover it, KindNotFound for unknown tenants, KindReplayed for jobs that are booked
// already. A job that has a hold keeps it; its expiry is moved.
func (l *Ledger) Reserve(ctx context.Context, holds []Hold) ([]error, error) {
	if len(holds) > MaxHolds {
		return nil, schemas.Errorf(schemas.KindTooLarge, "%d holds at once, at most %d", len(holds), MaxHolds)
	}
	answers := make([]error, len(holds))
	err := l.write(ctx, func(t *tx) error {
		for i, h := range holds {
			answer, err := t.reserve(h)
			if err != nil {
				return err
			}
			answers[i] = answer
		}
		return nil
	})
	return answers, err
}

// reserve makes one hold; answer is the refusal, err a failure of the database.
func (t *tx) reserve(h Hold) (answer, err error) {
	job, err := jobBytes(h.Job)
	if err != nil {
		return err, nil
	}
	if h.Amount <= 0 || h.Amount > MaxJobCharge {
		return schemas.FieldError("amount", "must lie above 0 and be at most 1,000,000 TON"), nil
	}
	if n, err := t.exec("UPDATE holds SET expires = ? WHERE job = ?", h.Expires.Unix(), job); err != nil || n > 0 {
		return nil, err
	}
	var seq int64
	booked, err := t.one([]any{&seq}, "SELECT seq FROM receipts WHERE job = ?", job)
	if err != nil {
		return nil, err
	}
	if booked {
		return schemas.Errorf(schemas.KindReplayed, "job %s is booked already", h.Job), nil
	}
	r, err := t.tenant(h.Tenant)
	if schemas.KindOf(err) == schemas.KindNotFound {
		return err, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := t.standing(r)
	if err != nil {
		return nil, err
	}
	if b.Available < h.Amount {
		return schemas.Errorf(schemas.KindCredit, "available %s, needed %s", b.Available, h.Amount), nil
	}
	_, err = t.exec("INSERT INTO holds (job, tenant, amount, expires) VALUES (?, ?, ?, ?)", job, string(h.Tenant), int64(h.Amount), h.Expires.Unix())
	return nil, err
}

// Release gives holds back; jobs without a hold are ignored.
func (l *Ledger) Release(ctx context.Context, jobs ...schemas.JobID) error {
	keys := make([]any, 0, len(jobs))
	for _, job := range jobs {
		b, err := jobBytes(job)
		if err != nil {
			return err
		}
		keys = append(keys, b)
	}
	return l.write(ctx, func(t *tx) error { return t.release(keys) })
}

// release drops the holds of jobs and, by the way, those that have expired.
func (t *tx) release(jobs []any) error {
	var some int64
	if _, err := t.one([]any{&some}, "SELECT COUNT(*) FROM (SELECT 1 FROM holds LIMIT 1) h"); err != nil || some == 0 {
		return err // brokers that keep their own reservations leave the table empty
	}
	for keys := range chunks(jobs) {
		if _, err := t.exec("DELETE FROM holds WHERE job IN "+list(len(keys)), keys...); err != nil {
			return err
		}
	}
	_, err := t.exec("DELETE FROM holds WHERE expires <= ?", t.now)
	return err
}

// jobEncoding is the spelling of job ids.
var jobEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// jobBytes is a job id as the 16 bytes that it spells: the key of the largest index.
func jobBytes(id schemas.JobID) ([]byte, error) {
	if _, err := schemas.ParseJobID(string(id)); err != nil {
		return nil, err
	}
	return jobEncoding.DecodeString(string(id))
}

// jobID is the inverse of jobBytes.
func jobID(b []byte) schemas.JobID {
	if len(b) != 16 {
		return ""
	}
	return schemas.JobIDFrom([16]byte(b))
}
