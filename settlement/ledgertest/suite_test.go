package ledgertest_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
)

// database opens one by DSN; raw is how somebody beside the ledger would.
func database(driver, dsn, raw string) ledgertest.Database {
	return ledgertest.Database{
		Open: func(o settlement.LedgerOptions) (*settlement.Ledger, error) {
			return settlement.OpenLedger(context.Background(), dsn, o)
		},
		Exec: func(query string) error {
			db, err := sql.Open(driver, raw)
			if err != nil {
				return err
			}
			defer db.Close()
			_, err = db.ExecContext(context.Background(), query)
			return err
		},
	}
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(t testing.TB) ledgertest.Database {
		path := filepath.Join(t.TempDir(), "ledger.db")
		return database("sqlite", path, "file:"+path+"?_pragma=busy_timeout(5000)&_pragma=foreign_keys(ON)")
	})
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	server := ledgertest.Postgres(t)
	ledgertest.Run(t, func(t testing.TB) ledgertest.Database {
		dsn := server.Database(t)
		return database("pgx", dsn, dsn)
	})
}
