//go:build !worker

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cocoon-network/cocoon/schemas/cli"
)

// asProgram makes the test binary be the program: tests run it as users do, with real processes, signals and exit codes.
const asProgram = "COCOON_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program is a run of the program with the given arguments, in an environment without anybody's configuration. Its
// temporary files go to a folder of the test's own.
func program(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, programPatience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = []string{asProgram + "=1", "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	return cmd
}

// programPatience bounds one run of the program.
const programPatience = 4 * time.Minute

// result is what a run left.
type result struct {
	code           int
	stdout, stderr string
}

// runProgram runs the program to its end.
func runProgram(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() }) // the cases run in parallel, after this function has returned
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	badKey := write("key.yaml", "up: {dta: x}\n")
	badSection := write("section.yaml", "upp: {data: x}\n")
	foreign := filepath.Dir(write("foreign/thesis.txt", "text"))
	damaged := filepath.Dir(write("damaged/VERSION", "cocoon 1\n"))
	write("damaged/roots.key", "not a key")
	file := write("file", "")
	for _, c := range []struct {
		name   string
		args   []string
		code   int
		stderr string
	}{
		{"unknown flag", []string{"up", "--dta", "x"}, cli.ExitUsage, "--dta"},
		{"unknown verb", []string{"upp"}, cli.ExitUsage, "upp"},
		{"unknown verb of a noun", []string{"payouts", "lst"}, cli.ExitUsage, "lst"},
		{"unknown configuration key", []string{"up", "--config", badKey}, cli.ExitUsage, "dta"},
		{"unknown section", []string{"up", "--config", badSection}, cli.ExitUsage, "upp"},
		{"missing configuration", []string{"up", "--config", filepath.Join(dir, "absent")}, cli.ExitUsage, "absent"},
		{"too many arguments", []string{"demo", "extra"}, cli.ExitUsage, "extra"},
		{"number out of range", []string{"demo", "--lines", "1"}, cli.ExitUsage, "--lines"},
		{"bad level", []string{"demo", "--log-level", "loud"}, cli.ExitUsage, "loud"},
		{"HTTP port taken", []string{"up", "--data", filepath.Join(dir, "a"), "--nats", "127.0.0.1:0", "--http", taken.Addr().String()}, cli.ExitError, "port is taken"},
		{"NATS port taken", []string{"up", "--data", filepath.Join(dir, "b"), "--http", "127.0.0.1:0", "--nats", taken.Addr().String()}, cli.ExitError, taken.Addr().String()},
		{"not a folder", []string{"up", "--data", file, "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"}, cli.ExitError, file},
		{"somebody's folder", []string{"up", "--data", foreign, "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"}, cli.ExitError, "thesis.txt"},
		{"damaged folder", []string{"up", "--data", damaged, "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"}, cli.ExitError, "roots.key"},
		{"unknown benchmark", []string{"bench", "everything"}, cli.ExitUsage, "everything"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := runProgram(t, program(t.Context(), t, c.args...))
			if r.code != c.code || !strings.Contains(r.stderr, c.stderr) {
				t.Errorf("exit %d, want %d, and %q in:\n%s", r.code, c.code, c.stderr, r.stderr)
			}
			if lines := strings.Count(strings.TrimSpace(r.stderr), "\n"); lines > 1 {
				t.Errorf("more than a line and a hint:\n%s", r.stderr)
			}
			if strings.Contains(r.stderr, "goroutine") {
				t.Errorf("a panic:\n%s", r.stderr)
			}
		})
	}
}

// TestEveryVerbExplainsItself reads the help of every verb: a short line, a use line, and no panic when it is printed.
func TestEveryVerbExplainsItself(t *testing.T) {
	t.Parallel()
	verbs := allVerbs(newRoot().Commands())
	if len(verbs) < 40 {
		t.Fatalf("only %d verbs", len(verbs))
	}
	for _, verb := range verbs {
		if verb.Short == "" {
			t.Errorf("%s says nothing about itself", verb.CommandPath())
		}
		if strings.HasSuffix(verb.Short, ".") {
			t.Errorf("%s: the short line ends with a full stop: %q", verb.CommandPath(), verb.Short)
		}
		verb.Flags().VisitAll(func(f *pflag.Flag) {
			if name, _ := pflag.UnquoteUsage(f); strings.Contains(name, " ") {
				t.Errorf("%s --%s: %q stands in backquotes and is taken for the name of the value", verb.CommandPath(), f.Name, name)
			}
		})
		var b bytes.Buffer
		verb.SetOut(&b)
		if err := verb.Help(); err != nil || !strings.Contains(b.String(), "Usage:") {
			t.Errorf("%s: help is %q, %v", verb.CommandPath(), b.String(), err)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	r := runProgram(t, program(t.Context(), t, "version", "--json"))
	var b buildInfo
	if err := json.Unmarshal([]byte(r.stdout), &b); err != nil || r.code != 0 {
		t.Fatalf("exit %d: %v\n%s", r.code, err, r.stdout)
	}
	if b.Build != "full" || b.Go == "" || b.Engine == "" {
		t.Errorf("%+v", b)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	r := runProgram(t, program(t.Context(), t, "completion", "bash"))
	if r.code != 0 || !strings.Contains(r.stdout, "complete") {
		t.Errorf("exit %d: %.200s", r.code, r.stdout)
	}
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	r := runProgram(t, program(t.Context(), t, "doctor", "--json", "--data", filepath.Join(t.TempDir(), "not", "there")))
	var findings []finding
	if err := json.Unmarshal([]byte(r.stdout), &findings); err != nil {
		t.Fatalf("exit %d: %v\n%s%s", r.code, err, r.stdout, r.stderr)
	}
	seen := map[string]finding{}
	for _, f := range findings {
		seen[f.Check] = f
		if f.Detail == "" || f.Verdict == "" || (f.Verdict == verdictFail || f.Verdict == verdictWarn) && f.Fix == "" {
			t.Errorf("a finding without what was seen or what to do: %+v", f)
		}
	}
	for _, name := range []string{"processor", "memory", "data folder", "disk sync", "Intel TDX", "confidential GPU", "message system", "TON chain"} {
		if _, ok := seen[name]; !ok {
			t.Errorf("no finding about %s", name)
		}
	}
	r = runProgram(t, program(t.Context(), t, "doctor", "--nats", "nats://127.0.0.1:1"))
	if r.code != cli.ExitError || !strings.Contains(r.stdout, "fail") {
		t.Errorf("a server that is not there: exit %d\n%s", r.code, r.stdout)
	}
}

// allVerbs lists commands and everything below them.
func allVerbs(commands []*cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	for _, c := range commands {
		all = append(append(all, c), allVerbs(c.Commands())...)
	}
	return all
}
