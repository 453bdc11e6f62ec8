package sqlite

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/recordtest"
	"github.com/cocoon-network/cocoon/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens the record in a folder.
func open(t *testing.T, dir string) producers.Record {
	t.Helper()
	r, err := Open(t.Context(), filepath.Join(dir, "jobs.db"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRecord(t *testing.T) {
	t.Parallel()
	recordtest.Run(t, open, false)
}

// TestTwoProcesses opens one file twice, as two processes do.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	defer a.Close()
	defer b.Close()
	now := time.Now().UTC()
	e := producers.Entry{ID: schemas.NewJobID(), Key: "k", State: producers.StateSealed, Created: now, Updated: now}
	if _, created, err := a.Create(t.Context(), e); err != nil || !created {
		t.Fatal(created, err)
	}
	if got, err := b.Get(t.Context(), e.ID); err != nil || got.Key != "k" {
		t.Errorf("the other process sees %+v, %v", got, err)
	}
	var wg sync.WaitGroup
	for _, r := range []producers.Record{a, b} {
		wg.Go(func() {
			for range 50 {
				e := producers.Entry{ID: schemas.NewJobID(), State: producers.StateSealed, Created: now, Updated: now}
				if _, created, err := r.Create(t.Context(), e); err != nil || !created {
					t.Errorf("Create = %v, %v", created, err)
				}
			}
		})
	}
	wg.Wait()
	n := 0
	for _, err := range a.List(t.Context(), true) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 101 {
		t.Errorf("%d entries, want 101", n)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("this is no database at all, is it? no, it is a text file"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.db")
	db, err := sql.Open("sqlite", other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE mine (x)"); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "newer.db")
	r, err := Open(t.Context(), newer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]schemas.Kind{text: schemas.KindCorrupt, other: schemas.KindCorrupt, newer: schemas.KindUnsupported} {
		if _, err := Open(t.Context(), path); !errors.Is(err, want) {
			t.Errorf("Open(%s) = %v, want %v", filepath.Base(path), err, want)
		}
	}
	if b, err := os.ReadFile(text); err != nil || string(b[:4]) != "this" {
		t.Errorf("the text file was changed: %q, %v", b[:4], err)
	}
}
