package control

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Limits of the records.
const (
	// maxSubjects bounds the workers and owners that are known at one time.
	maxSubjects = 20_000
	// maxOpen bounds the jobs granted and not ended that are known.
	maxOpen = 1 << 20
	// outcomeBatch is the number of outcomes read at one time, auditBatch that of audit records.
	outcomeBatch = 1000
	auditBatch   = 5000
	// openAge is how long a grant without an outcome is remembered.
	openAge = schemas.MaxLifetime
)

// records counts what became of grants. Who was granted a job is known from the brokers' audit records, how it ended from
// the outcomes, whose grants and receipts are verified: a worker can neither claim nor blame another's work.
type records struct {
	s *Service
	// mu guards everything below.
	mu      sync.Mutex
	workers map[schemas.WorkerID]*record
	owners  map[schemas.Owner]*record
	// open holds the last grant of each job without an outcome.
	open map[schemas.JobID]openGrant
	// recent remembers the jobs that ended last: an audit record may come later than the outcome, and must not open its
	// job again.
	recent     map[schemas.JobID]bool
	recentRing []schemas.JobID
	recentNext int
}

// maxRecent is the number of ended jobs that are remembered.
const maxRecent = 1 << 16

// openGrant is a grant whose job has not ended.
type openGrant struct {
	worker  schemas.WorkerID
	owner   schemas.Owner
	attempt int
	at      time.Time
}

// record is what is known of a worker or an owner.
type record struct {
	worker   schemas.WorkerID
	owner    schemas.Owner
	short    window
	long     window
	standing streams.Standing
	// since is when the standing last changed; what happened before does not count for a return to good.
	since time.Time
	last  time.Time
}

func newRecords(s *Service) *records {
	return &records{
		s: s, workers: map[schemas.WorkerID]*record{}, owners: map[schemas.Owner]*record{}, open: map[schemas.JobID]openGrant{},
		recent: map[schemas.JobID]bool{}, recentRing: make([]schemas.JobID, maxRecent),
	}
}

// floor is the policy's floor now.
func (r *records) floor() schemas.Reputation {
	if r.s.o.Floor == nil {
		return schemas.Reputation{}
	}
	return r.s.o.Floor()
}

// run counts until ctx ends. At a start it reads the last window again from the streams, so that a restart forgives nobody.
func (r *records) run(ctx context.Context) error {
	if r.s.o.Verify == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	r.reset()
	span := r.span()
	outcomes, err := r.s.bus.PositionAt(ctx, streams.StreamOutcomes, time.Now().Add(-span))
	if err != nil {
		return err
	}
	audit, err := r.s.bus.PositionAt(ctx, streams.StreamAudit, time.Now().Add(-span))
	if err != nil {
		return err
	}
	feed := r.s.bus.Receipts()
	defer feed.Close()
	var published time.Time
	for {
		if audit, err = r.readAudit(ctx, audit); err != nil {
			return err
		}
		if outcomes, err = r.readOutcomes(ctx, feed, outcomes); err != nil {
			return err
		}
		if time.Since(published) >= streams.WorkerBeat {
			if err := r.publish(ctx, time.Now()); err != nil {
				return err
			}
			published = time.Now()
		}
	}
}

// span is the length of the longer window.
func (r *records) span() time.Duration {
	if m := r.floor().WindowMinutes; m > 0 {
		return time.Duration(m) * time.Minute
	}
	return defaultSpan
}

// reset forgets everything.
func (r *records) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.workers)
	clear(r.owners)
	clear(r.open)
	clear(r.recent)
	clear(r.recentRing)
}

// readAudit reads the grants that follow a position.
func (r *records) readAudit(ctx context.Context, after uint64) (uint64, error) {
	for {
		list, next, err := r.s.bus.AuditAfter(ctx, after, auditBatch)
		if err != nil {
			return after, err
		}
		r.mu.Lock()
		for _, a := range list {
			r.granted(a)
		}
		r.mu.Unlock()
		if after = next; len(list) < auditBatch {
			return after, nil
		}
	}
}

