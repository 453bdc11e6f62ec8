package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Limits of what is remembered about jobs.
const (
	// rateWindow is what the rates per second average over.
	rateWindow = 10 * time.Second
	// feedBatch bounds one read of outcomes, startBack how many old ones are read at the start.
	feedBatch = 1000
	startBack = MaxJobs
	// maxArrived bounds the jobs whose arrival is remembered until they end; the oldest are forgotten first.
	maxArrived = 50_000
)

// jobBook is what was seen of jobs. Dashboard.mu guards it.
type jobBook struct {
	ended  []JobRow // oldest first
	recent []served
	tokens uint64
	last   uint64 // the position of the newest outcome: how many there ever were
	// arrived are jobs that have not ended, by id; order lists their ids as they came, with those that have ended in between.
	arrived map[schemas.JobID]JobRow
	order   []schemas.JobID
	bulk    map[bulkKey]*bulk
	problem string
	since   time.Time
}

// served is one finished job, for the rates.
type served struct {
	at     time.Time
	tokens uint64
}

// follow reads outcomes as they are stored and remembers the newest. It runs beside the looks, until ctx ends.
func (d *Dashboard) follow(ctx context.Context) {
	feed := d.conf.Bus.Receipts()
	defer feed.Close()
	after, placed := uint64(0), false
	for ctx.Err() == nil {
		if !placed {
			state, err := feed.State(ctx)
			if err != nil {
				d.missed(ctx, err)
				continue
			}
			after, placed = state.First-min(state.First, 1), true
			if state.Last > after+startBack {
				after = state.Last - startBack
			}
			d.settled(after)
		}
		receipts, err := feed.Read(ctx, after, feedBatch)
		if err != nil {
			placed = placed && schemas.KindOf(err) != schemas.KindCorrupt // outcomes have aged out: start from what is there
			d.missed(ctx, err)
			continue
		}
		after = receipts[len(receipts)-1].Seq
		d.seen(receipts)
	}
}

// settled notes where the reading begins.
func (d *Dashboard) settled(after uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.jobs.problem, d.jobs.last = "", after
}

// missed notes that the feed could not be read and waits a look before the next try.
func (d *Dashboard) missed(ctx context.Context, err error) {
	d.mu.Lock()
	if d.jobs.problem == "" && ctx.Err() == nil {
		d.jobs.since, d.jobs.problem = d.conf.Now(), problem(err)
	}
	d.mu.Unlock()
	wait(ctx, lookEvery)
}

// hearArrivals hears jobs as they are queued, until ctx ends. What is missed is only not shown.
func (d *Dashboard) hearArrivals(ctx context.Context) {
	for ctx.Err() == nil {
		feed, err := d.conf.Bus.Arrivals(ctx)
		for err == nil {
			var a streams.Arrival
			if a, err = feed.Next(ctx); err == nil {
				d.came(a)
			} else if errors.Is(err, streams.ErrMissed) {
				err = nil
			}
		}
		if feed != nil {
			feed.Close()
		}
		wait(ctx, lookEvery)
	}
}

// came remembers a job that was queued.
func (d *Dashboard) came(a streams.Arrival) {
	if a.Job == "" || a.Stored.IsZero() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	b := &d.jobs
	if _, again := b.arrived[a.Job]; again {
		return
	}
	b.order = append(b.order, a.Job)
	b.arrived[a.Job] = JobRow{
		Job: a.Job, Tenant: a.Tenant, Slug: a.Queue.Route.Slug, Class: a.Queue.Class, Queued: a.Stored.UTC(), Expiry: a.Expiry,
	}
	b.forget()
}

// forget drops the oldest arrivals when there are too many, and the ids of those that ended.
func (b *jobBook) forget() {
	for len(b.order) > 0 {
		_, open := b.arrived[b.order[0]]
		if open && len(b.arrived) <= maxArrived {
			return
		}
		delete(b.arrived, b.order[0])
		b.order = b.order[1:]
	}
}

