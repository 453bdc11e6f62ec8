package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/schemas"
)

// version is the form of the file, kept in its user_version. application marks the file as ours.
const (
	version     = 1
	application = 0x636f636e // "cocn"
)

// schema of version 1. An entry is stored as JSON; what is looked up has a column.
const schema = `
CREATE TABLE jobs (
	id      TEXT PRIMARY KEY,
	key     TEXT UNIQUE,
	done    INTEGER NOT NULL,
	created INTEGER NOT NULL,
	updated INTEGER NOT NULL,
	entry   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_created ON jobs (created, id);
CREATE INDEX jobs_open ON jobs (created, id) WHERE done = 0;
CREATE INDEX jobs_done ON jobs (updated) WHERE done = 1;`

// Limits of a record.
const (
	// maxGroup bounds the writes that share a commit.
	maxGroup = 256
	// busyWait is how long a write waits for another process.
	busyWait = 10 * time.Second
	// page is how many entries a listing reads at a time.
	page = 64
)

// Record is a job record in a file.
type Record struct {
	db    *sql.DB
	write chan *write
	stop  context.CancelFunc
	done  sync.WaitGroup
}

var _ producers.Record = (*Record)(nil)

// write is one change that waits for its commit.
type write struct {
	do   func(context.Context, *sql.Tx) error
	err  error
	done chan struct{}
}

// Open opens the record at path, making it when there is none. KindCorrupt: the file is something else.
func Open(ctx context.Context, path string) (*Record, error) {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(" + fmt.Sprint(busyWait.Milliseconds()) + ")", "journal_mode(WAL)", "synchronous(FULL)",
	}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open record: %w", err)
	}
	if err := prepare(ctx, db, path); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	life, stop := context.WithCancel(context.Background())
	r := &Record{db: db, write: make(chan *write), stop: stop}
	r.done.Go(func() { r.commits(life) })
	return r, nil
}

// prepare makes the tables of a new file and refuses files that are not ours.
func prepare(ctx context.Context, db *sql.DB, path string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return openError(path, err)
	}
	defer tx.Rollback()
	var have, app, tables int
	err = errors.Join(
		tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have), tx.QueryRowContext(ctx, "PRAGMA application_id").Scan(&app),
		tx.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables))
	switch {
	case err != nil:
		return openError(path, err)
	case have == version && app == application:
		return nil
	case app == application:
		return &schemas.Error{Kind: schemas.KindUnsupported, Field: path, Message: fmt.Sprintf("is a record of version %d, this program knows %d", have, version)}
	case tables > 0:
		return &schemas.Error{Kind: schemas.KindCorrupt, Field: path, Message: "is a database, but not a job record"}
	}
	// Commit point: the tables and their version appear together or not at all.
	for _, stmt := range []string{schema, fmt.Sprintf("PRAGMA user_version = %d", version), fmt.Sprintf("PRAGMA application_id = %d", application)} {
		if _, err := tx.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("make record: %w", err)
		}
	}
	return tx.Commit()
}

// openError says that a file is not a database, or that it cannot be reached.
func openError(path string, err error) error {
	var code interface{ Code() int }
	const notADatabase, damaged = 26, 11
	if errors.As(err, &code) && (code.Code()&0xff == notADatabase || code.Code()&0xff == damaged) {
		return &schemas.Error{Kind: schemas.KindCorrupt, Field: path, Message: "is not a job record", Err: err}
	}
	return fmt.Errorf("open record: %w", err)
}

// commits gathers the writes that wait and commits them together.
func (r *Record) commits(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-r.write:
			r.commit(r.gather(first))
		}
	}
}

// gather takes what else is waiting right now.
func (r *Record) gather(first *write) []*write {
	group := []*write{first}
	for len(group) < maxGroup {
		select {
		case w := <-r.write:
			group = append(group, w)
		default:
			return group
		}
	}
	return group
}

// commit makes a group of changes durable. The commit point is tx.Commit: before it nothing of the group is there after
// a crash, after it everything is. A change that fails has changed nothing and does not stop the others.
func (r *Record) commit(group []*write) {
	defer func() {
		for _, w := range group {
			close(w.done)
		}
	}()
	ctx := context.Background() // a caller who gives up must not undo the others' writes
	tx, err := r.db.BeginTx(ctx, nil)
	if err == nil {
		defer tx.Rollback()
		for _, w := range group {
			w.err = w.do(ctx, tx)
		}
		err = tx.Commit()
	}
	if err == nil {
		return
	}
	for _, w := range group {
		if w.err == nil {
			w.err = fmt.Errorf("write record: %w", err)
		}
	}
}

