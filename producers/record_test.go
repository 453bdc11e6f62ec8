package producers_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/recordtest"
	"github.com/cocoon-network/cocoon/schemas"
)

func TestMemoryRecord(t *testing.T) {
	t.Parallel()
	recordtest.Run(t, func(*testing.T, string) producers.Record { return producers.NewMemoryRecord() }, true)
}

// openFile opens the file record in a folder.
func openFile(t *testing.T, dir string) producers.Record {
	t.Helper()
	r, err := producers.OpenFileRecord(filepath.Join(dir, "jobs"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFileRecord(t *testing.T) {
	t.Parallel()
	recordtest.Run(t, openFile, false)
}

func TestFileRecordShrinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "jobs")
	r := openFile(t, dir)
	e := producers.Entry{ID: schemas.NewJobID(), State: producers.StateSealed, Envelope: make([]byte, 256<<10), Created: time.Now().UTC()}
	if _, _, err := r.Create(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := r.Update(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	r = openFile(t, dir)
	defer r.Close()
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if after.Size() > before.Size()/10 {
		t.Errorf("the file went from %d to %d bytes", before.Size(), after.Size())
	}
	if _, err := r.Get(t.Context(), e.ID); err != nil {
		t.Errorf("Get after the rewrite: %v", err)
	}
}

func TestFileRecordIsForOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := openFile(t, dir)
	defer r.Close()
	if _, err := producers.OpenFileRecord(filepath.Join(dir, "jobs")); !errors.Is(err, schemas.KindBusy) {
		t.Errorf("a second open = %v, want KindBusy", err)
	}
}
