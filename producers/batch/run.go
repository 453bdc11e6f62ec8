package batch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/schemas"
)

const (
	// tick is how often progress is told, and housekeeping how often the run looks at its folder and its clock.
	tick         = 100 * time.Millisecond
	housekeeping = time.Second
	// expiryGrace is how long after a line's expiry its outcome is still waited for.
	expiryGrace = 2 * time.Minute
	// cancellers is how many lines are cancelled at a time.
	cancellers = 16
)

// runner is one run of a batch.
type runner struct {
	b   *Batch
	c   Client
	o   RunOptions
	log *slog.Logger

	collector *producers.Collector

	mu   sync.Mutex // guards jobs, and the calls of OnResult
	jobs map[schemas.JobID]publishedLine

	rate rate
}

// Run submits what was not submitted, waits for what is open and returns at the end of the batch: see the function Run.
func (b *Batch) Run(ctx context.Context, c Client, o RunOptions) (Summary, error) {
	if o.Patience <= 0 {
		o.Patience = DefaultPatience
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &runner{b: b, c: c, o: o, log: o.Logger, jobs: map[schemas.JobID]publishedLine{}}
	if err := b.begin(c.Environment()); err != nil {
		return b.Summary(), err
	}
	r.rate.start(time.Now(), b.Summary())
	if o.Progress != nil {
		defer func() { o.Progress(r.rate.progress(time.Now(), b.Summary())) }()
	}
	if b.Summary().State.Ended() {
		return b.Summary(), nil
	}
	err := r.run(ctx)
	b.fresh = false
	if err == nil && !b.open() {
		err = b.end()
	}
	return b.Summary(), err
}

// begin records where the batch runs: a batch that began in one environment does not go on in another.
func (b *Batch) begin(e schemas.Environment) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.book.environment {
	case e:
		return nil
	case "":
		return b.commit(event{Started: e}, true)
	}
	return &schemas.Error{Kind: schemas.KindPolicy, Field: "environment", Message: "the batch began in the environment " + string(b.book.environment)}
}

// open reports whether lines have not ended.
func (b *Batch) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.book.waiting+b.book.flying > 0
}

// end records that every line has ended. Commit point: results and journal are on disk.
func (b *Batch) end() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.results.Sync(); err != nil {
		return err
	}
	return b.commit(event{End: true}, true)
}

// errOver ends the goroutines of a run whose work is done.
var errOver = errors.New("batch: over")

// run does the work in four goroutines: one reads and seals, one publishes, one collects, one keeps house.
func (r *runner) run(ctx context.Context) error {
	r.collector = r.c.Collect()
	defer r.collector.Close()
	if err := r.takeUp(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	sealed := make(chan []sealedLine)
	group.Go(func() error { return r.collect(ctx) })
	group.Go(func() error { return r.keepHouse(ctx) })
	group.Go(func() error { return r.seal(ctx, sealed) })
	group.Go(func() error { return r.publish(ctx, sealed) })
	if err := group.Wait(); !errors.Is(err, errOver) {
		return err
	}
	return nil
}

// takeUp expects the outcomes of what an earlier run published.
func (r *runner) takeUp(ctx context.Context) error {
	if r.o.Resubmit {
		if err := r.resubmit(); err != nil {
			return err
		}
	}
	var flying []publishedLine
	r.b.mu.Lock()
	for _, l := range r.b.book.lines {
		if l.state == linePublished {
			flying = append(flying, l.published)
		}
	}
	r.b.mu.Unlock()
	return r.expect(ctx, flying, true)
}

// resubmit makes lines without an outcome wait to be sealed and sent again, as the same jobs.
func (r *runner) resubmit() error {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	var lost []int
	for number, l := range r.b.book.lines {
		if l.state == linePublished {
			lost = append(lost, number)
		}
	}
	if lost == nil {
		return nil
	}
	return r.b.commit(event{Lost: lost}, true)
}

// expect has the collector wait for lines. It must be called before they are published.
func (r *runner) expect(ctx context.Context, lines []publishedLine, ask bool) error {
	refs := make([]producers.Sealed, len(lines))
	r.mu.Lock()
	for i, p := range lines {
		r.jobs[p.Job] = p
		refs[i] = producers.Sealed{Attributes: schemas.Attributes{ID: p.Job, Budget: p.Budget, Time: p.Time, Expiry: p.Expiry}}
	}
	r.mu.Unlock()
	return r.collector.Add(ctx, refs, ask)
}

// collect writes down outcomes as they come.
func (r *runner) collect(ctx context.Context) error {
	for {
		s, err := r.collector.Next(ctx)
		if err != nil {
			return err
		}
		r.mu.Lock()
		p, known := r.jobs[s.Job]
		delete(r.jobs, s.Job)
		r.mu.Unlock()
		if !known {
			continue
		}
		if errors.Is(s.Err, schemas.KindKeyLost) {
			err = r.b.record(event{Again: []int{p.Line}}, true)
		} else {
			err = r.settle(p, s)
		}
		if err != nil {
			return err
		}
	}
}

// settle writes the result of a line that has ended.
func (r *runner) settle(p publishedLine, s producers.Settled) error {
	text, code := result(r.b.manifest.Options.Format, p, s)
	d := doneLine{Line: p.Line, CustomID: p.CustomID, Code: code}
	if s.Answer != nil {
		d.Usage, d.Cost = s.Answer.Usage, s.Answer.Charge.Total
	}
	if err := r.b.store(d, text); err != nil {
		return err
	}
	if r.o.OnResult != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.o.OnResult(text)
	}
	return nil
}

