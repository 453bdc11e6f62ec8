//go:build !worker

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cocoon-network/cocoon/schemas"
)

func TestDataDirKeepsKeys(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	d, err := openData(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := d.key("roots.key")
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := d.tenant("local")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openData(dir); !errors.Is(err, schemas.KindConflict) {
		t.Fatalf("a second process got %v", err)
	}
	d.close()
	d, err = openData(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	again, err := d.key("roots.key")
	if err != nil || !bytes.Equal(key, again) {
		t.Errorf("the key changed over a restart: %v", err)
	}
	same, err := d.tenant("local")
	if err != nil || same.ID() != tenant.ID() {
		t.Errorf("the tenant changed over a restart: %v", err)
	}
	if info, err := os.Stat(d.sub("roots.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file has mode %v, %v", info.Mode(), err)
	}
}

func TestDataDirRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file, content string
		want                schemas.Kind
	}{
		{"another version", "VERSION", "cocoon 99\n", schemas.KindCorrupt},
		{"somebody's folder", "thesis.doc", "text", schemas.KindCorrupt},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openData(dir); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if kept, err := os.ReadFile(filepath.Join(dir, c.file)); err != nil || string(kept) != c.content {
			t.Errorf("%s: the refusal changed the folder", c.name)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openData(file); !errors.Is(err, schemas.KindDenied) {
		t.Errorf("a file in place of the folder: %v", err)
	}
}

func TestDataDirDamagedKey(t *testing.T) {
	t.Parallel()
	d, err := openData(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if err := os.WriteFile(d.sub("treasury.key"), []byte("deadbeef"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.key("treasury.key"); !errors.Is(err, schemas.KindCorrupt) {
		t.Errorf("a damaged key gave %v", err)
	}
}
