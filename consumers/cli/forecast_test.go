package cli

import (
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// TestForecast: demand is shared by slots, capped by what a worker can do, and only by those that take jobs.
func TestForecast(t *testing.T) {
	t.Parallel()
	model, other := schemas.ModelID("a@1"), schemas.ModelID("b@1")
	route := streams.Route{Slug: "a-1"}
	member := func(id string, state streams.WorkerState, slots int, models ...schemas.ModelID) streams.FleetMember {
		w := streams.FleetMember{WorkerEntry: streams.WorkerEntry{Worker: schemas.WorkerID(id), State: state}}
		for _, m := range models {
			w.Models = append(w.Models, streams.WorkerModel{Model: m, Route: route, Slots: slots})
		}
		return w
	}
	recent := &modelRecord{}
	start := time.Now()
	for range 100 { // 60 s a job: one slot can do 60 an hour
		recent.add(&schemas.Receipt{Started: start, Finished: start.Add(time.Minute)}, 5)
	}
	fleet := []streams.FleetMember{
		member("big", streams.WorkerServing, 3, model), member("small", streams.WorkerServing, 1, model), member("paused", streams.WorkerPaused, 4, model), member("new", streams.WorkerServing, 1, other),
	}
	known := map[schemas.ModelID]*modelRecord{model: recent}
	for _, c := range []struct {
		name    string
		pending uint64
		big     float64
		small   float64
		full    bool
	}{
		{"little work is shared by slots", 20, 90, 30, false}, // 120 jobs for 4 slots
		{"much work is capped by capacity", 10_000, 180, 60, true},
	} {
		all := forecast(fleet, []streams.Backlog{{Route: route, Pending: c.pending - 5, InFlight: 5}}, known)
		if b, s := all["big"], all["small"]; b.Jobs != c.big || s.Jobs != c.small || b.Full != c.full || s.Full != c.full || b.Earned != schemas.NanoTON(5*c.big) {
			t.Errorf("%s: big %+v, small %+v", c.name, b, s)
		}
		if p := all["paused"]; p.Jobs != 0 || p.Earned != 0 {
			t.Errorf("%s: a paused worker may expect %+v", c.name, p)
		}
		if n := all["new"]; n.Unknown != 1 || n.Jobs != 0 {
			t.Errorf("%s: nothing is known of its model: %+v", c.name, n)
		}
	}
}
