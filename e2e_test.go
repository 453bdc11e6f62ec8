//go:build !worker

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// TestDemo runs the demo as users do, on fewer lines, and reads its report.
func TestDemo(t *testing.T) {
	cmd := program(t.Context(), t, "demo", "--json", "--lines", "68")
	r := runProgram(t, cmd)
	var report demoReport
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("exit %d: %v\n%s\n%s", r.code, err, r.stdout, r.stderr)
	}
	for _, c := range report.Checks {
		if !c.OK {
			t.Errorf("%s: %s", c.Name, c.Detail)
		}
	}
	if !report.OK || r.code != cli.ExitOK || report.Lines.Answered != 68 || report.Receipts.Verified != 68 ||
		report.Executions.Charged != 68 || report.Executions.Runs < 68 || report.Payouts.Transfers < 1 || report.Payouts.Mismatches != 0 ||
		report.WireScan.Bytes < 1<<20 || report.WireScan.Hits != 0 || len(report.Accuracy) != 17 || len(report.Checks) < 10 {
		t.Errorf("exit %d, report %s", r.code, r.stdout)
	}
	nothingLeft(t, cmd.Env)
}

// nothingLeft looks for files that a run left in its temporary folder.
func nothingLeft(t *testing.T, env []string) {
	t.Helper()
	for _, v := range env {
		dir, ok := strings.CutPrefix(v, "TMPDIR=")
		if !ok {
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			t.Errorf("the run left %s behind", e.Name())
		}
	}
}

// TestDemoInterrupted presses Ctrl-C while the workers run: no process and no folder is left.
func TestDemoInterrupted(t *testing.T) {
	cmd := program(t.Context(), t, "demo", "--lines", "340")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(out); s.Scan(); {
		if strings.Contains(s.Text(), "Submitting") {
			break
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, out)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != cli.ExitInterrupted {
		t.Errorf("exit %d\n%s", code, errs.String())
	}
	nothingLeft(t, cmd.Env)
	if left := childrenOf(cmd.Process.Pid); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
}

// childrenOf lists worker processes that were started for a process group leader that is gone: they name its folder.
func childrenOf(pid int) (left []string) {
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[1] == fmt.Sprint(pid) {
			left = append(left, path)
		}
	}
	return left
}

// upProcess is a running `cocoon up`.
type upProcess struct {
	t    *testing.T
	stop context.CancelFunc
	done chan result
	base string

	mu  sync.Mutex // guards what follows
	out bytes.Buffer
}

// Write collects the output.
func (u *upProcess) Write(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.out.Write(b)
}

// text is the output so far.
func (u *upProcess) text() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.out.String()
}

// startUp starts the network on a folder and waits until it says where it is.
func startUp(t *testing.T, dir string) *upProcess {
	t.Helper()
	u := &upProcess{t: t, done: make(chan result, 1)}
	cmd := program(t.Context(), t, "up", "--data", dir, "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0")
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = u, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	u.stop = func() { cmd.Process.Signal(syscall.SIGINT) }
	go func() {
		cmd.Wait()
		u.done <- result{cmd.ProcessState.ExitCode(), u.text(), errs.String()}
	}()
	t.Cleanup(func() { cmd.Process.Kill() })
	where := regexp.MustCompile(`gateway +(http://[0-9.:]+)/v1`)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(90 * time.Second); ; {
		if m := where.FindStringSubmatch(u.text()); m != nil {
			u.base = m[1]
			return u
		}
		select {
		case r := <-u.done:
			t.Fatalf("up ended: exit %d\n%s%s", r.code, r.stdout, r.stderr)
		case <-deadline:
			t.Fatal("up did not get ready")
		case <-tick.C:
		}
	}
}

// end presses Ctrl-C and waits.
func (u *upProcess) end() {
	u.t.Helper()
	u.stop()
	if r := <-u.done; r.code != cli.ExitOK {
		u.t.Errorf("up ended with %d\n%s", r.code, r.stderr)
	}
}

