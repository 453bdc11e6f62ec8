package producers

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// entries is a record in memory: the whole of [MemoryRecord] and the index of [FileRecord].
type entries struct {
	mu    sync.Mutex // guards both maps: every entry with a key is found under it
	byID  map[schemas.JobID]Entry
	byKey map[string]schemas.JobID
}

func newEntries() *entries {
	return &entries{byID: map[schemas.JobID]Entry{}, byKey: map[string]schemas.JobID{}}
}

// find returns the entry that a new one would collide with.
func (s *entries) find(e *Entry) (Entry, bool) {
	if have, ok := s.byID[e.ID]; ok {
		return have, true
	}
	if e.Key == "" {
		return Entry{}, false
	}
	have, ok := s.byID[s.byKey[e.Key]]
	return have, ok
}

// set stores an entry.
func (s *entries) set(e Entry) {
	s.byID[e.ID] = e
	if e.Key != "" {
		s.byKey[e.Key] = e.ID
	}
}

// drop forgets an entry.
func (s *entries) drop(id schemas.JobID) {
	if e, ok := s.byID[id]; ok && e.Key != "" {
		delete(s.byKey, e.Key)
	}
	delete(s.byID, id)
}

// get returns a stored entry.
func (s *entries) get(id schemas.JobID) (Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.byID[id]
	if !ok {
		return Entry{}, noEntry(id)
	}
	return e, nil
}

// noEntry says that a job is not in the record.
func noEntry(id schemas.JobID) error {
	return &schemas.Error{Kind: schemas.KindNotFound, Field: "job", Message: string(id) + " is not in the record"}
}

// sorted returns the entries, the oldest first.
func (s *entries) sorted(open bool) []Entry {
	s.mu.Lock()
	list := slices.Collect(maps.Values(s.byID))
	s.mu.Unlock()
	list = slices.DeleteFunc(list, func(e Entry) bool { return open && e.State == StateDone })
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// done lists entries that ended before a time. The caller holds mu.
func (s *entries) done(before time.Time) []schemas.JobID {
	var ids []schemas.JobID
	for id, e := range s.byID {
		if e.State == StateDone && e.Updated.Before(before) {
			ids = append(ids, id)
		}
	}
	return ids
}

// MemoryRecord remembers until the process ends.
type MemoryRecord struct{ entries *entries }

var _ Record = (*MemoryRecord)(nil)

// NewMemoryRecord returns an empty record.
func NewMemoryRecord() *MemoryRecord { return &MemoryRecord{newEntries()} }

// Create implements [Record].
func (r *MemoryRecord) Create(_ context.Context, e Entry) (Entry, bool, error) {
	r.entries.mu.Lock()
	defer r.entries.mu.Unlock()
	if have, ok := r.entries.find(&e); ok {
		return have, false, nil
	}
	r.entries.set(e)
	return e, true, nil
}

// Update implements [Record].
func (r *MemoryRecord) Update(_ context.Context, e Entry) error {
	r.entries.mu.Lock()
	defer r.entries.mu.Unlock()
	if _, ok := r.entries.byID[e.ID]; !ok {
		return noEntry(e.ID)
	}
	r.entries.set(e)
	return nil
}

// Delete implements [Record].
func (r *MemoryRecord) Delete(_ context.Context, id schemas.JobID) error {
	r.entries.mu.Lock()
	defer r.entries.mu.Unlock()
	r.entries.drop(id)
	return nil
}

// Get implements [Record].
func (r *MemoryRecord) Get(_ context.Context, id schemas.JobID) (Entry, error) {
	return r.entries.get(id)
}

// List implements [Record].
func (r *MemoryRecord) List(_ context.Context, open bool) iter.Seq2[Entry, error] {
	return listOf(r.entries.sorted(open))
}

// listOf yields a list.
func listOf(list []Entry) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Prune implements [Record].
func (r *MemoryRecord) Prune(_ context.Context, before time.Time) (int, error) {
	r.entries.mu.Lock()
	defer r.entries.mu.Unlock()
	ids := r.entries.done(before)
	for _, id := range ids {
		r.entries.drop(id)
	}
	return len(ids), nil
}

// Close implements [Record].
func (r *MemoryRecord) Close() error { return nil }
