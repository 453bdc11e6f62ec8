package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// scratch is a folder for the run of all tests.
var scratch string

// TestMain makes the scratch folder and removes it.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "cocoon-deploy-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	scratch = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// build builds the program once, as an ordinary `go build` does.
var build = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "cocoon")
	out, err := exec.Command("go", "build", "-o", path, "..").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// program is the path of the program.
func program(t *testing.T) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// verb is one verb of the program as its help describes it.
type verb struct {
	// path is how it is called, such as "workers ls"; flags and shorts are what it takes.
	path   string
	flags  map[string]bool
	shorts map[string]bool
	// subs are the verbs below it.
	subs map[string]bool
}

// Lines of cobra's help.
var (
	flagLine  = regexp.MustCompile(`(?m)^\s+(?:-(\w), )?--([a-z0-9][a-z0-9-]*)\b`)
	groupLine = regexp.MustCompile(`^\S.*:$`)
	subLine   = regexp.MustCompile(`^  ([a-z][a-z-]*) +\S`)
)

// verbs remembers what was asked.
var verbs = struct {
	sync.Mutex
	known map[string]*verb
}{known: map[string]*verb{}}

// verbAt asks the program for the help of a verb.
func verbAt(t *testing.T, path string) *verb {
	t.Helper()
	exe := program(t)
	verbs.Lock()
	defer verbs.Unlock()
	if v, ok := verbs.known[path]; ok {
		return v
	}
	out, err := exec.Command(exe, append(strings.Fields(path), "--help")...).Output()
	if err != nil {
		t.Fatalf("cocoon %s --help: %v", path, err)
	}
	v := &verb{path: path, flags: map[string]bool{"help": true}, shorts: map[string]bool{"h": true}, subs: map[string]bool{}}
	for _, m := range flagLine.FindAllStringSubmatch(string(out), -1) {
		v.flags[m[2]], v.shorts[m[1]] = true, true
	}
	_, usage, _ := strings.Cut(string(out), "\nUsage:\n")
	verbLines := false
	for line := range strings.SplitSeq(usage, "\n") {
		if groupLine.MatchString(line) {
			verbLines = !strings.HasSuffix(line, "lags:") && line != "Examples:" && line != "Aliases:"
		} else if m := subLine.FindStringSubmatch(line); m != nil && verbLines {
			v.subs[m[1]] = true
		}
	}
	verbs.known[path] = v
	return v
}

// checkCommand holds a command line, without the program's name, to verbs and flags that the program has.
func checkCommand(t *testing.T, where string, args []string) *verb {
	t.Helper()
	v := verbAt(t, "")
	if len(args) > 0 && !v.subs[args[0]] && !strings.HasPrefix(args[0], "-") {
		t.Errorf("%s: cocoon has no verb %q", where, args[0])
		return v
	}
	for len(args) > 0 && v.subs[args[0]] {
		v = verbAt(t, strings.TrimSpace(v.path+" "+args[0]))
		args = args[1:]
	}
	if len(v.subs) > 0 && len(args) > 0 && len(v.path) > 0 && !strings.HasPrefix(args[0], "-") {
		t.Errorf("%s: cocoon %s has no verb %q", where, v.path, args[0])
	}
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		switch {
		case arg == "--" || arg == "-":
		case strings.HasPrefix(arg, "--"):
			if !v.flags[name[2:]] {
				t.Errorf("%s: cocoon %s has no flag %s", where, v.path, name)
			}
		case strings.HasPrefix(arg, "-"):
			if !v.shorts[name[1:2]] {
				t.Errorf("%s: cocoon %s has no flag %s", where, v.path, name)
			}
		}
	}
	return v
}

// shellCommand finds the program in a line of shell, behind a prompt, in front of pipes and redirections.
var shellCommand = regexp.MustCompile("(?:^|[\\s;|&(`])cocoon ((?:[a-z-][^|;&>)`#]*)?)")

// commandsIn finds the program's command lines in lines of shell.
func commandsIn(lines string) [][]string {
	lines = strings.ReplaceAll(lines, "\\\n", " ")
	var all [][]string
	for line := range strings.SplitSeq(lines, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, m := range shellCommand.FindAllStringSubmatch(line, -1) {
			if args := strings.Fields(m[1]); len(args) > 0 {
				all = append(all, args)
			}
		}
	}
	return all
}

// codeInMarkdown finds fenced blocks and inline code.
var codeInMarkdown = regexp.MustCompile("(?s)```[a-z]*\n(.*?)```|`([^`\n]+)`")

// TestCommandsInDocuments holds every command in the pages and scripts of this folder to the program.
func TestCommandsInDocuments(t *testing.T) {
	t.Parallel()
	found := 0
	check := func(path, code string) {
		for _, args := range commandsIn(code) {
			checkCommand(t, path, args)
			found++
		}
	}
	for _, path := range glob(t, "*.md", "*/*.md") {
		for _, m := range codeInMarkdown.FindAllStringSubmatch(string(read(t, path)), -1) {
			check(path, m[1])
			if strings.HasPrefix(m[2], "cocoon ") {
				check(path, m[2])
			}
		}
	}
	for _, path := range glob(t, "*/*.sh") {
		check(path, string(read(t, path)))
	}
	if found < 30 {
		t.Errorf("only %d commands were found: the search is broken", found)
	}
}

// TestProgramRefusesInventedFlags shows that the check above can fail.
func TestProgramRefusesInventedFlags(t *testing.T) {
	t.Parallel()
	if v := verbAt(t, "worker"); v.flags["invented"] || !v.flags["trust"] || !v.flags["config"] {
		t.Errorf("flags of worker: %v", v.flags)
	}
	if v := verbAt(t, "workers"); v.subs["invented"] || !v.subs["ls"] {
		t.Errorf("verbs of workers: %v", v.subs)
	}
	if got := commandsIn("x=$(cocoon keys show a.key)\n$ cocoon worker \\\n  --trust t | tee log\n# cocoon not this\n"); len(got) != 2 ||
		strings.Join(got[1], " ") != "worker --trust t" {
		t.Errorf("commandsIn: %q", got)
	}
}
