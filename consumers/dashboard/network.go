package dashboard

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// oldestSlack is how far a queue's oldest job may seem to move between two looks before it is another job: control
// states ages, and looks at its own times.
const oldestSlack = 3 * time.Second

// look renews the sections that are looked at at every look.
func (d *Dashboard) look(ctx context.Context, now time.Time) {
	workers, rows, living := d.fleet.rows(now)
	if !d.conf.Bus.Conn().IsConnected() && workers.Problem == "" {
		workers.Freshness = Freshness{"the connection to the message system is lost", d.lostSince(now)}
	} else {
		d.lost = time.Time{}
	}
	d.put(secWorkers, workers, rows)
	refusals, refused := d.fleet.refusals()
	d.put(secRefusals, refusals, refused)
	network, err := d.readNetwork(ctx, living, now)
	if err == nil && workers.Problem != "" {
		network.Freshness = workers.Freshness
	}
	keep(&d.view.Network, &d.view.Network.Freshness, network, err, now)
	d.rates(now)
	d.uptime.count(now, d.view.Network.Problem == "" && d.view.Network.States[streams.WorkerServing] > 0)
	models := encodeRows(d.view.Network.Models, func(m ModelRow) string { return m.Slug })
	head := d.view.Network
	public := head
	d.publicNetwork.Store(&public)
	head.Models = nil
	d.put(secNetwork, head, models)
}

// lostSince is when the connection was found lost.
func (d *Dashboard) lostSince(now time.Time) time.Time {
	if d.lost.IsZero() {
		d.lost = now
	}
	return d.lost
}

// put encodes a section.
func (d *Dashboard) put(name string, head any, rows map[string]json.RawMessage) {
	if err := d.store.put(name, head, rows); err != nil { // cannot happen: the view holds no type that refuses to be encoded
		d.conf.Log.Error("encode section", "section", name, "error", err)
	}
}

// encodeRows encodes rows under their keys.
func encodeRows[T any](rows []T, key func(T) string) map[string]json.RawMessage {
	encoded := make(map[string]json.RawMessage, len(rows))
	for _, r := range rows {
		if b, err := json.Marshal(r); err == nil {
			encoded[key(r)] = b
		}
	}
	return encoded
}

// newestRows leaves the limit rows with the highest keys.
func newestRows(rows map[string]json.RawMessage, limit int) {
	if len(rows) <= limit {
		return
	}
	keys := make([]string, 0, len(rows))
	for key := range rows {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys[:len(keys)-limit] {
		delete(rows, key)
	}
}

// readNetwork joins catalogue, queues and workers into one row a model.
func (d *Dashboard) readNetwork(ctx context.Context, workers []*streams.WorkerEntry, now time.Time) (Network, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	backlogs, err := d.conf.Bus.Backlogs(ctx)
	if err != nil {
		return Network{}, err
	}
	n := d.view.Network // the counters go on
	n.Freshness = Freshness{}
	n.Models, n.WorkersOnline, n.Slots, n.Busy = []ModelRow{}, len(workers), 0, 0
	n.Waiting, n.InFlight, n.OldestAt, n.States = 0, 0, time.Time{}, map[streams.WorkerState]int{}
	rows := map[string]*ModelRow{}
	if d.catalogue != nil {
		n.Environment = d.catalogue.Environment
		for _, m := range d.catalogue.Models {
			rows[m.Slug] = &ModelRow{
				Model: m.ID, Slug: m.Slug, Context: m.Context, Endpoints: m.Endpoints, Price: m.Price, Queues: []QueueRow{}, Name: modelName(m.ID),
			}
		}
	}
	for _, w := range workers {
		n.addWorker(w, rows)
	}
	for _, b := range backlogs {
		n.addQueue(b, rows, d.oldest(b, now))
	}
	if d.catalogue != nil {
		for _, m := range d.catalogue.Models {
			n.Models = append(n.Models, *rows[m.Slug])
		}
	}
	return n, nil
}

// modelName is the part of a model id that people read.
func modelName(id schemas.ModelID) string {
	name, _, _ := strings.Cut(string(id), ":")
	return name
}

// addWorker counts a worker's supply.
func (n *Network) addWorker(w *streams.WorkerEntry, rows map[string]*ModelRow) {
	n.States[w.State]++
	for _, m := range w.Models {
		n.Slots += m.Slots
		n.Busy += m.Busy
		if row := rows[m.Route.Slug]; row != nil && row.Model == m.Model {
			row.Workers++
			row.Slots += m.Slots
			row.Busy += m.Busy
			row.TokensPerSecond += m.TokensPerSecond
		}
	}
}

// addQueue counts a queue's demand.
func (n *Network) addQueue(b streams.Backlog, rows map[string]*ModelRow, oldest time.Time) {
	n.Waiting += b.Pending
	n.InFlight += b.InFlight
	if !oldest.IsZero() && (n.OldestAt.IsZero() || oldest.Before(n.OldestAt)) {
		n.OldestAt = oldest
	}
	if row := rows[b.Route.Slug]; row != nil {
		row.Queues = append(row.Queues, QueueRow{b.Class, b.Pending, b.InFlight, b.Redelivered, oldest, b.Paused})
	}
}

// oldest turns the age that control states into a point in time, which stays the same while the job stays.
func (d *Dashboard) oldest(b streams.Backlog, now time.Time) time.Time {
	q := b.Queue()
	if b.Oldest <= 0 {
		delete(d.oldestAt, q)
		return time.Time{}
	}
	at := now.Add(-b.Oldest).UTC().Truncate(time.Second)
	if before, ok := d.oldestAt[q]; ok && at.Sub(before).Abs() <= oldestSlack {
		return before
	}
	d.oldestAt[q] = at
	return at
}

// point adds a point to the charts.
func (d *Dashboard) point(now time.Time) {
	n := &d.view.Network
	points := append(d.view.History.Points, Point{
		Time: now.Unix(), Jobs: n.JobsPerSecond, Tokens: n.TokensPerSecond, Waiting: float64(n.Waiting), Busy: float64(n.Busy), Slots: float64(n.Slots),
		Paid: float64(d.view.Money.Paid) / float64(schemas.TON),
	})
	const most = int(HistorySpan / HistoryStep)
	d.view.History.Points = slices.Clone(points[max(0, len(points)-most):]) // of its own, so that a running series does not grow
	d.put(secHistory, struct{}{}, encodeRows(d.view.History.Points, func(p Point) string { return seqKey(uint64(max(p.Time, 0))) }))
}
