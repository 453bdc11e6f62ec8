//go:build !worker

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// shown finds command lines of the program in documentation: in code spans and code blocks, as `cocoon …` or `go run . …`.
var shown = regexp.MustCompile("(?m)(?:^ {2,}|^|`|\\$ |\\| )(?:cocoon|go run \\.) ([a-z][a-z0-9|-]*)((?: [a-z][a-z0-9|-]*)?)")

// TestDocumentedCommandsExist looks up every command that a page shows.
func TestDocumentedCommandsExist(t *testing.T) {
	t.Parallel()
	found := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && path != "." || entry.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range shown.FindAllStringSubmatch(string(text), -1) {
			found++
			checkCommand(t, path, m[1], strings.TrimSpace(m[2]))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 20 {
		t.Errorf("only %d commands were found in all pages: the pattern is blind", found)
	}
}

// checkCommand looks up a verb, or a noun and its verb; alternatives are separated by "|".
func checkCommand(t *testing.T, path, first, second string) {
	t.Helper()
	for noun := range strings.SplitSeq(first, "|") {
		root := newRoot()
		root.InitDefaultHelpCmd()
		root.InitDefaultCompletionCmd()
		cmd, _, err := root.Find([]string{noun})
		if err != nil || cmd == root {
			t.Errorf("%s shows `cocoon %s`, which does not exist", path, noun)
			continue
		}
		if second == "" || !cmd.HasSubCommands() {
			continue
		}
		for verb := range strings.SplitSeq(second, "|") {
			if sub, _, err := cmd.Find([]string{verb}); err != nil || sub == cmd {
				t.Errorf("%s shows `cocoon %s %s`, which does not exist", path, noun, verb)
			}
		}
	}
}