// seen adds outcomes to what is remembered.
func (d *Dashboard) seen(receipts []streams.Receipt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := &d.jobs
	b.problem = ""
	for _, r := range receipts {
		b.last = max(b.last, r.Seq)
		row, ok := jobRow(r, d.prices.Load())
		if !ok {
			continue
		}
		if a, ok := b.arrived[row.Job]; ok {
			row.Queued, row.Slug = a.Queued, a.Slug
			if row.Class == "" {
				row.Class = a.Class
			}
			delete(b.arrived, row.Job)
		}
		row.encoded, _ = json.Marshal(row) // it holds nothing that refuses to be encoded
		b.ended = append(b.ended, row)
		b.tokens += row.Usage.Total()
		b.recent = append(b.recent, served{row.Stored, row.Usage.Completion + row.Usage.Reasoning})
		b.addBulk(&row)
	}
	b.forget()
	if len(b.ended) > 2*MaxJobs {
		b.ended = append(b.ended[:0:0], b.ended[len(b.ended)-MaxJobs:]...)
	}
}

// jobRow reads the public story of a job from its outcome's headers, and prices it by the catalogue in force.
func jobRow(r streams.Receipt, prices *schemas.Catalogue) (JobRow, bool) {
	o, err := schemas.ParseOutcome(r.Header, nil)
	if err != nil {
		return JobRow{}, false
	}
	row := JobRow{Seq: r.Seq, Job: o.Job, Tenant: o.Tenant, Model: o.Model, Status: o.Status, Stored: r.Stored.UTC()}
	if o.Kind != schemas.KindUnknown {
		row.Kind = o.Kind.String()
	}
	var grant schemas.Grant
	if statedPayload(o.Grant, &grant) {
		row.Class, row.Worker, row.Attempt = grant.Class, grant.Worker, grant.Attempt
		row.Granted, row.Ceiling = grant.Issued, grant.Ceiling
	}
	var receipt schemas.Receipt
	if statedPayload(o.Receipt, &receipt) {
		row.Usage, row.Started, row.Finished = receipt.Usage, receipt.Started, receipt.Finished
		if prices != nil {
			if charge, err := prices.Cost(o.Model, receipt.Usage, grant.Multiplier); err == nil {
				row.Charged = min(charge.Total, grant.Ceiling)
			}
		}
	}
	return row, true
}

// rates turns what was remembered into figures per second and the jobs section.
func (d *Dashboard) rates(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, b := &d.view.Network, &d.jobs
	n.JobsServed, n.TokensSeen, n.Started = b.last, b.tokens, d.started
	cut := now.Add(-rateWindow)
	b.recent = slices.DeleteFunc(b.recent, func(s served) bool { return s.at.Before(cut) })
	var tokens uint64
	for _, s := range b.recent {
		tokens += s.tokens
	}
	n.JobsPerSecond = float64(len(b.recent)) / rateWindow.Seconds()
	n.TokensPerSecond = float64(tokens) / rateWindow.Seconds()
	jobs := b.ended[max(0, len(b.ended)-MaxJobs):]
	n.MedianRun = median(jobs, func(j *JobRow) time.Time { return j.Granted })
	n.MedianWait = median(jobs, func(j *JobRow) time.Time { return j.Queued })
	head := Jobs{Freshness: Freshness{b.problem, b.since}}
	if b.problem == "" {
		head.Since = time.Time{}
	}
	d.put(secJobs, head, b.rows(jobs))
}

// rows are the jobs that are shown: those that ended last, and those that came last of the others.
func (b *jobBook) rows(ended []JobRow) map[string]json.RawMessage {
	rows := make(map[string]json.RawMessage, len(ended)+MaxWaiting)
	for _, j := range ended {
		rows["0."+seqKey(j.Seq)] = j.encoded
	}
	shown := 0
	for i := len(b.order) - 1; i >= 0 && shown < MaxWaiting; i-- {
		a, open := b.arrived[b.order[i]]
		if !open {
			continue
		}
		if a.encoded == nil {
			a.encoded, _ = json.Marshal(a)
			b.arrived[a.Job] = a
		}
		rows["1."+seqKey(uint64(max(a.Queued.UnixMilli(), 0)))+"."+string(a.Job)] = a.encoded
		shown++
	}
	return rows
}

// median is the median time from a point of the timeline to the stored outcome.
func median(jobs []JobRow, from func(*JobRow) time.Time) time.Duration {
	var took []time.Duration
	for i := range jobs {
		if at := from(&jobs[i]); !at.IsZero() && jobs[i].Stored.After(at) {
			took = append(took, jobs[i].Stored.Sub(at))
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)/2].Round(time.Millisecond)
}
