package producers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/cocoon-network/cocoon/producers/journal"
	"github.com/cocoon-network/cocoon/schemas"
)

// fileForm names the form of a FileRecord's journal.
const fileForm = "cocoon job record v1"

// rewriteAbove is the size of a journal above which it is rewritten when most of it is out of date.
const rewriteAbove = 1 << 20

// FileRecord remembers in one file, for one process at a time. It keeps every entry in memory as well, so it suits
// thousands of jobs; the package sqlite suits millions.
type FileRecord struct {
	entries *entries
	journal *journal.Journal
	path    string
	live    int64 // bytes of the journal that say something current; guarded by entries.mu
}

var _ Record = (*FileRecord)(nil)

// fileChange is one record of the journal: an entry as it is now, or one that is gone.
type fileChange struct {
	Set  *Entry        `json:"set,omitempty"`
	Drop schemas.JobID `json:"drop,omitempty"`
}

// OpenFileRecord opens the record at path, making it when there is none. KindBusy: another process has it open.
func OpenFileRecord(path string) (*FileRecord, error) {
	r := &FileRecord{entries: newEntries(), path: path}
	j, err := journal.Open(path, fileForm, r.replay)
	if err != nil {
		return nil, err
	}
	r.journal = j
	return r, r.compact()
}

// replay takes one change from the journal.
func (r *FileRecord) replay(payload []byte) error {
	var c fileChange
	if err := json.Unmarshal(payload, &c); err != nil || (c.Set == nil) == (c.Drop == "") {
		return &schemas.Error{Kind: schemas.KindCorrupt, Field: "record", Message: "has a change that is not one", Err: err}
	}
	r.apply(c)
	return nil
}

// apply changes the entries in memory.
func (r *FileRecord) apply(c fileChange) {
	if c.Set != nil {
		r.entries.set(*c.Set)
		return
	}
	r.entries.drop(c.Drop)
}

// compact rewrites the journal when most of it is out of date.
func (r *FileRecord) compact() error {
	list := r.entries.sorted(false)
	r.live = 0
	for i := range list {
		r.live += int64(len(encodeChange(fileChange{Set: &list[i]})))
	}
	if size := r.journal.Size(); size < rewriteAbove || size < 2*r.live {
		return nil
	}
	if err := r.journal.Close(); err != nil {
		return fmt.Errorf("close record: %w", err)
	}
	j, err := journal.Rewrite(r.path, fileForm, func(add func([]byte) error) error {
		for i := range list {
			if err := add(encodeChange(fileChange{Set: &list[i]})); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		r.journal = j
	}
	return err
}

// encodeChange spells a change.
func encodeChange(c fileChange) []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic("producers: an entry always marshals: " + err.Error())
	}
	return b
}

// commit writes a change down and then makes it true here. The caller holds the entries' lock. The commit point is
// Append: a crash before it leaves the old state, a crash after it the new one.
func (r *FileRecord) commit(changes ...fileChange) error {
	payloads := make([][]byte, len(changes))
	for i := range changes {
		payloads[i] = encodeChange(changes[i])
	}
	if err := r.journal.Append(payloads...); err != nil {
		return err
	}
	for _, c := range changes {
		r.apply(c)
	}
	return nil
}

// Create implements [Record].
func (r *FileRecord) Create(_ context.Context, e Entry) (Entry, bool, error) {
	r.entries.mu.Lock()
	defer r.entries.mu.Unlock()
	if have, ok := r.entries.find(&e); ok {
		return have, false, nil
	}
	if err := r.commit(fileChange{Set: &e}); err != nil {
		return Entry{}, false, err
	}
	return e, true, nil
}

// Update implements [Record].
func (r *FileRecord) Update(_ context.Context, e Entry) error {
	r.entries.mu.Lock()
	defer r.entries.mu.Unlock()
	if _, ok := r.entries.byID[e.ID]; !ok {
		return noEntry(e.ID)
	}
	return r.commit(fileChange{Set: &e})
}

// Delete implements [Record].
func (r *FileRecord) Delete(_ context.Context, id schemas.JobID) error {
	r.entries.mu.Lock()
	defer r.entries.mu.Unlock()
	if _, ok := r.entries.byID[id]; !ok {
		return nil
	}
	return r.commit(fileChange{Drop: id})
}

// Get implements [Record].
func (r *FileRecord) Get(_ context.Context, id schemas.JobID) (Entry, error) {
	return r.entries.get(id)
}

// List implements [Record].
func (r *FileRecord) List(_ context.Context, open bool) iter.Seq2[Entry, error] {
	return listOf(r.entries.sorted(open))
}

// Prune implements [Record].
func (r *FileRecord) Prune(_ context.Context, before time.Time) (int, error) {
	r.entries.mu.Lock()
	defer r.entries.mu.Unlock()
	ids := r.entries.done(before)
	changes := make([]fileChange, len(ids))
	for i, id := range ids {
		changes[i] = fileChange{Drop: id}
	}
	if len(changes) == 0 {
		return 0, nil
	}
	return len(ids), r.commit(changes...)
}

// Close implements [Record].
func (r *FileRecord) Close() error {
	if err := r.journal.Close(); err != nil {
		return errors.Join(errors.New("close record"), err)
	}
	return nil
}