// granted notes a grant; mu is held. A job granted again was lost by the worker that had it before.
func (r *records) granted(a streams.AuditRecord) {
	if a.Verb != streams.VerbGrant || a.Kind != schemas.KindUnknown || a.Job == "" || a.Worker == "" || r.recent[a.Job] {
		return
	}
	if before, ok := r.open[a.Job]; ok && a.Attempt > before.attempt {
		r.count(before.worker, before.owner, a.Time, func(s *slot) { s.lost++ })
	} else if !ok && len(r.open) >= maxOpen {
		return
	}
	r.open[a.Job] = openGrant{a.Worker, a.Owner, a.Attempt, a.Time}
}

// readOutcomes reads the outcomes that follow a position, waiting a moment for the first.
func (r *records) readOutcomes(ctx context.Context, feed *streams.ReceiptFeed, after uint64) (uint64, error) {
	wait, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	list, err := feed.Read(wait, after, outcomeBatch)
	switch {
	case ctx.Err() != nil:
		return after, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return after, nil
	case err != nil:
		return after, err
	}
	for _, x := range list {
		if o, err := schemas.ParseOutcome(x.Header, nil); err == nil && streams.SubjectOutcome(o.Tenant, o.Job) == x.Subject {
			r.ended(o, x.Stored)
		}
		after = x.Seq
	}
	return after, nil
}

