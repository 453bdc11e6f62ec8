package batch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/producers/journal"
	"github.com/cocoon-network/cocoon/schemas"
)

// Batch is a batch in its folder. It is safe for concurrent use.
type Batch struct {
	dir      string
	manifest manifest
	// fresh says that no earlier process can have published anything of it.
	fresh bool
	// checked is the input file as it was when this process checked it; nil when another one did.
	checked fs.FileInfo

	mu      sync.Mutex // guards the fields below; what is in the book is in the journal first
	book    *book
	journal *journal.Journal // nil when the batch was only opened to read
	results *os.File         // the end of results.jsonl
	changed chan struct{}    // is closed and replaced at every change of the book
}

// Open opens the batch in a folder to run or change it. KindNotFound: there is none; KindBusy: another process runs it;
// KindCorrupt: the journal is damaged.
func Open(dir string) (*Batch, error) {
	b, err := newBatch(dir)
	if err != nil {
		return nil, err
	}
	if b.journal, err = journal.Open(filepath.Join(dir, journalName), journalForm, b.book.replay); err != nil {
		return nil, err
	}
	if err := b.openResults(); err != nil {
		return nil, errors.Join(err, b.journal.Close())
	}
	return b, nil
}

// Read opens the batch in a folder to look at it, also while another process runs it. Nothing can be changed through it.
func Read(dir string) (*Batch, error) {
	b, err := newBatch(dir)
	if err != nil {
		return nil, err
	}
	return b, journal.Read(filepath.Join(dir, journalName), journalForm, b.book.replay)
}

// newBatch reads what a batch is.
func newBatch(dir string) (*Batch, error) {
	m, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	return &Batch{dir: dir, manifest: m, book: newBook(&m), changed: make(chan struct{})}, nil
}

// openResults opens the results for appending and cuts off what the journal does not know: a line that was being
// written when the process died. Its outcome will be heard again.
func (b *Batch) openResults() error {
	f, err := os.OpenFile(filepath.Join(b.dir, resultsName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open results: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() < b.book.results {
		err = &schemas.Error{Kind: schemas.KindCorrupt, Field: resultsName, Message: "is shorter than the journal says"}
	}
	if err == nil {
		err = f.Truncate(b.book.results)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	b.results = f
	return nil
}

// Close lets go of the folder.
func (b *Batch) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.journal == nil {
		return nil
	}
	return errors.Join(b.results.Sync(), b.results.Close(), b.journal.Close())
}

// Summary is what came of it so far.
func (b *Batch) Summary() Summary {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.book.summary(&b.manifest)
}

// sameInput refuses to go on with another file than the batch was made of.
func (b *Batch) sameInput(path string) error {
	if path == "" {
		return nil
	}
	abs, err := filepath.Abs(path)
	if err == nil && abs != b.manifest.Options.Input {
		err = &schemas.Error{Kind: schemas.KindConflict, Field: "input", Message: "the folder holds a batch of " + b.manifest.Options.Input}
	}
	return err
}

// commit writes an event down and makes it true. durable: when it returns, the event survives the machine; otherwise
// it survives this process, and what is lost with the machine is only asked for again. The caller holds mu.
func (b *Batch) commit(e event, durable bool) error {
	if b.journal == nil {
		return &schemas.Error{Kind: schemas.KindDenied, Field: "batch", Message: "is open for reading only"}
	}
	e.At = time.Now().UTC()
	payload, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	if durable {
		err = b.journal.Append(payload)
	} else {
		err = b.journal.Write(payload)
	}
	if err != nil {
		return err
	}
	b.book.apply(&e)
	close(b.changed)
	b.changed = make(chan struct{})
	return nil
}

// record is commit for callers without the lock.
func (b *Batch) record(e event, durable bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.commit(e, durable)
}

// store appends a result line and records that its line has ended. A crash between the two leaves bytes that the next
// Open cuts off.
func (b *Batch) store(d doneLine, text []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	d.Offset, d.Length = b.book.results, len(text)
	if _, err := b.results.WriteAt(text, d.Offset); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return b.commit(event{Done: &d}, false)
}

// Retry makes the failed lines whose reason can pass new jobs and says how many. The next Run submits them: they cost
// what they cost, nothing that was answered is run again. A cancelled batch is no longer cancelled then.
func (b *Batch) Retry() (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var again []int
	for number, l := range b.book.lines {
		if l.state == lineDone && l.code != "" && mayPass(l.code) {
			again = append(again, number)
		}
	}
	if len(again) == 0 {
		return 0, nil
	}
	slices.Sort(again)
	if err := os.Remove(filepath.Join(b.dir, cancelName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("retry: %w", err)
	}
	return len(again), b.commit(event{Retry: again}, true)
}

// RequestCancel asks for the end of a batch that some process runs, or will run. It returns at once; the running process
// sees it within a second.
func RequestCancel(dir string) error {
	if _, err := readManifest(dir); err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, cancelName), []byte(time.Now().UTC().Format(time.RFC3339)+"\n"), true)
}

// cancelRequested reports whether RequestCancel was called.
func (b *Batch) cancelRequested() bool {
	_, err := os.Stat(filepath.Join(b.dir, cancelName))
	return err == nil
}

// List describes the batches in the folders directly below root, the newest first. A folder that holds no batch is
// skipped; one whose batch is damaged is an error.
func List(root string) ([]Summary, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list batches: %w", err)
	}
	var list []Summary
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		b, err := Read(filepath.Join(root, entry.Name()))
		if errors.Is(err, schemas.KindNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", entry.Name(), err)
		}
		list = append(list, b.Summary())
	}
	slices.SortStableFunc(list, func(a, b Summary) int { return b.Created.Compare(a.Created) })
	return list, nil
}
