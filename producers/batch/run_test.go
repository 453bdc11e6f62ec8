package batch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/schemas"
)

// patience bounds a test's waits.
func patience(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*producerstest.Wait)
	t.Cleanup(cancel)
	return ctx
}

// input writes an input file of n lines and returns its path. Line i asks "question i".
func input(t testing.TB, n int) string {
	t.Helper()
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `{"custom_id":"id-%d","method":"POST","url":"/v1/chat/completions","body":%s}`+"\n", i, producerstest.Ask(fmt.Sprint("question ", i), ""))
	}
	return write(t, b.Bytes())
}

// write writes an input file.
func write(t testing.TB, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "input.jsonl")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// resultLine is a result line as a user reads it.
type resultLine struct {
	ID       string `json:"id"`
	CustomID string `json:"custom_id"`
	Response *struct {
		StatusCode int             `json:"status_code"`
		RequestID  string          `json:"request_id"`
		Body       json.RawMessage `json:"body"`
	} `json:"response"`
	Error *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// text is the answer's text.
func (r *resultLine) text(t testing.TB) string {
	t.Helper()
	if r.Response == nil {
		return ""
	}
	return (&producers.Answer{Body: r.Response.Body}).Text()
}

// results reads the results in a folder.
func results(t testing.TB, dir string, order batch.Order, which batch.Which) []resultLine {
	t.Helper()
	b, err := batch.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	n, err := b.WriteResults(&out, order, which)
	if err != nil {
		t.Fatal(err)
	}
	var lines []resultLine
	for d := json.NewDecoder(&out); d.More(); {
		var r resultLine
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, r)
	}
	if n != len(lines) {
		t.Errorf("WriteResults says %d, wrote %d", n, len(lines))
	}
	return lines
}

