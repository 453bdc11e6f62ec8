package dashboard

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Limits of what is remembered about bulk work.
const (
	// maxBulk bounds the tenants' bulk work that is remembered; what ended longest ago is forgotten first.
	maxBulk = 1000
	// bulkWindow is what the rate of outcomes averages over.
	bulkWindow = time.Minute
	// maxReasons bounds the kinds of failure of one row.
	maxReasons = 16
)

// bulkKey names all bulk work of one tenant with one model.
type bulkKey struct {
	tenant schemas.TenantID
	model  schemas.ModelID
}

// bulk counts what became of it since the dashboard began to look.
type bulk struct {
	succeeded, failed uint64
	reasons           map[string]uint64
	tokens            uint64
	charged           schemas.NanoTON
	first, last       time.Time
	// minute counts the outcomes of the running minute and before those of the one before it.
	minute        time.Time
	now, previous uint64
}

// addBulk counts an outcome of class batch; Dashboard.mu is held.
func (b *jobBook) addBulk(j *JobRow) {
	if j.Class != schemas.Batch {
		return
	}
	key := bulkKey{j.Tenant, j.Model}
	k := b.bulk[key]
	if k == nil {
		if len(b.bulk) >= maxBulk {
			b.forgetBulk()
		}
		k = &bulk{first: j.Stored, reasons: map[string]uint64{}}
		b.bulk[key] = k
	}
	if j.Status == schemas.Succeeded {
		k.succeeded++
	} else {
		k.failed++
		if reason := cmp.Or(j.Kind, string(j.Status)); k.reasons[reason] > 0 || len(k.reasons) < maxReasons {
			k.reasons[reason]++
		}
	}
	k.tokens += j.Usage.Total()
	k.charged += j.Charged
	k.last = j.Stored
	k.turn(j.Stored)
	k.now++
}

// turn moves the rate's window on.
func (k *bulk) turn(at time.Time) {
	minute := at.Truncate(bulkWindow)
	switch {
	case minute.Equal(k.minute):
	case minute.Equal(k.minute.Add(bulkWindow)):
		k.previous, k.now, k.minute = k.now, 0, minute
	case minute.After(k.minute):
		k.previous, k.now, k.minute = 0, 0, minute
	}
}

// rate is the outcomes per second over the last minute, the minute before counting for the part that is not over.
func (k *bulk) rate(now time.Time) float64 {
	k.turn(now)
	part := now.Sub(k.minute).Seconds() / bulkWindow.Seconds()
	part = min(max(part, 0), 1)
	return (float64(k.now) + float64(k.previous)*(1-part)) / bulkWindow.Seconds()
}

// forgetBulk drops what ended longest ago.
func (b *jobBook) forgetBulk() {
	var oldest bulkKey
	var at time.Time
	for key, k := range b.bulk {
		if at.IsZero() || k.last.Before(at) {
			oldest, at = key, k.last
		}
	}
	delete(b.bulk, oldest)
}

// readBatches joins what waits, what ended and the gateway's own batches.
func (d *Dashboard) readBatches(ctx context.Context, now time.Time) (Batches, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	out := Batches{Local: d.conf.Batches != nil}
	rows := d.bulkRows(now)
	if err := d.addWaiting(ctx, rows); err != nil {
		return out, err
	}
	for _, r := range rows {
		switch {
		case r.Waiting > 0 && r.PerSecond > 0:
			r.State = "running"
		case r.Waiting > 0:
			r.State = "waiting"
		default:
			r.State = "idle"
		}
		out.Batches = append(out.Batches, *r)
	}
	slices.SortFunc(out.Batches, func(a, b BatchRow) int {
		return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), b.Last.Compare(a.Last), cmp.Compare(a.Tenant, b.Tenant))
	})
	out.Batches = out.Batches[:min(len(out.Batches), MaxBatches)]
	if d.conf.Batches == nil {
		return out, nil
	}
	local, err := d.conf.Batches.Batches(ctx, MaxBatches)
	if err != nil {
		return out, err
	}
	out.Batches = append(out.Batches, local...)
	return out, nil
}

// bulkRows are the rows of what has ended.
func (d *Dashboard) bulkRows(now time.Time) map[bulkKey]*BatchRow {
	d.mu.Lock()
	defer d.mu.Unlock()
	rows := make(map[bulkKey]*BatchRow, len(d.jobs.bulk))
	for key, k := range d.jobs.bulk {
		reasons := make(map[string]uint64, len(k.reasons))
		for reason, n := range k.reasons {
			reasons[reason] = n
		}
		rows[key] = &BatchRow{
			Tenant: key.tenant, Model: modelName(key.model), Succeeded: k.succeeded, Failed: k.failed, Reasons: reasons, Tokens: k.tokens,
			Charged: k.charged, PerSecond: k.rate(now), Created: k.first, Last: k.last,
		}
	}
	return rows
}

// addWaiting adds what waits, by tenant and model.
func (d *Dashboard) addWaiting(ctx context.Context, rows map[bulkKey]*BatchRow) error {
	if d.catalogue == nil {
		return nil
	}
	shards := map[int]bool{}
	models := map[string]schemas.ModelID{}
	for i := range d.catalogue.Models {
		m := &d.catalogue.Models[i]
		shards[m.Shard], models[m.Slug] = true, m.ID
	}
	for shard := range shards {
		census, err := d.conf.Bus.Census(ctx, shard, schemas.Batch)
		if err != nil {
			return err
		}
		for _, q := range census {
			key := bulkKey{q.Tenant, models[q.Route.Slug]}
			r := rows[key]
			if r == nil {
				r = &BatchRow{Tenant: q.Tenant, Model: modelName(key.model)}
				rows[key] = r
			}
			r.Slug, r.Waiting = q.Route.Slug, r.Waiting+q.Jobs
			r.OldestAt = d.oldestAt[streams.Queue{Route: q.Route, Class: schemas.Batch}]
		}
	}
	return nil
}

// key is the key of a row.
func (r BatchRow) key() string {
	if r.ID != "" {
		return "1." + r.ID
	}
	return "0." + string(r.Tenant) + "." + r.Model
}
