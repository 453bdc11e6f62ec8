package batch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// childEnv tells this test binary to be the process that is killed; it names the folder with what the process needs.
const childEnv = "COCOON_TEST_BATCH_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"), // the server's clock
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.init.5.func1"))
}

// child runs the batch in a folder, as a program of a tenant does.
func child(dir string) error {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			panic(err)
		}
		return b
	}
	tenant, err := enclave.ParseTenant(read("tenant.json"))
	if err != nil {
		return err
	}
	trust, err := schemas.ParseTrust(read("trust.json"))
	if err != nil {
		return err
	}
	ctx := context.Background()
	c, err := producers.Dial(ctx, streams.Config{URL: string(read("url"))}, producers.Options{Tenant: tenant, Trust: trust})
	if err != nil {
		return err
	}
	s, err := batch.Run(ctx, c, filepath.Join(dir, "batch"), batch.Options{Input: filepath.Join(dir, "input.jsonl"), Window: 150},
		batch.RunOptions{OnResult: func([]byte) { fmt.Println("result") }})
	if err != nil {
		return err
	}
	if s.Failed > 0 {
		return fmt.Errorf("%d lines failed", s.Failed)
	}
	return c.Close(ctx)
}

// TestKill runs a batch in a process that is killed with SIGKILL again and again, at moments that wander through its
// life, and then once more in peace: every line has one answer, every line was run once, and what the batch says it
// cost is what the receipts say.
func TestKill(t *testing.T) {
	t.Parallel()
	const n, kills = 400, 6
	net := producerstest.New(t)
	w, _ := net.Work(t, producerstest.Echo)
	dir := t.TempDir()
	trust, err := json.Marshal(net.Trust())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(input(t, n))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"tenant.json": net.Net.Tenant(t).Marshal(), "trust.json": trust, "url": []byte(net.Server.URL()), "input.jsonl": text,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range kills {
		runChild(t, dir, 20+i*37)
	}
	runChild(t, dir, -1)
	complete(t, filepath.Join(dir, "batch"), n)
	for id, times := range w.Ran() {
		if times != 1 {
			t.Errorf("job %s ran %d times", id, times)
		}
	}
	b, err := batch.Read(filepath.Join(dir, "batch"))
	if err != nil {
		t.Fatal(err)
	}
	one, err := net.Catalogue.Cost(producerstest.Model, producerstest.Usage, net.Catalogue.Multiplier(schemas.Batch))
	if s := b.Summary(); err != nil || w.Runs() != n || s.Cost != n*one.Total || s.Completed != n || s.State != batch.Completed {
		t.Errorf("%d runs for %d lines, summary %+v", w.Runs(), n, s)
	}
}

// runChild runs the child and kills it after some results; a negative number lets it end.
func runChild(t *testing.T, dir string, after int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*producerstest.Wait)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	buf := make([]byte, 7) // one "result\n"
	for got := 0; ; got++ {
		if got == after {
			killed = true
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			break
		}
		if _, err := out.Read(buf); err != nil {
			break
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if killed && errors.As(err, &exit) {
		return
	}
	if err != nil {
		t.Fatalf("the child ended with %v: %s", err, errs.String())
	}
}

// TestTornResults cuts the folder's files as a crash can leave them, at many places, and goes on.
func TestTornResults(t *testing.T) {
	t.Parallel()
	const n = 40
	net := producerstest.New(t)
	w, _ := net.Work(t, producerstest.Echo)
	tenant := net.Net.Tenant(t)
	dir, in := filepath.Join(t.TempDir(), "b"), input(t, n)
	c := net.Client(t, producerstest.As(tenant))
	if _, err := batch.Run(patience(t), c, dir, batch.Options{Input: in}, batch.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	whole := map[string][]byte{}
	for _, name := range []string{"journal", "results.jsonl"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		whole[name] = b
	}
	head := strings.Index(string(whole["journal"]), "\n") + 1
	for cut := head; cut < len(whole["journal"]); cut += len(whole["journal"])/12 + 1 {
		if err := os.WriteFile(filepath.Join(dir, "journal"), whole["journal"][:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "results.jsonl"), whole["results.jsonl"], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := batch.Run(patience(t), c, dir, batch.Options{Input: in}, batch.RunOptions{})
		if err != nil || s.Completed != n {
			t.Fatalf("cut at %d: %+v, %v", cut, s, err)
		}
		complete(t, dir, n)
	}
	// What was lost was asked for again: nothing was run again.
	if runs := w.Runs(); runs != n {
		t.Errorf("%d runs for %d lines", runs, n)
	}
}
