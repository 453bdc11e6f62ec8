package dashboard

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// How often the sources are looked at.
const (
	lookEvery  = time.Second
	moneyEvery = 3 * time.Second
	trustEvery = 5 * time.Second
	deadEvery  = 3 * time.Second
	// lookTimeout bounds one look at one source; a source that hangs must not stop the others.
	lookTimeout = 3 * time.Second
	// rateWindow is what the rates per second average over.
	rateWindow = 10 * time.Second
	// feedBatch bounds one read of outcomes, startBack how many old ones are read at the start.
	feedBatch = 1000
	startBack = MaxJobs
)

// keep stores a section's new values, or notes the problem beside the old ones.
func keep[T any](section *T, fresh *Freshness, next T, err error, now time.Time) {
	if err == nil {
		*section = next
		return
	}
	if fresh.Problem == "" {
		fresh.Since = now
	}
	fresh.Problem = problem(err)
}

// problem says for a page why a source could not be read. It shows the kind and the message, never a cause.
func problem(err error) string {
	if schemas.KindOf(err) != schemas.KindUnknown {
		return err.Error()
	}
	return "cannot be reached"
}

// look renews the sections that come from the message system every second.
func (d *Dashboard) look(ctx context.Context, now time.Time) {
	workers, err := d.readWorkers(ctx)
	keep(&d.view.Workers, &d.view.Workers.Freshness, workers, err, now)
	network, err := d.readNetwork(ctx, d.view.Workers.Workers)
	keep(&d.view.Network, &d.view.Network.Freshness, network, err, now)
	d.rates(now)
}

// readWorkers lists living workers and what control thinks of them.
func (d *Dashboard) readWorkers(ctx context.Context) (Workers, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	entries, err := d.conf.Bus.Bucket(streams.BucketWorkers).List(ctx, "")
	if err != nil {
		return Workers{}, err
	}
	w := Workers{Workers: []WorkerRow{}}
	reputations := map[schemas.WorkerID]*streams.Reputation{}
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Key, streams.PrefixReputation):
			var r streams.Reputation
			if json.Unmarshal(e.Value, &r) == nil {
				reputations[r.Worker] = &r
			}
		case strings.HasPrefix(e.Key, streams.PrefixWorker):
			row := WorkerRow{Seen: e.Updated}
			if json.Unmarshal(e.Value, &row.WorkerEntry) == nil {
				w.Workers = append(w.Workers, row)
			}
		}
	}
	for i := range w.Workers {
		w.Workers[i].Reputation = reputations[w.Workers[i].Worker]
	}
	return w, nil
}

// readNetwork joins catalogue, queues and workers into one row a model.
func (d *Dashboard) readNetwork(ctx context.Context, workers []WorkerRow) (Network, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	backlogs, err := d.conf.Bus.Backlogs(ctx)
	if err != nil {
		return Network{}, err
	}
	n := d.view.Network // the counters go on
	n.Freshness = Freshness{}
	n.Models, n.WorkersOnline, n.Slots, n.Busy = []ModelRow{}, len(workers), 0, 0
	if d.catalogue != nil {
		n.Environment = d.catalogue.Environment
		for _, m := range d.catalogue.Models {
			n.Models = append(n.Models, modelRow(m, backlogs, workers))
		}
	}
	for _, w := range workers {
		for _, m := range w.Models {
			n.Slots += m.Slots
			n.Busy += m.Busy
		}
	}
	return n, nil
}

// modelRow gathers what belongs to one model.
func modelRow(m schemas.Model, backlogs []streams.Backlog, workers []WorkerRow) ModelRow {
	row := ModelRow{
		Model: m.ID, Slug: m.Slug, Context: m.Context, Endpoints: m.Endpoints, Price: m.Price,
		Queues: []streams.Backlog{},
	}
	row.Name, _, _ = strings.Cut(string(m.ID), ":")
	for _, b := range backlogs {
		if b.Route.Slug == m.Slug {
			row.Queues = append(row.Queues, b)
		}
	}
	for _, w := range workers {
		for _, wm := range w.Models {
			if wm.Model == m.ID {
				row.Workers++
				row.Slots += wm.Slots
				row.Busy += wm.Busy
			}
		}
	}
	return row
}