// ended counts an outcome for the worker whose grant it shows. One without a grant is nobody's work.
func (r *records) ended(o schemas.Outcome, stored time.Time) {
	var grant schemas.Grant
	var receipt schemas.Receipt
	valid := false
	if o.Grant != "" {
		var err error
		grant, receipt, err = r.s.o.Verify(o.Grant, o.Receipt)
		valid = err == nil && grant.Job == o.Job
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed(o.Job)
	if !valid {
		return
	}
	r.count(grant.Worker, grant.Owner, stored, func(s *slot) {
		switch {
		case o.Status == schemas.Succeeded:
			s.succeeded++
			s.times.add(receipt.Finished.Sub(grant.Issued))
		case o.Status == schemas.Failed && blame(o.Kind):
			s.failed++
		}
	})
}

// closed forgets the grant of a job and remembers that it ended; mu is held.
func (r *records) closed(job schemas.JobID) {
	delete(r.open, job)
	delete(r.recent, r.recentRing[r.recentNext])
	r.recentRing[r.recentNext] = job
	r.recent[job] = true
	r.recentNext = (r.recentNext + 1) % maxRecent
}

// blame tells whether a failure is the worker's: a bad request or a tenant without credit is not.
func blame(kind schemas.Kind) bool {
	switch kind {
	case schemas.KindEngine, schemas.KindInternal, schemas.KindUnavailable, schemas.KindBusy, schemas.KindUnknown,
		schemas.KindCorrupt, schemas.KindPoison:
		return true
	}
	return false
}

// count changes the slots of a worker and its owner; mu is held.
func (r *records) count(worker schemas.WorkerID, owner schemas.Owner, at time.Time, change func(*slot)) {
	for _, rec := range []*record{r.worker(worker, owner), r.owner(owner)} {
		if rec == nil {
			continue
		}
		rec.last = time.Now()
		change(rec.short.at(at))
		change(rec.long.at(at))
	}
}

// worker finds or makes the record of a worker; mu is held.
func (r *records) worker(id schemas.WorkerID, owner schemas.Owner) *record {
	if rec := r.workers[id]; rec != nil || len(r.workers) >= maxSubjects {
		return rec
	}
	rec := r.newRecord()
	rec.worker, rec.owner = id, owner
	r.workers[id] = rec
	return rec
}

// owner finds or makes the record of an owner; mu is held.
func (r *records) owner(id schemas.Owner) *record {
	if rec := r.owners[id]; rec != nil || len(r.owners) >= maxSubjects || id == "" {
		return rec
	}
	rec := r.newRecord()
	rec.owner = id
	r.owners[id] = rec
	return rec
}

func (r *records) newRecord() *record {
	return &record{short: window{span: shortSpan}, long: window{span: r.span()}, standing: streams.StandingGood}
}

// publish judges everybody and stores the reputations of those who did something lately.
func (r *records) publish(ctx context.Context, now time.Time) error {
	for key, rep := range r.judge(now) {
		text, err := json.Marshal(rep)
		if err != nil {
			return err
		}
		// Commit point: the put. Two control services write the same from the same streams.
		if _, err := r.s.bus.Bucket(streams.BucketWorkers).Put(ctx, key, text); err != nil {
			return err
		}
	}
	return nil
}

// judge forgets who is gone and returns the reputations of the others by key.
func (r *records) judge(now time.Time) map[string]streams.Reputation {
	r.mu.Lock()
	defer r.mu.Unlock()
	for job, g := range r.open {
		if now.Sub(g.at) > openAge {
			delete(r.open, job)
		}
	}
	floor, all := r.floor(), map[string]streams.Reputation{}
	for id, rec := range r.workers {
		if now.Sub(rec.last) > rec.long.span {
			delete(r.workers, id)
			continue
		}
		all[streams.PrefixReputation+string(id)] = rec.judge(floor, now)
	}
	for id, rec := range r.owners {
		if now.Sub(rec.last) > rec.long.span {
			delete(r.owners, id)
			continue
		}
		all[streams.KeyOwner(id)] = rec.judge(floor, now)
	}
	return all
}

// judge updates the standing of one record and spells it.
func (rec *record) judge(floor schemas.Reputation, now time.Time) streams.Reputation {
	short, long := rec.short.sum(now), rec.long.sum(now)
	if next := nextStanding(rec.standing, short, long, floor, now.Sub(rec.since)); next != rec.standing {
		rec.standing, rec.since = next, now
		if next == streams.StandingGood {
			// It starts anew: what led to probation is served.
			rec.long = window{span: rec.long.span}
		}
	}
	return streams.Reputation{
		Worker: rec.worker, Owner: rec.owner, Standing: rec.standing,
		Windows: []streams.ReputationWindow{short, long}, Updated: now.UTC().Truncate(time.Second),
	}
}

// nextStanding decides. The longer window puts a worker on probation, the shorter one shows whether it has recovered:
//
//	good       → probation   when the long window is judged and below the floor
//	probation  → suspended   when the short window is judged and below half the floor
//	probation  → good        when the short window is judged and at the floor or above, a short span after the change
//	suspended  → probation   after a short span: a few grants show whether it is better
//
// A window is judged when it has at least the policy's number of jobs; the short one needs a fifth of that.
func nextStanding(have streams.Standing, short, long streams.ReputationWindow, floor schemas.Reputation, since time.Duration) streams.Standing {
	if floor.MinSuccess == 0 {
		return streams.StandingGood
	}
	jobs := func(w streams.ReputationWindow) int { return int(w.Succeeded + w.Failed + w.Lost) }
	judgedShort := jobs(short) >= max(1, floor.MinJobs/5)
	switch have {
	case streams.StandingGood:
		if jobs(long) >= max(1, floor.MinJobs) && long.Rate() < floor.MinSuccess {
			return streams.StandingProbation
		}
	case streams.StandingProbation:
		switch {
		case since < shortSpan || !judgedShort:
		case short.Rate() < floor.MinSuccess/2:
			return streams.StandingSuspended
		case short.Rate() >= floor.MinSuccess:
			return streams.StandingGood
		}
	case streams.StandingSuspended:
		if since >= shortSpan {
			return streams.StandingProbation
		}
	}
	return have
}

// standings counts workers by standing.
func (r *records) standings() map[streams.Standing]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[streams.Standing]int{}
	for _, rec := range r.workers {
		n[rec.standing]++
	}
	return n
}