// post sends a request and returns status and body.
func (u *upProcess) post(path, body string) (int, string) {
	u.t.Helper()
	r, err := http.Post(u.base+path, "application/json", strings.NewReader(body))
	if err != nil {
		u.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		u.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// get reads a path.
func (u *upProcess) get(path string) string {
	u.t.Helper()
	r, err := http.Get(u.base + path)
	if err != nil {
		u.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		u.t.Fatalf("GET %s: %s %v %s", path, r.Status, err, b)
	}
	return string(b)
}

// TestUp uses a network over HTTP, stops it, starts it again on the same folder and finds everything as it was.
func TestUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "network")
	u := startUp(t, dir)
	const ask = `{"model": "cocoon-tiny", "messages": [{"role": "user", "content": "Translate to French: the red cat sleeps"}]%s}`
	status, body := u.post("/v1/chat/completions", fmt.Sprintf(ask, ""))
	if status != http.StatusOK || !strings.Contains(body, "le chat rouge dort") || !strings.Contains(body, `"total_cost"`) {
		t.Fatalf("%d %s", status, body)
	}
	status, stream := u.post("/v1/chat/completions", fmt.Sprintf(ask, `, "stream": true`))
	if status != http.StatusOK || !strings.Contains(stream, "chat.completion.chunk") || !strings.HasSuffix(stream, "data: [DONE]\n\n") {
		t.Errorf("%d %s", status, stream)
	}
	if models := u.get("/v1/models"); !strings.Contains(models, `"cocoon-tiny"`) {
		t.Errorf("models: %s", models)
	}
	status, body = u.post("/v1/chat/completions", `{"model": "cocoon-tiny", "messages": [{"role": "user", "content": "x"}], "temperature": "hot"}`)
	var failure struct {
		Error struct{ Type, Param string }
	}
	if err := json.Unmarshal([]byte(body), &failure); err != nil || status != http.StatusBadRequest || failure.Error.Param != "temperature" || failure.Error.Type != "invalid_request_error" {
		t.Errorf("a malformed request: %d %s", status, body)
	}
	if status, body = u.post("/v1/chat/completions", `{"model": "gpt-9", "messages": [{"role": "user", "content": "x"}]}`); status != http.StatusNotFound {
		t.Errorf("an unknown model: %d %s", status, body)
	}
	if page := u.get("/"); !strings.Contains(page, "Cocoon") {
		t.Errorf("dashboard: %s", page)
	}
	if metrics := u.get("/metrics"); !strings.Contains(metrics, "cocoon_") {
		t.Errorf("metrics: %.300s", metrics)
	}
	held := u.held()
	u.end()

	u = startUp(t, dir)
	defer u.end()
	// What ran before the restart may have been booked since; nothing else may have changed.
	if again := u.held(); again > held || held-again > schemas.TON {
		t.Errorf("held %s before the restart and %s after", held, again)
	}
	if status, body := u.post("/v1/chat/completions", fmt.Sprintf(ask, "")); status != http.StatusOK {
		t.Errorf("after the restart: %d %s", status, body)
	}
	// Another process reaches the embedded chain and the streams, and finds that the books agree with both.
	in := func(name string) string { return filepath.Join(dir, name) }
	r := runProgram(t, program(t.Context(), t, "reconcile", "--ledger", in("ledger.db"), "--chain", in("chain.json"),
		"--treasury-key", in("treasury.key"), "--trust", in("trust.json"), "--nats", u.nats(), "--json"))
	if r.code != cli.ExitOK || strings.TrimSpace(r.stdout) != "[]" {
		t.Errorf("reconcile: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// TestUpContinues stops the network while a batch waits in its queue, starts it again and has every line answered.
func TestUpContinues(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "network")
	u := startUp(t, dir)
	asked, err := questions(200)
	if err != nil {
		t.Fatal(err)
	}
	file, err := batchFile(asked, "cocoon-tiny")
	if err != nil {
		t.Fatal(err)
	}
	input := filepath.Join(t.TempDir(), "input.jsonl")
	if err := os.WriteFile(input, file, 0o600); err != nil {
		t.Fatal(err)
	}
	verb := func(args ...string) result {
		cmd := program(t.Context(), t, append(args, "--data", dir, "--nats", u.nats(), "--json", "--quiet")...)
		return runProgram(t, cmd)
	}
	if r := verb("batch", "submit", input, "--id", "night", "--detach"); r.code != cli.ExitOK {
		t.Fatalf("submit: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	u.end()
	u = startUp(t, dir)
	defer u.end()
	r := verb("batch", "watch", "night")
	var summary batch.Summary
	if err := json.Unmarshal([]byte(r.stdout), &summary); err != nil || r.code != cli.ExitOK {
		t.Fatalf("watch: exit %d, %v\n%s%s", r.code, err, r.stdout, r.stderr)
	}
	if summary.Completed != len(asked) || summary.Failed != 0 {
		t.Errorf("%+v", summary)
	}
}

// nats is where the message system listens.
func (u *upProcess) nats() string {
	m := regexp.MustCompile(`NATS +(nats://[0-9.:]+)`).FindStringSubmatch(u.text())
	if m == nil {
		u.t.Fatalf("up does not say where NATS is:\n%s", u.text())
	}
	return m[1]
}

// held is what the public page says is held for tenants, once it has looked.
func (u *upProcess) held() schemas.NanoTON {
	u.t.Helper()
	var s struct {
		Held schemas.NanoTON `json:"held_nanoton"`
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(30 * time.Second); ; {
		if err := json.Unmarshal([]byte(u.get("/status.json")), &s); err != nil {
			u.t.Fatal(err)
		}
		if s.Held > 0 {
			return s.Held
		}
		select {
		case <-tick.C:
		case <-deadline:
			u.t.Fatal("nothing is ever held")
		}
	}
}
