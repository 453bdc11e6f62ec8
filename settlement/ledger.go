package settlement

import (
	"context"
	"log/slog"
	"time"
)

// LedgerOptions tune a ledger; the zero value is right for production.
type LedgerOptions struct {
	// Logger is told about migrations and slow commits; nil discards.
	Logger *slog.Logger
	// Now is the clock for the times written into entries; nil means time.Now. Nothing is decided by it but the age of
	// balances and the end of holds.
	Now func() time.Time
}

// Ledger is the book. It is safe for concurrent use, also by several processes.
type Ledger struct{}

// OpenLedger opens or creates the ledger that dsn names and brings its schema up to date. A dsn is the path of a SQLite
// file (optionally "sqlite:path") or "postgres://…". A schema newer than this program is KindUnsupported.
func OpenLedger(ctx context.Context, dsn string, opt LedgerOptions) (*Ledger, error) {
	panic("skeleton")
}

// Close ends all use of the database.
func (l *Ledger) Close() error { panic("skeleton") }

// Check audits the whole book: every entry and the sum of all postings are zero, every balance is the sum of its
// postings, every receipt is posted as priced. The first violation is KindCorrupt.
func (l *Ledger) Check(ctx context.Context) error { panic("skeleton") }

// Changed returns a channel that is closed at the next commit of this process that moved money.
func (l *Ledger) Changed() <-chan struct{} { panic("skeleton") }
