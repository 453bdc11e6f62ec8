package settlement

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// LedgerOptions tune a ledger; the zero value is right for production.
type LedgerOptions struct {
	// Logger is told about migrations; nil discards.
	Logger *slog.Logger
	// Now is the clock for the times written into entries; nil means time.Now. Nothing is decided by it but the age of
	// balances and the end of holds.
	Now func() time.Time
}

// Ledger is the book. It is safe for concurrent use, also by several processes.
type Ledger struct {
	d      *dialect
	rw, ro *sql.DB
	now    func() time.Time

	// writing lets one goroutine of this process write at a time: SQLite's only write connection is not fought for, and
	// what names gained is forgotten after a rollback before anybody else writes.
	writing sync.Mutex
	names   nameCache
	// prepared is filled before the ledger is handed out and never changed.
	prepared map[string]*sql.Stmt

	// fault is nil outside of tests.
	fault func(where string) error

	// mu guards changed.
	mu      sync.Mutex
	changed chan struct{}
}

// OpenLedger opens or creates the ledger that dsn names and brings its schema up to date. A dsn is the path of a SQLite
// file (optionally "sqlite:path") or "postgres://…". A schema newer than this program is KindUnsupported.
func OpenLedger(ctx context.Context, dsn string, opt LedgerOptions) (*Ledger, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	d, rw, ro, err := open(dsn)
	if err != nil {
		return nil, err
	}
	l := &Ledger{d: d, rw: rw, ro: ro, now: opt.Now, changed: make(chan struct{})}
	applied, err := d.migrate(ctx, rw)
	if err == nil {
		l.prepared, err = prepare(ctx, d, rw)
	}
	if err != nil {
		return nil, errors.Join(d.fail(err), l.Close())
	}
	opt.Logger.Info("ledger open", slog.Int("migrations_applied", applied))
	return l, nil
}

// Close ends all use of the database.
func (l *Ledger) Close() error {
	var errs []error
	for _, st := range l.prepared {
		errs = append(errs, st.Close())
	}
	errs = append(errs, l.rw.Close())
	if l.ro != l.rw {
		errs = append(errs, l.ro.Close())
	}
	return errors.Join(errs...)
}

// Changed returns a channel that is closed at the next commit of this process that moved money.
func (l *Ledger) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// signal wakes everybody who waits for Changed.
func (l *Ledger) signal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

// corrupt reports a broken invariant.
func corrupt(format string, args ...any) error {
	return schemas.Errorf(schemas.KindCorrupt, format, args...)
}
