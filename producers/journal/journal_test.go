package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cocoon-network/cocoon/schemas"
)

const form = "test journal v1"

// open opens a journal and returns what was in it.
func open(t *testing.T, path string) (*Journal, []string) {
	t.Helper()
	var got []string
	j, err := Open(path, form, func(p []byte) error {
		got = append(got, string(p))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j, got
}

// three makes a journal of three records and returns its path and the offsets where each record ends.
func three(t *testing.T) (path string, ends []int64) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "j")
	j, got := open(t, path)
	if len(got) != 0 {
		t.Fatalf("a new journal has %q", got)
	}
	ends = append(ends, j.Size())
	for i := range 3 {
		if err := j.Append(fmt.Appendf(nil, "record %d", i)); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, j.Size())
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return path, ends
}

// TestTornAnywhere cuts the file at every byte: exactly the whole records before the cut come back, and what is
// appended after that is found again.
func TestTornAnywhere(t *testing.T) {
	t.Parallel()
	path, ends := three(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		torn := filepath.Join(t.TempDir(), "torn")
		if err := os.WriteFile(torn, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		want := 0
		for want < 3 && ends[want+1] <= int64(cut) {
			want++
		}
		j, got := open(t, torn)
		if len(got) != want {
			t.Fatalf("cut at %d: got %q, want %d records", cut, got, want)
		}
		if err := j.Append([]byte("after"), nil); err != nil {
			t.Fatal(err)
		}
		j.Close()
		if _, got = open(t, torn); len(got) != want+2 || got[want] != "after" || got[want+1] != "" {
			t.Fatalf("cut at %d, appended: got %q", cut, got)
		}
	}
}

// TestDamageIsNotATornEnd flips every byte: damage is noticed, never silently dropped, except in the last record's
// payload, which cannot be told from a torn write.
func TestDamageIsNotATornEnd(t *testing.T) {
	t.Parallel()
	path, ends := three(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x40
		damaged := filepath.Join(t.TempDir(), "damaged")
		if err := os.WriteFile(damaged, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(damaged, form, func([]byte) error { return nil })
		if int64(at) >= ends[2]+8 {
			if err != nil {
				t.Errorf("byte %d of the last payload: %v", at, err)
				continue
			}
			j.Close()
			continue
		}
		if !errors.Is(err, schemas.KindCorrupt) {
			t.Errorf("byte %d: Open = %v, want KindCorrupt", at, err)
		}
		if after, _ := os.ReadFile(damaged); !bytes.Equal(after, bad) {
			t.Errorf("byte %d: a damaged journal was changed", at)
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "j")
	j, _ := open(t, path)
	if _, err := Open(path, form, nil); !errors.Is(err, schemas.KindBusy) {
		t.Errorf("a second Open = %v, want KindBusy", err)
	}
	if err := errors.Join(j.Close(), j.Close()); err != nil {
		t.Error(err)
	}
	open(t, path)
}

func TestAppendAfterFailure(t *testing.T) {
	t.Parallel()
	j, _ := open(t, filepath.Join(t.TempDir(), "j"))
	j.file.Close() // the disk goes away
	if err := j.Append([]byte("x")); err == nil {
		t.Fatal("Append to a lost file succeeded")
	}
	if err := j.Write([]byte("y")); err == nil {
		t.Error("Write after a failed Append succeeded: the end of the file is unknown")
	}
	if err := j.Append(make([]byte, 0)); err == nil {
		t.Error("Append after a failed Append succeeded")
	}
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	path, _ := three(t)
	j, err := Rewrite(path, form, func(add func([]byte) error) error { return add([]byte("all of it")) })
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append([]byte("more")); err != nil {
		t.Fatal(err)
	}
	j.Close()
	if _, got := open(t, path); len(got) != 2 || got[0] != "all of it" || got[1] != "more" {
		t.Errorf("got %q", got)
	}

	path, _ = three(t)
	broken := errors.New("no")
	if _, err := Rewrite(path, form, func(func([]byte) error) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("Rewrite = %v", err)
	}
	if _, got := open(t, path); len(got) != 3 {
		t.Errorf("a failed rewrite left %q", got)
	}
}

// FuzzRead checks that no file makes Open panic or take memory that the file does not have.
func FuzzRead(f *testing.F) {
	f.Add([]byte(form + "\n"))
	f.Add([]byte(form + "\n\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "j")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(path, form, func([]byte) error { return nil })
		if err != nil {
			return
		}
		size := j.Size()
		if size > max(int64(len(b)), int64(len(form))+1) {
			t.Fatalf("%d bytes became %d", len(b), size)
		}
		j.Close()
	})
}
