package streams

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
)

// maxFleetEntry bounds one JSON entry of WORKERS or FLEET.
const maxFleetEntry = 256 << 10

// FleetMember is everything known about one worker.
type FleetMember struct {
	WorkerEntry
	// Reputation is nil before control has seen any of its work.
	Reputation *Reputation `json:"reputation,omitempty"`
	// Wish is what operators asked of it.
	Wish FleetWorker `json:"wish"`
}

// Fleet lists the living workers, sorted by id. Entries that cannot be read are left out: every worker writes its own.
func (b *Bus) Fleet(ctx context.Context) ([]FleetMember, error) {
	entries, err := b.Bucket(BucketWorkers).List(ctx, ">")
	if err != nil {
		return nil, err
	}
	wishes, err := b.Bucket(BucketFleet).List(ctx, PrefixWorker+"*")
	if err != nil {
		return nil, err
	}
	members := map[string]*FleetMember{}
	var order []string
	for _, e := range entries {
		id, ok := strings.CutPrefix(e.Key, PrefixWorker)
		var m FleetMember
		if ok && parseFleet(e.Value, &m.WorkerEntry) == nil && string(m.Worker) == id {
			members[id] = &m
			order = append(order, id)
		}
	}
	for _, e := range entries {
		var r Reputation
		if id, ok := strings.CutPrefix(e.Key, PrefixReputation); ok && members[id] != nil && parseFleet(e.Value, &r) == nil {
			members[id].Reputation = &r
		}
	}
	for _, e := range wishes {
		if m := members[strings.TrimPrefix(e.Key, PrefixWorker)]; m != nil {
			_ = parseFleet(e.Value, &m.Wish) // a wish that cannot be read is none
		}
	}
	list := make([]FleetMember, 0, len(order))
	for _, id := range order { // the bucket's order, which is that of the keys
		list = append(list, *members[id])
	}
	return list, nil
}

// parseFleet reads an entry that a newer version may have extended: unknown fields are ignored, everything else is strict.
func parseFleet(text []byte, v any) error {
	if len(text) > maxFleetEntry {
		return schemas.Errorf(schemas.KindTooLarge, "entry is larger than 256 KiB")
	}
	if err := schemas.CheckJSON(text); err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// ParseWorkerEntry reads an entry of WORKERS.
func ParseWorkerEntry(text []byte) (e WorkerEntry, err error) { return e, parseFleet(text, &e) }

// ParseReputation reads a reputation of WORKERS.
func ParseReputation(text []byte) (r Reputation, err error) { return r, parseFleet(text, &r) }

// ParseFinding reads an entry of EVIDENCE.
func ParseFinding(text []byte) (f schemas.Finding, err error) { return f, parseFleet(text, &f) }

// ParseFleetModel reads an entry of FLEET about a model and refuses numbers that make no sense.
func ParseFleetModel(text []byte) (m FleetModel, err error) {
	if err = parseFleet(text, &m); err == nil {
		err = m.Check()
	}
	return m, err
}

// ParseFleetWorker reads an entry of FLEET about a worker.
func ParseFleetWorker(text []byte) (w FleetWorker, err error) { return w, parseFleet(text, &w) }

// maxFleetWorkers bounds the workers of one model on one host.
const maxFleetWorkers = 1000

// Check refuses numbers that make no sense.
func (m FleetModel) Check() error {
	if m.Min < 0 || m.Max < m.Min || m.Max > maxFleetWorkers {
		return schemas.FieldError("min", fmt.Sprintf("must lie between 0 and max, and max be at most %d", maxFleetWorkers))
	}
	return nil
}

// WorkerView is a worker as it serves one model.
type WorkerView struct {
	Worker schemas.WorkerID `json:"worker"`
	Host   string           `json:"host,omitempty"`
	State  WorkerState      `json:"state"`
	Slots  int              `json:"slots"`
	Busy   int              `json:"busy"`
}

// WorkersOf lists the living workers that serve a model, sorted by id.
func (b *Bus) WorkersOf(ctx context.Context, slug string) ([]WorkerView, error) {
	fleet, err := b.Fleet(ctx)
	if err != nil {
		return nil, err
	}
	views := []WorkerView{}
	for _, w := range fleet {
		for _, m := range w.Models {
			if m.Route.Slug == slug {
				views = append(views, WorkerView{w.Worker, w.Host, w.State, m.Slots, m.Busy})
			}
		}
	}
	return views, nil
}
