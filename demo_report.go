//go:build !worker

package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/cocoon-network/cocoon/schemas"
)

// demoReport is what the demo measured; --json prints it.
type demoReport struct {
	// OK tells whether every check holds.
	OK          bool    `json:"ok"`
	WallSeconds float64 `json:"wall_seconds"`
	// Lines counts batch lines; Correct are answered word for word as expected.
	Lines struct {
		Total    int `json:"total"`
		Answered int `json:"answered"`
		Correct  int `json:"correct"`
	} `json:"lines"`
	// Accuracy is the share of right answers by task.
	Accuracy map[string]float64 `json:"accuracy"`
	// WireScan is how many bytes were searched for prompts and answers and how many were found.
	WireScan struct {
		Bytes int64 `json:"bytes"`
		Hits  int   `json:"hits"`
	} `json:"wire_scan"`
	Receipts struct {
		Total    int `json:"total"`
		Verified int `json:"verified"`
	} `json:"receipts"`
	// Executions compares the jobs with how often a worker was granted one and how often a tenant was charged.
	Executions struct {
		Jobs    int `json:"jobs"`
		Runs    int `json:"runs"`
		Charged int `json:"charged"`
	} `json:"executions"`
	// Payouts are transfers on chain; Mismatches are owners whose proven balance differs from the ledger.
	Payouts struct {
		Transfers  int   `json:"transfers"`
		Mismatches int   `json:"mismatches"`
		NanoTON    int64 `json:"nanoton"`
	} `json:"payouts"`
	Checks []demoCheck `json:"checks"`

	tenants []tenantBill
}

// demoCheck is one thing that must hold.
type demoCheck struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// tenantBill is what one tenant was charged.
type tenantBill struct {
	name    string
	lines   int
	charged schemas.NanoTON
	left    schemas.NanoTON
}

// check adds a check.
func (r *demoReport) check(name string, ok bool, format string, args ...any) {
	r.Checks = append(r.Checks, demoCheck{name, ok, fmt.Sprintf(format, args...)})
}

// failed counts the checks that do not hold and sets OK. A report without checks has failed.
func (r *demoReport) failed() int {
	n := 0
	for _, c := range r.Checks {
		if !c.OK {
			n++
		}
	}
	if len(r.Checks) == 0 {
		n = 1
	}
	r.OK = n == 0
	return n
}

// writeReport prints the report as one object.
func writeReport(w io.Writer, r *demoReport) error {
	r.failed()
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// unverified reads the payload of a compact JWS to learn which key should verify it.
func unverified(jws string, v any) error {
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		return schemas.FieldError("jws", "must have three parts")
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return schemas.FieldError("jws", "is not base64url")
	}
	return json.Unmarshal(b, v)
}

// story tells the demo to a person.
type story struct {
	out, errs io.Writer
}

// newStory writes the story to out and progress to errs.
func newStory(out, errs io.Writer) *story { return &story{out, errs} }

// say prints a paragraph.
func (s *story) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// open says what is about to happen.
func (s *story) open(d *demoRun) {
	s.say("Cocoon demo: the whole network on a temporary folder.")
	s.say("SIMULATED hardware and an embedded chain: nothing here is protected and no money is real.\n")
	for _, t := range d.tenants {
		s.say("  tenant %-6s %s paid in %s on chain", t.name, t.identity.ID(), demoDeposit)
	}
	for i, owner := range d.owners {
		s.say("  worker-%d     earns for %s…", i+1, owner[:18])
	}
	s.say("  model        %s\n", d.net.model.ID)
	s.say("Submitting %d lines as two batches, sealed to the broker's key (ML-KEM-768 + X25519).", d.lines())
}

// checks prints the result.
func (s *story) checks(r *demoReport) {
	s.say("\nAnswers right, by task:")
	tasks := slices.Sorted(maps.Keys(r.Accuracy))
	for i := 0; i < len(tasks); i += 3 {
		var line strings.Builder
		for _, task := range tasks[i:min(i+3, len(tasks))] {
			fmt.Fprintf(&line, "  %-14s %5.1f %%", task, 100*r.Accuracy[task])
		}
		s.say("%s", line.String())
	}
	s.say("\nMoney:")
	for _, t := range r.tenants {
		s.say("  %-6s charged %s for %d lines, %s left", t.name, t.charged, t.lines, t.left)
	}
	s.say("  paid to owners on chain: %s in %d transfers", schemas.NanoTON(r.Payouts.NanoTON), r.Payouts.Transfers)
	s.say("\nChecks:")
	failed := r.failed()
	for _, c := range r.Checks {
		mark := "ok  "
		if !c.OK {
			mark = "FAIL"
		}
		s.say("  %s  %-46s %s", mark, c.Name, c.Detail)
	}
	if failed == 0 {
		s.say("\nAll %d checks hold. %.1f s in all.", len(r.Checks), r.WallSeconds)
	} else {
		s.say("\n%d of %d checks FAILED. %.1f s in all.", failed, len(r.Checks), r.WallSeconds)
	}
}

// plainEvery is the pause between two progress lines where there is no terminal.
const plainEvery = 2 * time.Second

// progressBar shows done, rate, ETA and cost: one moving line on a terminal, a plain line now and then elsewhere.
type progressBar struct {
	w     io.Writer
	total int
	start time.Time
	bars  *mpb.Progress // nil where there is no terminal
	bar   *mpb.Bar

	mu   sync.Mutex // guards what follows
	done int
	cost schemas.NanoTON
	last time.Time
}

// progress begins a progress bar.
func (s *story) progress(total int) *progressBar {
	p := &progressBar{w: s.errs, total: total, start: time.Now()}
	if f, ok := s.errs.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bars = mpb.New(mpb.WithOutput(f), mpb.WithWidth(40), mpb.WithAutoRefresh())
		p.bar = p.bars.AddBar(int64(total),
			mpb.PrependDecorators(decor.CountersNoUnit("%3d/%d lines ")),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return p.text() })))
	}
	return p
}

// text is rate, ETA and cost.
func (p *progressBar) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	rate := float64(p.done) / max(time.Since(p.start).Seconds(), 0.001)
	eta := "–"
	if p.done > 0 {
		eta = (time.Duration(float64(p.total-p.done)/rate*1000) * time.Millisecond).Round(time.Second).String()
	}
	return fmt.Sprintf(" %5.1f/s  ETA %-4s  %s", rate, eta, p.cost)
}

// set moves the bar.
func (p *progressBar) set(done int, cost schemas.NanoTON) {
	p.mu.Lock()
	changed := done != p.done
	p.done, p.cost = done, cost
	plain := p.bars == nil && changed && (time.Since(p.last) >= plainEvery || done == p.total)
	if plain {
		p.last = time.Now()
	}
	p.mu.Unlock()
	if p.bar != nil {
		p.bar.SetCurrent(int64(done))
	}
	if plain {
		fmt.Fprintf(p.w, "%d/%d lines %s\n", done, p.total, p.text())
	}
}

// note prints a line above the bar.
func (p *progressBar) note(text string) {
	if p.bars != nil {
		fmt.Fprintln(p.bars, text)
		return
	}
	fmt.Fprintln(p.w, text)
}

// close ends the bar, also when it is not full.
func (p *progressBar) close() {
	if p.bars == nil {
		return
	}
	p.bar.Abort(false)
	p.bars.Wait()
}