// complete checks that there is one right answer for each of n lines, in input order.
func complete(t testing.TB, dir string, n int) {
	t.Helper()
	lines := results(t, dir, batch.InputOrder, batch.All)
	if len(lines) != n {
		t.Fatalf("%d results, want %d", len(lines), n)
	}
	for i, r := range lines {
		if want := producerstest.Say(fmt.Sprint("question ", i)); r.CustomID != fmt.Sprint("id-", i) || r.text(t) != want || r.Error != nil || r.Response.StatusCode != 200 {
			t.Fatalf("result %d = %+v, want %q", i, r, want)
		}
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	const n = 1100 // more than one block
	net := producerstest.New(t)
	w, _ := net.Work(t, producerstest.Echo)
	c := net.Client(t)
	dir := filepath.Join(t.TempDir(), "b")
	var seen atomic.Int64
	var last batch.Progress
	s, err := batch.Run(patience(t), c, dir, batch.Options{Input: input(t, n)}, batch.RunOptions{
		Progress: func(p batch.Progress) { last = p },
		OnResult: func([]byte) { seen.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.State != batch.Completed || s.Total != n || s.Submitted != n || s.Completed != n || s.Failed != 0 || s.Reserved != 0 || s.Environment != schemas.Simulated {
		t.Errorf("summary = %+v", s)
	}
	one, err := net.Catalogue.Cost(producerstest.Model, producerstest.Usage, net.Catalogue.Multiplier(schemas.Batch))
	if err != nil || s.Cost != n*one.Total || s.Usage.Total() != n*producerstest.Usage.Total() {
		t.Errorf("cost = %v, want %v", s.Cost, n*one.Total)
	}
	line := results(t, dir, batch.InputOrder, batch.All)[n-1]
	if want := fmt.Sprintf(`"total_cost":%d}`, int64(one.Total)); !strings.Contains(string(line.Response.Body), want) {
		t.Errorf("a result line without %s: %s", want, line.Response.Body)
	}
	complete(t, dir, n)
	if seen.Load() != n || last.Completed != n || last.State != batch.Completed {
		t.Errorf("saw %d results, last progress %+v", seen.Load(), last)
	}
	if w.Runs() != n {
		t.Errorf("%d runs for %d lines", w.Runs(), n)
	}
	// Again on the same folder: nothing happens.
	if again, err := batch.Run(patience(t), c, dir, batch.Options{}, batch.RunOptions{}); err != nil || again.Cost != s.Cost || w.Runs() != n {
		t.Errorf("again: %+v, %v, %d runs", again, err, w.Runs())
	}
}

// TestResume stops a run again and again, each time abruptly, and finishes it: every line is run once.
func TestResume(t *testing.T) {
	t.Parallel()
	const n = 500
	net := producerstest.New(t)
	w, _ := net.Work(t, producerstest.Echo)
	tenant := net.Net.Tenant(t)
	dir, in := filepath.Join(t.TempDir(), "b"), input(t, n)
	for stop := 60; ; stop += 150 {
		ctx, cancel := context.WithCancel(patience(t))
		c := net.Client(t, producerstest.As(tenant))
		done := 0
		s, err := batch.Run(ctx, c, dir, batch.Options{Input: in, Window: 120}, batch.RunOptions{OnResult: func([]byte) {
			if done++; done == stop {
				cancel()
			}
		}})
		cancel()
		c.Close(context.Background())
		if err == nil {
			if s.Completed != n {
				t.Errorf("summary = %+v", s)
			}
			break
		}
	}
	complete(t, dir, n)
	for id, times := range w.Ran() {
		if times != 1 {
			t.Errorf("job %s ran %d times", id, times)
		}
	}
	if w.Runs() != n {
		t.Errorf("%d runs for %d lines", w.Runs(), n)
	}
}

func TestFailedLines(t *testing.T) {
	t.Parallel()
	net := producerstest.New(t)
	var broken atomic.Bool
	broken.Store(true)
	net.Work(t, func(ctx context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
		switch {
		case strings.Contains(string(r.Body), "question 1\""):
			return schemas.Failure(schemas.FieldError("messages", "is refused"))
		case strings.Contains(string(r.Body), "question 2\"") && broken.Load():
			return schemas.Failure(&schemas.Error{Kind: schemas.KindPoison, Message: "broke on every attempt"})
		}
		return producerstest.Echo(ctx, r, emit)
	})
	c := net.Client(t)
	dir := filepath.Join(t.TempDir(), "b")
	s, err := batch.Run(patience(t), c, dir, batch.Options{Input: input(t, 4)}, batch.RunOptions{})
	if err != nil || s.Completed != 2 || s.Failed != 2 || s.State != batch.Completed || s.Reasons["poison"] != 1 || s.Reasons["invalid_value"] != 1 {
		t.Fatalf("summary = %+v, %v", s, err)
	}
	failed := results(t, dir, batch.InputOrder, batch.FailedOnly)
	if len(failed) != 2 || failed[0].Error != nil || failed[0].Response.StatusCode != 400 || failed[1].Response != nil || failed[1].Error.Code != "poison" {
		t.Errorf("failed = %+v", failed)
	}
	if len(results(t, dir, batch.InputOrder, batch.Succeeded)) != 2 {
		t.Error("wrong number of succeeded lines")
	}
	// Retry what may pass: one line.
	broken.Store(false)
	b, err := batch.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := b.Retry(); err != nil || n != 1 {
		t.Fatalf("Retry = %d, %v", n, err)
	}
	s, err = b.Run(patience(t), c, batch.RunOptions{})
	if err != nil || s.Completed != 3 || s.Failed != 1 || s.Reasons["poison"] != 0 {
		t.Errorf("after the retry: %+v, %v", s, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if lines := results(t, dir, batch.InputOrder, batch.All); len(lines) != 4 || lines[2].text(t) != producerstest.Say("question 2") {
		t.Errorf("results = %+v", lines)
	}
}

func TestMaxCost(t *testing.T) {
	t.Parallel()
	const n = 60
	net := producerstest.New(t)
	w, _ := net.Work(t, producerstest.Echo)
	c := net.Client(t)
	in := input(t, n)
	f, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cost, report, err := batch.Estimate(t.Context(), f, batch.Options{}, net.Catalogue)
	if err != nil || !report.OK() || cost.Lines != n || cost.Low <= 0 || cost.Low > cost.Expected || cost.Expected > cost.Worst || cost.Worst > cost.Ceiling {
		t.Fatalf("cost = %+v, %v", cost, err)
	}
	one, err := net.Catalogue.Cost(producerstest.Model, producerstest.Usage, net.Catalogue.Multiplier(schemas.Batch))
	if err != nil {
		t.Fatal(err)
	}
	// Room for 10 answers as they turn out to cost, and for the reservation of one more.
	lid := 10*one.Total + cost.Ceiling/n
	dir := filepath.Join(t.TempDir(), "b")
	s, err := batch.Run(patience(t), c, dir, batch.Options{Input: in, MaxCost: lid}, batch.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Cost > lid || s.Completed < 10 || s.Completed > 12 || s.Reasons["budget_exceeded"] != n-s.Completed || w.Runs() != s.Completed {
		t.Errorf("summary = %+v with %d runs under a lid of %v", s, w.Runs(), lid)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	net := producerstest.New(t)
	release := make(chan struct{})
	net.Work(t, func(ctx context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return producerstest.Echo(ctx, r, emit)
	})
	c := net.Client(t)
	dir := filepath.Join(t.TempDir(), "b")
	b, report, err := batch.Create(t.Context(), dir, batch.Options{Input: input(t, 20), Window: 5})
	if err != nil || !report.OK() {
		t.Fatal(report, err)
	}
	if _, err := batch.Open(dir); schemas.KindOf(err) != schemas.KindBusy {
		t.Errorf("a second Open = %v, want KindBusy", err)
	}
	if err := batch.RequestCancel(dir); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(1500*time.Millisecond, func() { close(release) })
	s, err := b.Run(patience(t), c, batch.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s.State != batch.Cancelled || s.Completed != 5 || s.Reasons["batch_cancelled"] != 15 {
		t.Errorf("summary = %+v", s)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if lines := results(t, dir, batch.AsCompleted, batch.All); len(lines) != 20 {
		t.Errorf("%d results", len(lines))
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	net := producerstest.New(t)
	c := net.Client(t)
	dir := t.TempDir()
	in := input(t, 3)
	for name, tt := range map[string]struct {
		o    batch.Options
		want schemas.Kind
	}{
		"no file":     {batch.Options{Input: filepath.Join(dir, "nothing")}, schemas.KindNotFound},
		"bad id":      {batch.Options{Input: in, ID: "../x"}, schemas.KindInvalid},
		"bad format":  {batch.Options{Input: in, Format: "xml"}, schemas.KindInvalid},
		"bad timeout": {batch.Options{Input: in, Timeout: time.Millisecond}, schemas.KindInvalid},
		"bad file":    {batch.Options{Input: write(t, []byte("{}\n"))}, schemas.KindInvalid},
	} {
		at := filepath.Join(dir, name)
		if _, err := batch.Run(t.Context(), c, at, tt.o, batch.RunOptions{}); schemas.KindOf(err) != tt.want {
			t.Errorf("%s: Run = %v, want %v", name, err, tt.want)
		}
		if _, err := os.Stat(at); err == nil {
			t.Errorf("%s: left a folder", name)
		}
	}
	at := filepath.Join(dir, "changed")
	b, _, err := batch.Create(t.Context(), at, batch.Options{Input: in})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in, []byte("other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Run(patience(t), c, batch.RunOptions{}); schemas.KindOf(err) != schemas.KindConflict {
		t.Errorf("Run with a changed input = %v, want KindConflict", err)
	}
	b.Close()
}