// readDead counts and lists the dead letters, newest first.
func (d *Dashboard) readDead(ctx context.Context) (Dead, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	dead := Dead{Letters: []streams.DeadLetter{}}
	for letter, err := range d.conf.Bus.DeadLetters(ctx, streams.DeadSelector{}) {
		if err != nil {
			return Dead{}, err
		}
		dead.Count++
		letter.Header = nil
		dead.Letters = append(dead.Letters, letter)
		if len(dead.Letters) > 2*MaxDead {
			dead.Letters = slices.Delete(dead.Letters, 0, MaxDead)
		}
	}
	dead.Letters = dead.Letters[max(0, len(dead.Letters)-MaxDead):]
	slices.Reverse(dead.Letters)
	return dead, nil
}

// readTrust verifies the signed documents again, with the same code as everybody, and lists the keys in force.
func (d *Dashboard) readTrust(ctx context.Context, now time.Time) (Trust, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	t := Trust{
		Environment: d.conf.Trust.Environment, Roots: d.conf.Trust.Roots.Hash(),
		Measurements: []MeasurementRow{}, Keys: []KeyRow{},
	}
	// The catalogue comes first: the network page needs it, whatever is wrong with the policy.
	catalogue, row, err := document[schemas.Catalogue](ctx, d, streams.BucketCatalogue, now)
	if err != nil {
		return Trust{}, err
	}
	t.Catalogue, d.catalogue = row, catalogue
	policy, row, err := document[schemas.Policy](ctx, d, streams.BucketPolicy, now)
	if err != nil {
		return Trust{}, err
	}
	t.Policy = row
	for _, m := range policy.Measurements {
		t.Measurements = append(t.Measurements, MeasurementRow{m.Name, m.Role})
	}
	keys, err := d.conf.Bus.Bucket(streams.BucketKeys).List(ctx, "")
	if err != nil {
		return Trust{}, err
	}
	for _, e := range keys {
		if k, ok := keyRow(e.Value); ok {
			t.Keys = append(t.Keys, k)
		}
	}
	return t, nil
}

// document reads and verifies the version in force of a signed document.
func document[T any, D interface {
	*T
	schemas.Document
}](ctx context.Context, d *Dashboard, bucket streams.BucketName, now time.Time) (D, DocumentRow, error) {
	entry, err := d.conf.Bus.Bucket(bucket).Get(ctx, "current")
	if err != nil {
		return nil, DocumentRow{}, err
	}
	doc, hash, err := schemas.VerifyDocument[T, D](entry.Value, d.conf.Trust, 0, now)
	if err != nil {
		return nil, DocumentRow{}, err
	}
	signed, err := schemas.ParseSigned(entry.Value)
	if err != nil {
		return nil, DocumentRow{}, err
	}
	head := doc.Head()
	return doc, DocumentRow{
		Version: head.Version, Hash: hash, Issued: head.Issued, Expires: head.Expires,
		Signers: len(signed.Signers(d.conf.Trust.Roots)),
	}, nil
}

// keyRow reads a published key for display; producers verify it, a page only shows it.
func keyRow(value []byte) (KeyRow, bool) {
	published, _, err := schemas.ParsePublishedKey(value)
	if err != nil {
		return KeyRow{}, false
	}
	var bundle schemas.KeyBundle
	if !statedPayload(published.Bundle, &bundle) {
		return KeyRow{}, false
	}
	return KeyRow{
		Model: bundle.Model, Key: bundle.Key, Epoch: bundle.Epoch, ActiveUntil: bundle.ActiveUntil,
		Broker: schemas.KeyIDOf(bundle.Broker),
	}, true
}

