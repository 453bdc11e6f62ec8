package settlement_test

import (
	"path/filepath"
	"testing"

	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
)

// TestSQLiteSettings: the file is made as it should be, and both kinds of connection work as the ledger promises.
func TestSQLiteSettings(t *testing.T) {
	t.Parallel()
	l := openLedger(t, filepath.Join(t.TempDir(), "ledger.db"), ledgertest.NewClock())
	for pragma, want := range map[string][2]string{ // of the writer and of readers
		"page_size":    {"2048", "2048"},
		"journal_mode": {"wal", "wal"},
		"synchronous":  {"2", "2"}, // FULL
		"foreign_keys": {"1", "1"},
		"busy_timeout": {"10000", "10000"},
		"query_only":   {"0", "1"},
	} {
		if got := settlement.Pragma(t.Context(), l, pragma); got != want {
			t.Errorf("%s is %q, want %q", pragma, got, want)
		}
	}
}
