package settlement

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/migrations"
)

// dialect holds what differs between the two databases. All other SQL is written once, with "?" for parameters.
//
// Both databases run one writer at a time, SQLite by its nature (an immediate transaction takes the only write lock)
// and PostgreSQL by an advisory lock, so that one piece of reasoning holds for both: what a write transaction has read
// cannot change before it commits.
type dialect struct {
	goose goose.Dialect
	files func() (fs.FS, error)
	// lock is run first in every write transaction; empty for none.
	lock string
	// numbered says that parameters are $1, $2, … instead of ?.
	numbered bool
	// detach says that a running statement must not be interrupted: an interrupt would end the transaction at once.
	detach bool
}

// writerLock is the key of the advisory lock, the first eight bytes of SHA-256("cocoon/ledger").
const writerLock = "SELECT pg_advisory_xact_lock(7165370922116117859)"

var (
	sqliteDialect = &dialect{
		goose:  goose.DialectSQLite3,
		files:  func() (fs.FS, error) { return fs.Sub(migrations.SQLite, "sqlite") },
		detach: true,
	}
	postgresDialect = &dialect{
		goose:    goose.DialectPostgres,
		files:    func() (fs.FS, error) { return fs.Sub(migrations.Postgres, "postgres") },
		lock:     writerLock,
		numbered: true,
	}
)

// Limits of the connections.
const (
	// maxReaders bounds the connections that only read.
	maxReaders = 4
	// maxPostgres bounds all connections to PostgreSQL of one process.
	maxPostgres = 8
	// busyWait is how long a SQLite writer waits for another process's transaction, in milliseconds.
	busyWait = 10_000
	// writerCacheKiB and readerCacheKiB bound SQLite's page cache of a connection; it grows to that as the book grows. The
	// writer's holds the job index of some ten million receipts.
	writerCacheKiB = 256 << 10
	readerCacheKiB = 16 << 10
	// pageSize is that of new SQLite files. Job ids are random, so a receipt dirties a page of their index of its own:
	// small pages make that cheap, and keep the cost of a receipt nearly flat as the book grows.
	pageSize = 2048
	// checkpointPages is when SQLite folds the write-ahead log back: 64 MiB, so that the pages of the job index are
	// written once for many commits.
	checkpointPages = 32768
)

// IsFile reports whether a dsn names a SQLite file rather than a server.
func IsFile(dsn string) bool {
	return !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://")
}

// FilePath is the path of the SQLite file that a dsn names.
func FilePath(dsn string) string { return strings.TrimPrefix(dsn, "sqlite:") }

// open connects to the database that dsn names: one handle that writes, one that reads.
func open(dsn string) (d *dialect, write, read *sql.DB, err error) {
	if !IsFile(dsn) {
		return openPostgres(dsn)
	}
	path := FilePath(dsn)
	if path == "" || strings.Contains(path, "://") {
		return nil, nil, nil, schemas.FieldError("dsn", "must be the path of a SQLite file or postgres://…")
	}
	return openSQLite(path)
}

// openPostgres uses one pool for both: readers do not wait for the writers' advisory lock.
func openPostgres(dsn string) (*dialect, *sql.DB, *sql.DB, error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, nil, nil, schemas.FieldError("dsn", "is not a PostgreSQL connection string")
	}
	db.SetMaxOpenConns(maxPostgres)
	return postgresDialect, db, db, nil
}

// pgxDriver keeps the import that registers the "pgx" driver.
var _ = stdlib.GetDefaultDriver

