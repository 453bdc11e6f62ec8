package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/cocoon-network/cocoon/producers/batch"
)

// plainEvery is how often progress is told where there is no terminal.
const plainEvery = 5 * time.Second

// meter shows how far a batch is: a bar on a terminal, plain lines elsewhere.
type meter struct {
	out  io.Writer
	bars *mpb.Progress // nil without a terminal
	bar  *mpb.Bar
	last batch.Progress
	told time.Time
}

// newMeter shows on a writer; quiet shows nothing.
func newMeter(out io.Writer, quiet bool) *meter {
	if quiet {
		return &meter{}
	}
	m := &meter{out: out}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		m.bars = mpb.New(mpb.WithOutput(f), mpb.WithWidth(40), mpb.WithAutoRefresh())
	}
	return m
}

// update shows progress. It is called from one goroutine.
func (m *meter) update(p batch.Progress) {
	m.last = p
	switch {
	case m.out == nil:
	case m.bars != nil:
		m.draw(p)
	case time.Since(m.told) >= plainEvery || p.State.Ended():
		m.told = time.Now()
		fmt.Fprintln(m.out, line(p))
	}
}

// draw moves the bar.
func (m *meter) draw(p batch.Progress) {
	if m.bar == nil {
		m.bar = m.bars.AddBar(int64(p.Total),
			mpb.PrependDecorators(decor.Name(p.ID+" "), decor.CountersNoUnit("%d/%d")),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + tail(m.last) })))
	}
	m.bar.SetCurrent(int64(p.Completed + p.Failed))
}

// tail is what stands behind the bar.
func tail(p batch.Progress) string {
	var parts []string
	if p.Rate > 0 {
		parts = append(parts, fmt.Sprintf("%.1f/s", p.Rate))
	}
	if p.ETA > 0 {
		parts = append(parts, "ETA "+p.ETA.String())
	}
	parts = append(parts, p.Cost.String())
	if p.Failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", p.Failed))
	}
	return strings.Join(parts, ", ")
}

// line is progress as one plain line.
func line(p batch.Progress) string {
	return fmt.Sprintf("%s: %d of %d done, %d submitted, %s", p.ID, p.Completed+p.Failed, p.Total, p.Submitted, tail(p))
}

// close leaves the last state on the screen.
func (m *meter) close() {
	if m.bars == nil {
		return
	}
	if m.bar != nil && !m.bar.Completed() {
		m.bar.Abort(false)
	}
	m.bars.Wait()
}