// change waits until a change is durable. When ctx ends first the change may still happen.
func (r *Record) change(ctx context.Context, do func(context.Context, *sql.Tx) error) error {
	w := &write{do: do, done: make(chan struct{})}
	select {
	case r.write <- w:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// columns are the values of an entry's row.
func columns(e *producers.Entry) (key sql.NullString, done bool, blob []byte, err error) {
	blob, err = json.Marshal(e)
	if err != nil {
		return key, false, nil, fmt.Errorf("encode entry: %w", err)
	}
	if len(blob) > producers.MaxEntry {
		return key, false, nil, &schemas.Error{Kind: schemas.KindTooLarge, Field: "entry", Message: "is larger than a record keeps"}
	}
	return sql.NullString{String: e.Key, Valid: e.Key != ""}, e.State == producers.StateDone, blob, nil
}

// Create implements [producers.Record].
func (r *Record) Create(ctx context.Context, e producers.Entry) (stored producers.Entry, created bool, err error) {
	key, done, blob, err := columns(&e)
	if err != nil {
		return producers.Entry{}, false, err
	}
	var found producers.Entry
	var isNew bool
	err = r.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO jobs (id, key, done, created, updated, entry) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			e.ID, key, done, e.Created.UnixNano(), e.Updated.UnixNano(), blob)
		if err != nil {
			return fmt.Errorf("create entry: %w", err)
		}
		n, err := result.RowsAffected()
		if isNew = n == 1; err != nil || isNew {
			return err
		}
		found, err = one(tx.QueryRowContext(ctx, `SELECT entry FROM jobs WHERE id = ? UNION ALL SELECT entry FROM jobs WHERE key = ? LIMIT 1`, e.ID, key))
		return err
	})
	switch {
	case err != nil:
		return producers.Entry{}, false, err
	case isNew:
		return e, true, nil
	}
	return found, false, nil
}

// Update implements [producers.Record].
func (r *Record) Update(ctx context.Context, e producers.Entry) error {
	key, done, blob, err := columns(&e)
	if err != nil {
		return err
	}
	return r.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `UPDATE jobs SET key = ?, done = ?, updated = ?, entry = ? WHERE id = ?`,
			key, done, e.Updated.UnixNano(), blob, e.ID)
		if err != nil {
			return fmt.Errorf("update entry: %w", err)
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, notFound(e.ID))
		}
		return nil
	})
}

// Delete implements [producers.Record].
func (r *Record) Delete(ctx context.Context, id schemas.JobID) error {
	return r.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM jobs WHERE id = ?`, id)
		return err
	})
}

// Get implements [producers.Record].
func (r *Record) Get(ctx context.Context, id schemas.JobID) (producers.Entry, error) {
	e, err := one(r.db.QueryRowContext(ctx, `SELECT entry FROM jobs WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return producers.Entry{}, notFound(id)
	}
	return e, err
}

// notFound says that a job is not in the record.
func notFound(id schemas.JobID) error {
	return &schemas.Error{Kind: schemas.KindNotFound, Field: "job", Message: string(id) + " is not in the record"}
}

// one reads an entry from a row.
func one(row interface{ Scan(...any) error }) (e producers.Entry, err error) {
	var blob []byte
	if err := row.Scan(&blob); err != nil {
		return e, err
	}
	if err := json.Unmarshal(blob, &e); err != nil {
		return e, &schemas.Error{Kind: schemas.KindCorrupt, Field: "entry", Message: "does not decode", Err: err}
	}
	return e, nil
}

// List implements [producers.Record]. It reads a page at a time, so that a slow reader holds no lock.
func (r *Record) List(ctx context.Context, open bool) iter.Seq2[producers.Entry, error] {
	return func(yield func(producers.Entry, error) bool) {
		after, id := int64(-1)<<63, schemas.JobID("")
		for {
			entries, err := r.page(ctx, open, after, id)
			if err != nil {
				yield(producers.Entry{}, err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
				after, id = e.Created.UnixNano(), e.ID
			}
			if len(entries) < page {
				return
			}
		}
	}
}

// page reads the entries after a place in the order.
func (r *Record) page(ctx context.Context, open bool, after int64, id schemas.JobID) (list []producers.Entry, err error) {
	filter := ""
	if open {
		filter = "done = 0 AND "
	}
	rows, err := r.db.QueryContext(ctx, `SELECT entry FROM jobs WHERE `+filter+`(created, id) > (?, ?) ORDER BY created, id LIMIT ?`, after, id, page)
	if err != nil {
		return nil, fmt.Errorf("list entries: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		e, err := one(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, rows.Err()
}

// Prune implements [producers.Record].
func (r *Record) Prune(ctx context.Context, before time.Time) (n int, err error) {
	var pruned int64
	err = r.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `DELETE FROM jobs WHERE done = 1 AND updated < ?`, before.UnixNano())
		if err != nil {
			return fmt.Errorf("prune entries: %w", err)
		}
		pruned, err = result.RowsAffected()
		return err
	})
	return int(pruned), err
}

// Close implements [producers.Record].
func (r *Record) Close() error {
	r.stop()
	r.done.Wait()
	return r.db.Close()
}