// keepHouse tells progress, obeys a request to cancel, gives up lines whose time is over, and ends the run.
func (r *runner) keepHouse(ctx context.Context) error {
	progress, house := time.NewTicker(tick), time.NewTicker(housekeeping)
	defer progress.Stop()
	defer house.Stop()
	last := -1
	for {
		over, changed := r.over()
		if over {
			return errOver
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed: // perhaps it was the last line
		case <-progress.C:
			s := r.b.Summary()
			if mark := s.Submitted + s.Completed + s.Failed; r.o.Progress != nil && mark != last {
				last = mark
				r.o.Progress(r.rate.progress(time.Now(), s))
			}
		case <-house.C:
			if err := r.tidy(ctx); err != nil {
				return err
			}
		}
	}
}

// over reports whether there is nothing left to do in this run; if there is, changed ends when that may be different.
func (r *runner) over() (over bool, changed <-chan struct{}) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	return r.b.book.waiting == 0 && (r.o.Detach || r.b.book.flying == 0), r.b.changed
}

// tidy looks at the folder and at the clock.
func (r *runner) tidy(ctx context.Context) error {
	if r.b.cancelRequested() && r.b.Summary().State == InProgress {
		if err := r.b.record(event{Cancel: true}, true); err != nil {
			return err
		}
		go r.cancelFlying(ctx)
	}
	now := time.Now()
	var late []publishedLine
	r.mu.Lock()
	for id, p := range r.jobs {
		if now.After(p.Expiry.Add(expiryGrace)) {
			late = append(late, p)
			delete(r.jobs, id)
		}
	}
	r.mu.Unlock()
	for _, p := range late {
		err := &schemas.Error{Kind: schemas.KindExpired, Message: "the line's time is over and the network has not said what became of it"}
		if err := r.settle(p, producers.Settled{Job: p.Job, Err: err}); err != nil {
			return err
		}
	}
	return nil
}

// cancelFlying asks the network to end the lines in flight. What cannot be asked ends by itself.
func (r *runner) cancelFlying(ctx context.Context) {
	r.mu.Lock()
	ids := make([]schemas.JobID, 0, len(r.jobs))
	for id := range r.jobs {
		ids = append(ids, id)
	}
	r.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(cancellers)
	for _, id := range ids {
		group.Go(func() error {
			_, err := r.c.Cancel(ctx, id)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		r.log.Warn("lines not cancelled", "error", err)
	}
}

// rate remembers how many lines were done in each of the last seconds.
type rate struct {
	started time.Time
	before  int // lines that were done before this run
	seconds [rateWindow]int
	times   [rateWindow]int64
}

// rateWindow is over how many seconds the rate is taken.
const rateWindow = 30

// start begins to count.
func (r *rate) start(now time.Time, s Summary) {
	r.started, r.before = now, s.Completed+s.Failed
}

// progress describes a batch now.
func (r *rate) progress(now time.Time, s Summary) Progress {
	p := Progress{Summary: s}
	done := s.Completed + s.Failed - r.before
	second := now.Unix()
	r.seconds[second%rateWindow], r.times[second%rateWindow] = done, second
	oldest, at := 0, r.started
	for i, t := range r.times {
		if t > second-rateWindow && t < second && (at.Equal(r.started) || t < at.Unix()) {
			oldest, at = r.seconds[i], time.Unix(t, 0)
		}
	}
	if now.Sub(r.started) < rateWindow*time.Second {
		oldest, at = 0, r.started
	}
	if elapsed := now.Sub(at).Seconds(); elapsed > 0 && done > oldest {
		p.Rate = float64(done-oldest) / elapsed
		left := s.Total - s.Completed - s.Failed
		p.ETA = time.Duration(float64(left) / p.Rate * float64(time.Second)).Round(time.Second)
	}
	return p
}
