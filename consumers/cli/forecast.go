package cli

import (
	"fmt"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// forecastSpan is how far back a forecast looks and how far ahead.
const forecastSpan = time.Hour

// Forecast is what a worker may expect of the next hour. It assumes that jobs keep coming as in the last hour, that what
// waits is shared by the model's workers in proportion to their slots, and that jobs stay as long and as dear as they were.
type Forecast struct {
	// Jobs is how many it will finish and Earned its share of their price.
	Jobs   float64         `json:"jobs"`
	Earned schemas.NanoTON `json:"earned"`
	// Full tells that there is more work than it can do: more slots would earn more. Otherwise it waits for work.
	Full bool `json:"full"`
	// Unknown counts the models of which no priced receipt of the last hour says what a job earns.
	Unknown int `json:"unknown,omitempty"`
}

// String is for people.
func (f *Forecast) String() string {
	switch {
	case f == nil:
		return "-"
	case f.Jobs == 0 && f.Unknown > 0:
		return "unknown: no job of its models in the last hour"
	case f.Full:
		return fmt.Sprintf("%s, %.0f jobs, full", f.Earned.String(), f.Jobs)
	}
	return fmt.Sprintf("%s, %.0f jobs, waits", f.Earned.String(), f.Jobs)
}

// modelRecord is what the receipts of the last hour say about one model.
type modelRecord struct {
	jobs   uint64
	earned schemas.NanoTON
	ran    time.Duration
}

// add counts one receipt of the last hour.
func (m *modelRecord) add(r *schemas.Receipt, earned schemas.NanoTON) {
	m.jobs++
	m.earned += earned
	m.ran += max(r.Finished.Sub(r.Started), time.Second) // receipts state whole seconds
}

// demandOf is what one model may expect.
type demandOf struct {
	jobs  uint64 // that wait or will come within the hour
	slots int    // of all its workers
}

// forecast tells what each living worker may expect.
func forecast(fleet []streams.FleetMember, backlogs []streams.Backlog, recent map[schemas.ModelID]*modelRecord) map[schemas.WorkerID]*Forecast {
	waiting := map[string]uint64{}
	for _, b := range backlogs {
		waiting[b.Route.Slug] += b.Pending + b.InFlight
	}
	demand := map[schemas.ModelID]*demandOf{}
	for _, w := range fleet {
		for _, m := range w.Models {
			d := demand[m.Model]
			if d == nil {
				d = &demandOf{jobs: waiting[m.Route.Slug]}
				if r := recent[m.Model]; r != nil {
					d.jobs += r.jobs
				}
				demand[m.Model] = d
			}
			if takes(w) {
				d.slots += m.Slots
			}
		}
	}
	all := make(map[schemas.WorkerID]*Forecast, len(fleet))
	for _, w := range fleet {
		f := &Forecast{}
		for _, m := range w.Models {
			f.add(m, takes(w), demand[m.Model], recent[m.Model])
		}
		all[w.Worker] = f
	}
	return all
}

// takes reports whether a worker takes jobs.
func takes(w streams.FleetMember) bool {
	return w.State == streams.WorkerServing || w.State == streams.WorkerStarting
}

// add counts what one model brings.
func (f *Forecast) add(m streams.WorkerModel, takes bool, d *demandOf, r *modelRecord) {
	if !takes || d.slots == 0 || m.Slots <= 0 {
		return
	}
	if r == nil || r.jobs == 0 {
		f.Unknown++
		return
	}
	share := float64(d.jobs) * float64(m.Slots) / float64(d.slots)
	each := r.ran / time.Duration(r.jobs)
	able := float64(m.Slots) * float64(forecastSpan) / float64(each)
	if share > able {
		share, f.Full = able, true
	}
	f.Jobs += share
	f.Earned += schemas.NanoTON(share * float64(r.earned) / float64(r.jobs)) // an estimate: no account is made from it
}