// openSQLite uses one connection for writing, so that the lock is never fought for inside the process, and a few for
// reading, which see the last commit and never wait.
func openSQLite(path string) (*dialect, *sql.DB, *sql.DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, nil, nil, schemas.Errorf(schemas.KindUnavailable, "folder of the ledger: %w", err)
	}
	if err := private(path); err != nil {
		return nil, nil, nil, err
	}
	// The driver runs these in the order of the alphabet; what needs another order has a key of its own.
	pragmas := url.Values{"_pragma": {
		"page_size(" + strconv.Itoa(pageSize) + ")",
		"busy_timeout(" + strconv.Itoa(busyWait) + ")",
		"synchronous(FULL)", // a commit survives the loss of power
		"foreign_keys(ON)",
		"wal_autocheckpoint(" + strconv.Itoa(checkpointPages) + ")",
		"temp_store(MEMORY)",
	}}
	uri := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}
	cache := func(kib int) string { return "&_pragma=cache_size(-" + strconv.Itoa(kib) + ")" }
	// The journal's mode makes the file, after which the size of its pages stands.
	uri.RawQuery = pragmas.Encode() + cache(writerCacheKiB) + "&_journal_mode=WAL&_txlock=immediate"
	write, err := sql.Open("sqlite", uri.String())
	if err != nil {
		return nil, nil, nil, err
	}
	write.SetMaxOpenConns(1)
	pragmas.Add("_pragma", "query_only(ON)")
	uri.RawQuery = pragmas.Encode() + cache(readerCacheKiB) + "&_txlock=deferred"
	read, err := sql.Open("sqlite", uri.String())
	if err != nil {
		return nil, nil, nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(maxReaders)
	return sqliteDialect, write, read, nil
}

// private creates the file so that only its owner can read it: the ledger says who earns what.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return schemas.Errorf(schemas.KindUnavailable, "open the ledger: %w", err)
	}
	return f.Close()
}

// migrate brings the schema up to date and refuses one that is newer than this program.
func (d *dialect) migrate(ctx context.Context, db *sql.DB) (applied int, err error) {
	files, err := d.files()
	if err != nil {
		return 0, err
	}
	p, err := goose.NewProvider(d.goose, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return 0, err
	}
	known := p.ListSources()
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return 0, d.fail(err)
	}
	if newest := known[len(known)-1].Version; have > newest {
		return 0, schemas.Errorf(schemas.KindUnsupported, "the ledger has schema %d, this program knows %d: use a newer program", have, newest)
	}
	done, err := p.Up(ctx)
	if err != nil {
		return 0, d.fail(err)
	}
	return len(done), nil
}

// rebind spells the parameters of a query for the database.
func (d *dialect) rebind(query string) string {
	if !d.numbered || !strings.Contains(query, "?") {
		return query
	}
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(query, "?") {
		if n > 0 {
			fmt.Fprintf(&b, "$%d", n)
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}

// fail gives a database's failure a kind: what may pass when tried again is KindUnavailable or KindBusy, a refused
// constraint is KindConflict, a damaged file KindCorrupt, all else KindInternal.
func (d *dialect) fail(err error) error {
	var own *schemas.Error
	if err == nil || errors.As(err, &own) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	kind := schemas.KindInternal
	var lite *sqlite.Error
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &lite):
		kind = sqliteKind(lite.Code())
	case errors.As(err, &pg):
		kind = postgresKind(pg.Code)
	case d.numbered: // whatever did not come from the server's mouth is the way to it
		kind = schemas.KindUnavailable
	}
	return schemas.Errorf(kind, "ledger: %w", err)
}

// sqliteKind classifies a result code; the low byte is the primary code.
func sqliteKind(code int) schemas.Kind {
	switch code & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return schemas.KindBusy
	case sqlite3.SQLITE_CONSTRAINT:
		return schemas.KindConflict
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return schemas.KindCorrupt
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM:
		return schemas.KindUnavailable
	}
	return schemas.KindInternal
}

// postgresKind classifies an SQLSTATE by its class.
func postgresKind(state string) schemas.Kind {
	if len(state) < 2 {
		return schemas.KindInternal
	}
	switch state[:2] {
	case "40", "55": // serialization failure, deadlock, lock not available
		return schemas.KindBusy
	case "23":
		return schemas.KindConflict
	case "08", "53", "57", "58": // connection, resources, shutdown, system
		return schemas.KindUnavailable
	case "XX":
		return schemas.KindCorrupt
	}
	return schemas.KindInternal
}
