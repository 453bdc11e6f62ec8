package broker

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// jobKey names a job of a tenant in the tables.
type jobKey [32]byte

// keyOf is the key of a job.
func keyOf(tenant schemas.TenantID, job schemas.JobID) jobKey {
	return jobKey(schemas.HashFields("cocoon/lease/v1", []byte(tenant), []byte(job)))
}

// lease is what the brokers know about a job that was granted.
type lease struct {
	attempt int
	worker  schemas.WorkerID
	// until is the end, with the monotonic clock's reading, see lasting.
	until time.Time
	// expiry is the job's: the entry may be forgotten then.
	expiry time.Time
}

// leases says who has which job, and how often each was tried. It stops double work; it does not decide about money.
type leases struct {
	mu    sync.Mutex // guards the fields below
	limit int
	jobs  map[jobKey]*lease
	swept time.Time
}

// sweepEvery is how often expired jobs are forgotten at most, and how often a full table is swept at most.
const sweepEvery = time.Minute

// newLeases makes an empty table.
func newLeases(limit int) *leases { return &leases{limit: limit, jobs: map[jobKey]*lease{}} }

// lasting is an end that was reckoned by the wall clock, as a reading of the monotonic clock: a clock that is set afterwards
// neither lengthens the lease nor ends it.
func lasting(until, now time.Time) time.Time { return now.Add(until.Sub(now)) }

// acquire gives a worker the lease of a job until the given time. A worker that has it keeps it, with the same attempt.
// KindLeased: another worker has it. KindPoison: no attempts are left. undo takes back what acquire did.
func (l *leases) acquire(key jobKey, worker schemas.WorkerID, attempts int, now, until, expiry time.Time) (attempt int, undo func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now, now.Sub(l.swept) >= sweepEvery)
	until = lasting(until, now)
	have := l.jobs[key]
	switch {
	case have == nil && len(l.jobs) >= l.limit:
		l.sweep(now, now.Sub(l.swept) >= time.Second)
		if len(l.jobs) >= l.limit {
			return 0, nil, &schemas.Error{Kind: schemas.KindBusy, Message: "too many jobs are running", RetryAfter: 10 * time.Second}
		}
	case have == nil:
	case now.Before(have.until) && have.worker != worker:
		return 0, nil, &schemas.Error{Kind: schemas.KindLeased, Message: "another worker has the job", RetryAfter: have.until.Sub(now)}
	case now.Before(have.until):
		before := *have
		have.until = until
		return have.attempt, func() { l.restore(key, &before) }, nil
	case have.attempt >= attempts:
		return 0, nil, &schemas.Error{Kind: schemas.KindPoison, Message: "the job has used all its attempts"}
	}
	fresh := &lease{attempt: 1, worker: worker, until: until, expiry: expiry}
	if have != nil {
		fresh.attempt = have.attempt + 1
	}
	l.jobs[key] = fresh
	return fresh.attempt, func() { l.restore(key, have) }, nil
}

// restore puts an entry back as it was.
func (l *leases) restore(key jobKey, before *lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before == nil {
		delete(l.jobs, key)
		return
	}
	l.jobs[key] = before
}

// live reports whether a worker has the lease of a job now.
func (l *leases) live(key jobKey, worker schemas.WorkerID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	have := l.jobs[key]
	return have != nil && have.worker == worker && now.Before(have.until)
}

// holds reports whether the table has a worker's lease of a job in an attempt.
func (l *leases) holds(g *schemas.Grant) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	have := l.jobs[keyOf(g.Tenant, g.Job)]
	return have != nil && have.attempt == g.Attempt && have.worker == g.Worker
}

// renew prolongs or ends the lease that a grant gave. A broker that does not know the job (it started after, or another
// one granted it) takes the grant's word: brokers signed it.
func (l *leases) renew(g *schemas.Grant, until, expiry, now time.Time) error {
	key := keyOf(g.Tenant, g.Job)
	l.mu.Lock()
	defer l.mu.Unlock()
	until = lasting(until, now)
	have := l.jobs[key]
	switch {
	case have == nil && len(l.jobs) >= l.limit:
		return &schemas.Error{Kind: schemas.KindBusy, Message: "too many jobs are running", RetryAfter: time.Second}
	case have == nil:
		l.jobs[key] = &lease{attempt: g.Attempt, worker: g.Worker, until: until, expiry: expiry}
		return nil
	case !now.Before(have.expiry):
		return &schemas.Error{Kind: schemas.KindExpired, Message: "the job's deadline has passed"}
	case have.attempt > g.Attempt || have.attempt == g.Attempt && have.worker != g.Worker:
		return &schemas.Error{Kind: schemas.KindLeased, Message: "the lease lapsed and another worker has the job"}
	}
	have.attempt, have.worker, have.until = g.Attempt, g.Worker, until
	return nil
}

// merge takes another broker's word: more attempts win, then the later end.
func (l *leases) merge(key jobKey, other lease, now time.Time) {
	if !now.Before(other.expiry) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	other.until = lasting(other.until, now)
	have := l.jobs[key]
	if have == nil && len(l.jobs) >= l.limit {
		return
	}
	if have == nil || other.attempt > have.attempt || other.attempt == have.attempt && other.until.After(have.until) {
		if have != nil {
			other.expiry = have.expiry
		}
		l.jobs[key] = &other
	}
}

// sweep forgets expired jobs when due. The caller holds mu.
func (l *leases) sweep(now time.Time, due bool) {
	if !due {
		return
	}
	for key, have := range l.jobs {
		if !now.Before(have.expiry) {
			delete(l.jobs, key)
		}
	}
	l.swept = now
}

// spendKey remembers that a tenant key's signature over a submission was verified.
func spendKey(tenantKey []byte, s *schemas.Spend, enc []byte) [32]byte {
	sum := sha256.Sum256(enc)
	return schemas.HashFields("cocoon/spend-seen/v1", tenantKey, []byte(s.Tenant), sum[:], s.Signature[:])
}