// statedPayload reads the payload of a compact JWS without verifying it: what is shown is what the signer states.
// Settlement verifies every receipt before it books anything.
func statedPayload(jws string, v any) bool {
	_, rest, ok := strings.Cut(jws, ".")
	payload, _, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 {
		return false
	}
	b, err := base64.RawURLEncoding.DecodeString(payload)
	return err == nil && json.Unmarshal(b, v) == nil
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

// missed notes that the feed could not be read and waits a look before the next try.
func (d *Dashboard) missed(ctx context.Context, err error) {
	d.mu.Lock()
	if d.feedProblem == "" && ctx.Err() == nil {
		d.feedSince, d.feedProblem = d.conf.Now(), problem(err)
	}
	d.mu.Unlock()
	wait(ctx, lookEvery)
}

// seen adds outcomes to what is remembered.
func (d *Dashboard) seen(receipts []streams.Receipt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.feedProblem = ""
	for _, r := range receipts {
		row, ok := jobRow(r)
		if !ok {
			continue
		}
		d.jobs = append(d.jobs, row)
		d.served++
		d.tokens += row.Usage.Total()
		d.recent = append(d.recent, served{row.Stored, row.Usage.Completion + row.Usage.Reasoning})
	}
	if len(d.jobs) > 2*MaxJobs {
		d.jobs = append(d.jobs[:0:0], d.jobs[len(d.jobs)-MaxJobs:]...)
	}
}

// jobRow reads the public story of a job from its outcome's headers.
func jobRow(r streams.Receipt) (JobRow, bool) {
	o, err := schemas.ParseOutcome(r.Header, nil)
	if err != nil {
		return JobRow{}, false
	}
	row := JobRow{Seq: r.Seq, Job: o.Job, Tenant: o.Tenant, Model: o.Model, Status: o.Status, Stored: r.Stored}
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
	}
	return row, true
}

// rates turns what was remembered into figures per second and a point of the charts.
func (d *Dashboard) rates(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := &d.view.Network
	n.JobsServed, n.TokensServed, n.Started = d.served, d.tokens, d.started
	cut := now.Add(-rateWindow)
	d.recent = slices.DeleteFunc(d.recent, func(s served) bool { return s.at.Before(cut) })
	var tokens uint64
	for _, s := range d.recent {
		tokens += s.tokens
	}
	n.JobsPerSecond = float64(len(d.recent)) / rateWindow.Seconds()
	n.TokensPerSecond = float64(tokens) / rateWindow.Seconds()
	jobs := append([]JobRow{}, d.jobs[max(0, len(d.jobs)-MaxJobs):]...) // never null in JSON
	slices.Reverse(jobs)
	n.MedianWait = medianRun(jobs)
	d.view.Jobs = Jobs{Freshness: Freshness{d.feedProblem, d.feedSince}, Jobs: jobs}
	if d.feedProblem == "" {
		d.view.Jobs.Since = time.Time{}
	}
}

// medianRun is the median time from grant to stored outcome.
func medianRun(jobs []JobRow) time.Duration {
	var took []time.Duration
	for _, j := range jobs {
		if !j.Granted.IsZero() && j.Stored.After(j.Granted) {
			took = append(took, j.Stored.Sub(j.Granted))
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// point adds a point to the charts.
func (d *Dashboard) point(now time.Time) {
	h, n := &d.view.History, &d.view.Network
	var pending float64
	for _, m := range n.Models {
		for _, q := range m.Queues {
			pending += float64(q.Pending)
		}
	}
	const most = int(HistorySpan / HistoryStep)
	h.Time = lastOf(append(h.Time, now.Unix()), most)
	h.Jobs = lastOf(append(h.Jobs, n.JobsPerSecond), most)
	h.Tokens = lastOf(append(h.Tokens, n.TokensPerSecond), most)
	h.Pending = lastOf(append(h.Pending, pending), most)
	h.Busy = lastOf(append(h.Busy, float64(n.Busy)), most)
	h.Paid = lastOf(append(h.Paid, float64(d.view.Money.Paid)/float64(schemas.TON)), most)
}

// lastOf keeps the last n values in memory of their own, so that a running series does not grow.
func lastOf[T any](values []T, n int) []T {
	return slices.Clone(values[max(0, len(values)-n):])
}

// wait sleeps until d has passed or ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
