package deploy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/knadh/koanf/parsers/yaml"
)

// object is a YAML or JSON object.
type object = map[string]any

// read reads a file of this folder.
func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// glob lists the files that match a pattern. That there are none is a failure: such a test would prove nothing.
func glob(t *testing.T, patterns ...string) []string {
	t.Helper()
	var all []string
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no file matches %s (%v)", pattern, err)
		}
		all = append(all, files...)
	}
	return all
}

// documents splits a stream of YAML documents and parses them. Empty ones are left out.
func documents(t *testing.T, where string, b []byte) []object {
	t.Helper()
	var all []object
	for text := range strings.SplitSeq("\n"+string(b), "\n---") {
		o, err := yaml.Parser().Unmarshal([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v\n%s", where, err, text)
		}
		if len(o) > 0 {
			all = append(all, o)
		}
	}
	return all
}

// strict reads a YAML file into a struct and refuses keys that the struct does not have.
func strict(t *testing.T, path string, into any) {
	t.Helper()
	all := documents(t, path, read(t, path))
	if len(all) != 1 {
		t.Fatalf("%s has %d documents, not 1", path, len(all))
	}
	b, err := json.Marshal(all[0])
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("%s: more than one value", path)
	}
}

// at walks into nested objects and lists: keys are strings, places in lists ints. It returns nil where there is nothing.
func at(v any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			o, _ := v.(object)
			v = o[step]
		case int:
			list, _ := v.([]any)
			if step >= len(list) {
				return nil
			}
			v = list[step]
		}
	}
	return v
}

// text is a value as a string, "" if it is none.
func text(v any) string { s, _ := v.(string); return s }

// list is a value as a list, nil if it is none.
func list(v any) []any { l, _ := v.([]any); return l }

// words is a list of strings.
func words(v any) []string {
	var all []string
	for _, w := range list(v) {
		all = append(all, text(w))
	}
	return all
}

// required reports whether nothing may be skipped.
func required() bool { return os.Getenv("COCOON_TEST_REQUIRE") == "all" }
