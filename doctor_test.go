//go:build !worker

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckTDX(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file string
		want       verdict
		says       string
	}{
		{"nothing", "", verdictNA, "simulated"},
		{"host", "sys/module/kvm_intel/parameters/tdx", verdictNA, "TDX host"},
		{"old guest", "dev/tdx_guest", verdictOK, "trust domain"},
		{"new guest", "sys/kernel/config/tsm/report", verdictOK, "trust domain"},
	} {
		root := t.TempDir()
		if c.file != "" {
			path := filepath.Join(root, c.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if f := checkTDX(root); f.Verdict != c.want || !strings.Contains(f.Detail, c.says) {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

func TestCheckMemory(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]verdict{
		"MemTotal: 16 kB\nMemAvailable:    8388608 kB\n": verdictOK,
		"MemAvailable:     524288 kB\n":                  verdictWarn,
		"MemTotal: 16 kB\n":                              verdictNA,
	} {
		path := filepath.Join(t.TempDir(), "meminfo")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if f := checkMemory(path); f.Verdict != want {
			t.Errorf("%q: %+v", content, f)
		}
	}
}

func TestCheckData(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	if f := checkData(dir); f.Verdict == verdictFail {
		t.Errorf("a folder that can be made: %+v", f)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the check made the folder")
	}
	if f := checkData("/proc/1/nowhere"); f.Verdict != verdictFail || f.Fix == "" {
		t.Errorf("a folder that cannot be written: %+v", f)
	}
}
