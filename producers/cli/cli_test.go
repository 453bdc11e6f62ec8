package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/producers/cli"
	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/schemas"
	exit "github.com/cocoon-network/cocoon/schemas/cli"
)

// bundle is a network with the data folder of one of its tenants.
type bundle struct {
	net    *producerstest.Network
	worker *producerstest.Worker
	data   string
}

// setup starts a network and writes what a tenant keeps.
func setup(t *testing.T, engine producerstest.Engine) *bundle {
	t.Helper()
	b := &bundle{net: producerstest.New(t), data: t.TempDir()}
	b.worker, _ = b.net.Work(t, engine)
	trust, err := json.Marshal(b.net.Trust())
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, "trust.json", string(trust))
	b.write(t, "tenant-local.json", string(b.net.Net.Tenant(t).Marshal()))
	return b
}

// write writes a file in the data folder and returns its path.
func (b *bundle) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(b.data, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// lines writes an input of n lines.
func (b *bundle) lines(t *testing.T, n int) string {
	t.Helper()
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, `{"custom_id":"id-%d","method":"POST","url":"/v1/chat/completions","body":%s}`+"\n", i, producerstest.Ask(fmt.Sprint("question ", i), ""))
	}
	return b.write(t, "input.jsonl", text.String())
}

// root is a program with the verbs of producers.
func root() *cobra.Command {
	cmd := &cobra.Command{Use: "cocoon", SilenceErrors: true, SilenceUsage: true}
	cmd.PersistentFlags().String(exit.ConfigFlag, "", "")
	cmd.AddCommand(cli.JobCommand(), cli.BatchCommand(), cli.ModelsCommand(), cli.GatewayCommand())
	return cmd
}

// run runs one command line.
func (b *bundle) run(t *testing.T, ctx context.Context, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := root()
	var out, errs bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetIn(strings.NewReader(""))
	cmd.SetArgs(append(args, "--data", b.data, "--nats", b.net.Server.URL()))
	err = cmd.ExecuteContext(ctx)
	return out.String(), errs.String(), err
}

// must runs a command line that must succeed.
func (b *bundle) must(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, err := b.run(t, patience(t), args...)
	if err != nil {
		t.Fatalf("cocoon %s: %v\n%s%s", strings.Join(args, " "), err, out, errs)
	}
	return out
}

// patience bounds a test's waits.
func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), producerstest.Wait)
	t.Cleanup(cancel)
	return ctx
}

