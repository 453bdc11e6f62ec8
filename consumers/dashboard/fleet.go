package dashboard

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// keptGoneWorkers is how long a worker that left is shown, so that a crash is seen.
const keptGoneWorkers = 5 * time.Minute

// reputationEvery is how often reputations are read: control puts all of them at every beat, but they move slowly.
const reputationEvery = 12 * time.Second

// fleet follows the workers and what brokers found in their evidence. Entries are read when they change, not by looking at
// all of them again.
type fleet struct {
	mu      sync.Mutex // guards everything below
	workers map[schemas.WorkerID]*member
	// encoded are the rows of the workers section, renewed for members that changed.
	encoded map[string]json.RawMessage
	dirty   map[schemas.WorkerID]bool
	// problems are why the buckets cannot be followed, by bucket, and since when.
	problems map[streams.BucketName]Freshness
}

// member is everything known about one worker. One that is known by its evidence only has no entry.
type member struct {
	entry      *streams.WorkerEntry
	reputation *Reputation
	admitted   *schemas.Finding
	refused    *schemas.Finding
	gone       time.Time
}

// newFleet makes an empty fleet.
func newFleet() *fleet {
	return &fleet{
		workers: map[schemas.WorkerID]*member{}, encoded: map[string]json.RawMessage{}, dirty: map[schemas.WorkerID]bool{},
		problems: map[streams.BucketName]Freshness{},
	}
}

// readReputations reads what control thinks of the workers, now and then, until ctx ends. While it cannot be read the last
// word stands; that the bucket is away is told by who watches it.
func (d *Dashboard) readReputations(ctx context.Context) {
	for every := lookEvery; ctx.Err() == nil; {
		wait(ctx, every)
		entries, err := d.conf.Bus.Bucket(streams.BucketWorkers).List(ctx, streams.PrefixReputation+"*")
		for _, e := range entries {
			d.fleet.hear(e, d.conf.Now())
		}
		if every = lookEvery; err == nil && len(entries) > 0 {
			every = reputationEvery
		}
	}
}

// followBucket watches a part of one bucket until ctx ends, and again after what went wrong.
func (d *Dashboard) followBucket(ctx context.Context, name streams.BucketName, filter string) {
	for ctx.Err() == nil {
		known := map[string]bool{}
		err := d.conf.Bus.Bucket(name).Watch(ctx, filter, func(e streams.Entry) error {
			now := d.conf.Now()
			if e.Key == "" { // all that is there has been told
				d.fleet.complete(name, known, now)
				return nil
			}
			known[e.Key] = true
			d.fleet.hear(e, now)
			return nil
		})
		if ctx.Err() == nil {
			d.fleet.fail(name, err, d.conf.Now())
			wait(ctx, lookEvery)
		}
	}
}

// fail notes why a bucket cannot be followed.
func (f *fleet) fail(name streams.BucketName, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fresh := f.problems[name]
	if fresh.Problem == "" {
		fresh.Since = now
	}
	fresh.Problem = problem(err)
	f.problems[name] = fresh
}

// complete takes away what a bucket does not hold any more, once it can be followed again.
func (f *fleet) complete(name streams.BucketName, known map[string]bool, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.problems, name)
	for id, m := range f.workers {
		if name == streams.BucketWorkers && m.entry != nil && !known[streams.PrefixWorker+string(id)] {
			f.left(id, now)
		}
		if name == streams.BucketEvidence {
			if !known[streams.PrefixAdmitted+string(id)] {
				m.admitted = nil
			}
			if !known[streams.PrefixRefused+string(id)] {
				m.refused = nil
			}
			f.dirty[id] = true
		}
	}
}

// of finds a worker, or begins with it.
func (f *fleet) of(id schemas.WorkerID) *member {
	m := f.workers[id]
	if m == nil {
		m = &member{}
		f.workers[id] = m
	}
	f.dirty[id] = true
	return m
}

// left marks a worker whose entry is gone.
func (f *fleet) left(id schemas.WorkerID, now time.Time) {
	if m := f.workers[id]; m != nil && m.entry != nil && m.gone.IsZero() {
		m.gone, f.dirty[id] = now.UTC(), true
	}
}

// hear takes one entry of WORKERS or EVIDENCE. Entries that cannot be read are left out: workers write their own.
func (f *fleet) hear(e streams.Entry, now time.Time) {
	prefix, name, _ := strings.Cut(e.Key, ".")
	id, err := schemas.ParseWorkerID(name)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch prefix + "." {
	case streams.PrefixWorker:
		if e.Deleted {
			f.left(id, now)
		} else if entry, ok := stated[streams.WorkerEntry](e.Value); ok && entry.Worker == id {
			m := f.of(id)
			m.entry, m.gone = entry, time.Time{}
		}
	case streams.PrefixReputation:
		if r, ok := stated[streams.Reputation](e.Value); ok && !e.Deleted && f.workers[id] != nil {
			f.of(id).reputation = reputationOf(r)
		}
	case streams.PrefixAdmitted:
		f.of(id).admitted = findingOf(e)
	case streams.PrefixRefused:
		f.of(id).refused = findingOf(e)
	}
}

