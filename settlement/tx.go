package settlement

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
)

// tx is one transaction. In a write transaction it collects what accounts gain and lose, and writes the balances once,
// at the end.
type tx struct {
	ctx    context.Context
	d      *dialect
	l      *Ledger
	sql    *sql.Tx
	now    int64
	next   int64 // id of the next entry, 0 until it is known
	deltas map[int64]schemas.NanoTON
}

// write runs fn in a transaction that no other writer overlaps. When fn returns nil everything in it is durable or,
// after an error, nothing; an error of the commit itself leaves that open, and callers find out by doing the same
// again, which every caller can because every write has an idempotency key.
func (l *Ledger) write(ctx context.Context, fn func(*tx) error) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	raw, err := l.rw.BeginTx(ctx, nil)
	if err != nil {
		return l.d.fail(err)
	}
	t := &tx{ctx: ctx, d: l.d, l: l, sql: raw, now: l.now().Unix(), deltas: map[int64]schemas.NanoTON{}}
	if l.d.detach {
		t.ctx = context.WithoutCancel(ctx)
	}
	if err := t.run(fn); err != nil {
		l.names.forget()
		return errors.Join(l.d.fail(err), ignoreDone(raw.Rollback()))
	}
	if err := l.fail(beforeCommit); err != nil {
		l.names.forget()
		return errors.Join(err, ignoreDone(raw.Rollback()))
	}
	// Commit point. Before it a crash leaves no trace of fn; after it all of fn is there.
	if err := raw.Commit(); err != nil {
		l.names.forget()
		return l.d.fail(err)
	}
	if err := l.fail(afterCommit); err != nil {
		return err
	}
	if len(t.deltas) > 0 {
		l.signal()
	}
	return nil
}

// Places at which tests make a write fail.
const (
	beforeCommit = "before commit" // lost
	afterCommit  = "after commit"  // done, but reported as an error
)

// fail asks the test, if there is one, whether a write fails here.
func (l *Ledger) fail(where string) error {
	if l.fault == nil {
		return nil
	}
	return l.fault(where)
}

// run is the body of a write transaction.
func (t *tx) run(fn func(*tx) error) error {
	if t.d.lock != "" {
		if _, err := t.exec(t.d.lock); err != nil {
			return err
		}
	}
	if err := fn(t); err != nil {
		return err
	}
	return t.flush()
}

// read runs fn on a snapshot of the last commit.
func (l *Ledger) read(ctx context.Context, fn func(*tx) error) error {
	opt := &sql.TxOptions{ReadOnly: true}
	if l.d.numbered {
		opt.Isolation = sql.LevelRepeatableRead // SQLite's snapshots are that without asking
	}
	raw, err := l.ro.BeginTx(ctx, opt)
	if err != nil {
		return l.d.fail(err)
	}
	err = fn(&tx{ctx: ctx, d: l.d, l: l, sql: raw, now: l.now().Unix()})
	return errors.Join(l.d.fail(err), ignoreDone(raw.Rollback()))
}

// ignoreDone drops the error of ending a transaction that has ended by itself.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// exec runs a statement, the prepared one where there is one, and returns how many rows it touched.
func (t *tx) exec(query string, args ...any) (int64, error) {
	var r sql.Result
	var err error
	if st := t.l.prepared[query]; st != nil {
		r, err = t.sql.StmtContext(t.ctx, st).ExecContext(t.ctx, args...)
	} else {
		r, err = t.sql.ExecContext(t.ctx, t.d.rebind(query), args...)
	}
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// one scans the only row of a query; found is false when there is none.
func (t *tx) one(dest []any, query string, args ...any) (found bool, err error) {
	err = t.sql.QueryRowContext(t.ctx, t.d.rebind(query), args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// each calls fn for every row of a query.
func (t *tx) each(fn func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := t.sql.QueryContext(t.ctx, t.d.rebind(query), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// maxParams bounds the parameters of one statement; SQLite allows 32,766, PostgreSQL 65,535.
const maxParams = 2000

// rowsAtOnce is how many rows one statement carries, the most first: with three prepared statements any number of rows
// takes few calls.
var rowsAtOnce = [...]int{100, 10, 1}

// insert adds rows through statements of many rows each, prepared once per ledger. into is "table (a, b, c)", rows are
// flat: width values for each row.
func (t *tx) insert(into string, width int, rows []any) error {
	return t.inChunks(width, rows, func(n int) string { return insertSQL(into, width, n) })
}

// inChunks runs a statement on flat rows, so many at once as there is a statement for.
func (t *tx) inChunks(width int, rows []any, query func(rows int) string) error {
	for _, n := range rowsAtOnce {
		for q := query(n); len(rows) >= n*width; rows = rows[n*width:] {
			if _, err := t.exec(q, rows[:n*width]...); err != nil {
				return err
			}
		}
	}
	return nil
}

// insertSQL spells an insert of n rows.
func insertSQL(into string, width, n int) string {
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", width), ", ") + "), "
	return "INSERT INTO " + into + " VALUES " + strings.TrimSuffix(strings.Repeat(row, n), ", ")
}

// list spells n parameters for an IN clause.
func list(n int) string { return "(" + strings.TrimSuffix(strings.Repeat("?, ", n), ", ") + ")" }

// chunks cuts values into pieces that fit one statement.
func chunks[T any](values []T) func(func([]T) bool) { return slices.Chunk(values, maxParams) }

// Tables into which intake writes for every job, with their columns.
const (
	intoEntries  = "entries (id, kind, place, at, ref)"
	intoPostings = "postings (account, entry, amount)"
	intoReceipts = "receipts (seq, entry, job, tenant, owner, worker, number, model, class, catalogue, multiplier," +
		" prompt, cached, completion, reasoning, total, fee, hash, finished)"
)

// prepare makes the statements that intake runs thousands of times a second.
func prepare(ctx context.Context, d *dialect, db *sql.DB) (map[string]*sql.Stmt, error) {
	queries := []string{addEarnings}
	for _, n := range rowsAtOnce {
		queries = append(queries, moveBalances(n))
		for _, into := range []string{intoEntries, intoPostings, intoReceipts} {
			queries = append(queries, insertSQL(into, 1+strings.Count(into, ","), n))
		}
	}
	m := map[string]*sql.Stmt{}
	for _, query := range queries {
		st, err := db.PrepareContext(ctx, d.rebind(query))
		if err != nil {
			return m, d.fail(err)
		}
		m[query] = st
	}
	return m, nil
}