func TestJob(t *testing.T) {
	t.Parallel()
	b := setup(t, producerstest.Echo)
	var v struct {
		Job, State, Text, Environment string
		Charge                        struct{ Total string }
	}
	out := b.must(t, "job", "submit", "-m", producerstest.ModelName, "hello", "--json")
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Text != producerstest.Say("hello") || v.State != "done" || v.Environment != "simulated" || v.Charge.Total == "" {
		t.Fatalf("submit = %s, %v", out, err)
	}
	if got := b.must(t, "job", "get", v.Job); !strings.Contains(got, producerstest.Say("hello")) || !strings.Contains(got, "TON") {
		t.Errorf("get = %s", got)
	}
	if got := b.must(t, "job", "watch", v.Job, "-o", "jsonl"); !strings.Contains(got, `"status":"succeeded"`) {
		t.Errorf("watch = %s", got)
	}
	if got := b.must(t, "job", "ls"); !strings.Contains(got, v.Job) {
		t.Errorf("ls = %s", got)
	}
	if got := b.must(t, "job", "submit", "-m", producerstest.ModelName, "a b c", "--stream"); got != producerstest.Say("a b c")+"\n" {
		t.Errorf("stream = %q", got)
	}
	body := b.write(t, "body.json", string(producerstest.Ask("from a file", "")))
	for range 2 {
		b.must(t, "job", "submit", "-f", body, "--key", "once")
	}
	if b.worker.Runs() != 3 {
		t.Errorf("%d runs, want 3", b.worker.Runs())
	}
	if got := b.must(t, "models", "ls"); !strings.Contains(got, "tiny@1") {
		t.Errorf("models = %s", got)
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	const n = 12
	b := setup(t, producerstest.Echo)
	in := b.lines(t, n)
	if got := b.must(t, "batch", "validate", in); !strings.Contains(got, "12 requests") {
		t.Errorf("validate = %s", got)
	}
	if got := b.must(t, "batch", "submit", in, "--dry-run", "--json"); !strings.Contains(got, `"worst": "`) || b.worker.Runs() != 0 {
		t.Errorf("dry run = %s", got)
	}
	answers := filepath.Join(b.data, "answers.jsonl")
	out := b.must(t, "batch", "submit", in, "--id", "first", "-f", answers, "--json")
	var s struct {
		State     string
		Completed int
		Cost      string
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.State != "completed" || s.Completed != n || s.Cost == "" {
		t.Fatalf("submit = %s, %v", out, err)
	}
	text, err := os.ReadFile(answers)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if !strings.Contains(line, fmt.Sprintf(`"custom_id":"id-%d"`, i)) || !strings.Contains(line, producerstest.Say(fmt.Sprint("question ", i))) {
			t.Errorf("line %d = %s", i, line)
		}
	}
	if got := b.must(t, "batch", "results", "first", "--order", "completed"); strings.Count(got, "\n") != n {
		t.Errorf("results = %s", got)
	}
	if got := b.must(t, "batch", "ls"); !strings.Contains(got, "first") || !strings.Contains(got, "completed") {
		t.Errorf("ls = %s", got)
	}
	// The same again: nothing is run.
	b.must(t, "batch", "submit", in, "--id", "first")
	b.must(t, "batch", "resume", "first")
	if b.worker.Runs() != n {
		t.Errorf("%d runs, want %d", b.worker.Runs(), n)
	}
	if got := b.must(t, "batch", "stream", in, "--quiet"); strings.Count(got, `"status_code":200`) != n {
		t.Errorf("stream = %s", got)
	}
}

func TestBatchDetachesAndResumes(t *testing.T) {
	t.Parallel()
	const n = 8
	hold := make(chan struct{})
	b := setup(t, func(ctx context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return producerstest.Echo(ctx, r, emit)
	})
	ctx, cancel := context.WithCancel(patience(t))
	time.AfterFunc(time.Second, cancel)
	_, errs, err := b.run(t, ctx, "batch", "submit", b.lines(t, n), "--id", "long")
	if exit.ExitCode(err) != exit.ExitInterrupted || !strings.Contains(errs, "cocoon batch resume long") {
		t.Fatalf("after Ctrl-C: %v\n%s", err, errs)
	}
	close(hold)
	if got := b.must(t, "batch", "resume", "long"); !strings.Contains(got, "completed") {
		t.Errorf("resume = %s", got)
	}
	if b.worker.Runs() != n {
		t.Errorf("%d runs, want %d", b.worker.Runs(), n)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	b := setup(t, func(ctx context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
		if strings.Contains(string(r.Body), "question 1") {
			return schemas.Failure(&schemas.Error{Kind: schemas.KindPoison, Message: "broke"})
		}
		return producerstest.Echo(ctx, r, emit)
	})
	in := b.lines(t, 3)
	bad := b.write(t, "bad.jsonl", "{\n")
	other := setup(t, producerstest.Echo)
	for _, tt := range []struct {
		args []string
		want int
	}{
		{[]string{"batch", "submit", in}, exit.ExitPartial},
		{[]string{"batch", "submit", bad}, exit.ExitError},
		{[]string{"batch", "validate", bad}, exit.ExitError},
		{[]string{"batch", "results", "nothing"}, exit.ExitNotFound},
		{[]string{"batch", "resume", "nothing"}, exit.ExitNotFound},
		{[]string{"batch", "results", "../x"}, exit.ExitUsage},
		{[]string{"batch", "submit", in, "--format", "xml"}, exit.ExitUsage},
		{[]string{"batch", "submit", in, "--max-cost", "much"}, exit.ExitUsage},
		{[]string{"job", "submit"}, exit.ExitUsage},
		{[]string{"job", "submit", "no model"}, exit.ExitUsage},
		{[]string{"job", "submit", "-m", "nobody", "x"}, exit.ExitNotFound},
		{[]string{"job", "get", string(schemas.NewJobID())}, exit.ExitNotFound},
		{[]string{"job", "submit", "-m", "tiny", "x", "--trust", filepath.Join(other.data, "nothing")}, exit.ExitUsage},
	} {
		if _, _, err := b.run(t, patience(t), tt.args...); exit.ExitCode(err) != tt.want {
			t.Errorf("cocoon %s: exit %d (%v), want %d", strings.Join(tt.args, " "), exit.ExitCode(err), err, tt.want)
		}
	}
	// A tenant that trusts other people does not talk to this network.
	stranger := b.write(t, "stranger.json", strings.Replace(string(mustRead(t, filepath.Join(b.data, "trust.json"))), "simulated", "production", 1))
	if _, _, err := b.run(t, patience(t), "models", "ls", "--trust", stranger); exit.ExitCode(err) != exit.ExitRefused {
		t.Errorf("a network of another environment: %v", err)
	}
}

// mustRead reads a file.
func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSplit(t *testing.T) {
	t.Parallel()
	b := setup(t, producerstest.Echo)
	doc := b.write(t, "doc.txt", strings.Repeat("All work and no play makes Jack a dull boy. ", 20))
	if got := b.must(t, "batch", "split", doc, "-m", producerstest.ModelName, "--map", "Repeat.", "--size", "200", "--lines"); strings.Count(got, "\n") < 4 {
		t.Errorf("lines = %s", got)
	}
	first := b.must(t, "batch", "split", doc, "-m", producerstest.ModelName, "--map", "Repeat.", "--size", "200", "--json")
	runs := b.worker.Runs()
	if again := b.must(t, "batch", "split", doc, "-m", producerstest.ModelName, "--map", "Repeat.", "--size", "200", "--json"); again != first || b.worker.Runs() != runs {
		t.Errorf("again: %s after %d more runs, first %s", again, b.worker.Runs()-runs, first)
	}
}

func TestGatewayCommand(t *testing.T) {
	t.Parallel()
	b := setup(t, producerstest.Echo)
	var key struct{ Key, ID string }
	if err := json.Unmarshal([]byte(b.must(t, "gateway", "keys", "create", "app", "--cap", "1", "--json")), &key); err != nil || !strings.HasPrefix(key.Key, "sk-cocoon-") {
		t.Fatalf("key = %+v, %v", key, err)
	}
	ctx, cancel := context.WithCancel(patience(t))
	defer cancel()
	address := make(chan string, 1)
	cmd := root()
	cmd.SetOut(&firstLine{to: address})
	cmd.SetErr(&bytes.Buffer{})
	cmd.SetArgs([]string{"gateway", "--listen", "127.0.0.1:0", "--keys", filepath.Join(b.data, "producer", "keys.json"), "--data", b.data, "--nats", b.net.Server.URL()})
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	var line string
	select {
	case line = <-address:
	case err := <-done:
		t.Fatalf("the gateway ended: %v", err)
	}
	_, url, ok := strings.Cut(line, "http://")
	if !ok || !strings.Contains(line, "simulated") {
		t.Fatalf("the gateway says %q", line)
	}
	url, _, _ = strings.Cut(url, " ")
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+url+"/chat/completions", bytes.NewReader(producerstest.Ask("hello", "")))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+key.Key)
	w, err := http.DefaultClient.Do(r)
	if err != nil || w.StatusCode != http.StatusOK {
		t.Fatalf("request = %+v, %v", w, err)
	}
	w.Body.Close()
	if got := b.must(t, "gateway", "keys", "ls"); !strings.Contains(got, "active") || strings.Contains(got, key.Key) {
		t.Errorf("keys = %s", got)
	}
	b.must(t, "gateway", "keys", "revoke", key.ID)
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the gateway ended with %v", err)
	}
}

// firstLine passes the first line written to it on.
type firstLine struct {
	to   chan string
	text strings.Builder
	sent bool
}

// Write collects.
func (f *firstLine) Write(p []byte) (int, error) {
	f.text.Write(p)
	if line, _, whole := strings.Cut(f.text.String(), "\n"); whole && !f.sent {
		f.sent = true
		f.to <- line
	}
	return len(p), nil
}
