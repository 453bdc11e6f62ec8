package enclave_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestThreatsNameRealTests: a refusal that THREATS.md promises has a test of that name.
func TestThreatsNameRealTests(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("THREATS.md")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, pattern := range []string{"*_test.go", "attest/*_test.go", "broker/*_test.go", "weights/*_test.go", "cli/*_test.go", "../schemas/*_test.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(b, -1) {
				have[string(m[1])] = true
			}
		}
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllSubmatch(page, -1)
	if len(named) < 40 {
		t.Fatalf("only %d tests are named", len(named))
	}
	for _, m := range named {
		if !have[string(m[1])] {
			t.Errorf("THREATS.md names %s, which does not exist", m[1])
		}
	}
}