// maxEntry bounds an entry that is shown, in bytes.
const maxEntry = 64 << 10

// stated reads an entry for display. Unlike those who act on entries it does not insist on their strict form, which would
// double what a large fleet costs to watch.
func stated[T any](value []byte) (*T, bool) {
	v := new(T)
	return v, len(value) <= maxEntry && json.Unmarshal(value, v) == nil
}

// findingOf reads a finding, nil for one that is gone.
func findingOf(e streams.Entry) *schemas.Finding {
	if found, err := streams.ParseFinding(e.Value); err == nil && !e.Deleted {
		return &found
	}
	return nil
}

// reputationOf takes the shortest window in which something happened.
func reputationOf(r *streams.Reputation) *Reputation {
	out := &Reputation{Standing: r.Standing, Rate: schemas.One}
	for _, w := range r.Windows {
		out.Rate, out.Jobs, out.Lost, out.Median, out.Span = w.Rate(), w.Succeeded+w.Failed+w.Lost, w.Lost, w.Median, w.Span
		if out.Jobs > 0 {
			break
		}
	}
	return out
}

// rows encodes the members that changed and returns the section, its rows and the entries that live.
func (f *fleet) rows(now time.Time) (Workers, map[string]json.RawMessage, []*streams.WorkerEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	living := make([]*streams.WorkerEntry, 0, len(f.workers))
	for id, m := range f.workers {
		if !m.gone.IsZero() && now.Sub(m.gone) > keptGoneWorkers {
			m.entry, m.gone, m.reputation, f.dirty[id] = nil, time.Time{}, nil, true
		}
		if m.entry == nil && m.admitted == nil && m.refused == nil {
			delete(f.workers, id)
		}
		if m.entry != nil && m.gone.IsZero() {
			living = append(living, m.entry)
		}
	}
	for id := range f.dirty {
		if m := f.workers[id]; m == nil || m.entry == nil {
			delete(f.encoded, string(id))
		} else if b, err := json.Marshal(m.row()); err == nil {
			f.encoded[string(id)] = b
		}
	}
	clear(f.dirty)
	w := Workers{Freshness: f.problems[streams.BucketWorkers]}
	return w, f.encoded, living
}

// row is a worker for the page.
func (m *member) row() WorkerRow {
	r := WorkerRow{WorkerEntry: *m.entry, Reputation: m.reputation, Gone: m.gone}
	r.WorkerEntry.Evidence = schemas.Hash{} // stands in the detail: a thousand hashes are a third of the page
	if a := m.admitted; a != nil {
		r.Evidence = &EvidenceRow{Admitted: true, Image: a.Image, Policy: a.Policy, GPUs: len(a.GPUs), NotAfter: a.NotAfter}
		if a.TDX != nil {
			r.Evidence.TCB = a.TDX.Platform
		}
		if len(a.GPUs) > 0 {
			r.Evidence.GPU = a.GPUs[0].Architecture
		}
	}
	if x := m.refused; x != nil && (m.admitted == nil || x.Time.After(m.admitted.Time)) {
		if r.Evidence == nil {
			r.Evidence = &EvidenceRow{}
		}
		r.Evidence.Reason = reasonOf(x)
	}
	return r
}

// reasonOf spells a refusal.
func reasonOf(f *schemas.Finding) string {
	if f.Field == "" {
		return f.Message
	}
	return f.Field + ": " + f.Message
}

// refusals are the refused hosts, without the registers, which are asked for one by one. A refusal that an admission of the
// same worker has followed is history and left out.
func (f *fleet) refusals() (Refusals, map[string]json.RawMessage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := Refusals{Freshness: f.problems[streams.BucketEvidence]}
	rows := map[string]json.RawMessage{}
	for id, m := range f.workers {
		if m.refused == nil || m.admitted != nil && m.admitted.Time.After(m.refused.Time) {
			continue
		}
		r.Count++
		short := *m.refused
		short.GPUs = nil
		if short.TDX != nil {
			short.TDX = &schemas.TDXFinding{Machine: short.TDX.Machine, Platform: short.TDX.Platform, TDXModule: short.TDX.TDXModule, QE: short.TDX.QE}
		}
		if b, err := json.Marshal(short); err == nil {
			rows[seqKey(uint64(max(short.Time.UnixMilli(), 0)))+"."+string(id)] = b
		}
	}
	newestRows(rows, MaxRefusals)
	return r, rows
}

// detail is everything known about a worker's evidence, or KindNotFound.
func (f *fleet) detail(id schemas.WorkerID) (WorkerDetail, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.workers[id]
	if m == nil {
		return WorkerDetail{}, &schemas.Error{Kind: schemas.KindNotFound, Field: "worker", Message: "is not known here"}
	}
	return WorkerDetail{Worker: id, Admitted: m.admitted, Refused: m.refused}, nil
}
