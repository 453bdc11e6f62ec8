package fleet

import (
	"context"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// maxEntry bounds an entry of the buckets in bytes.
const maxEntry = 64 << 10

// Load is what is known about one model's jobs and workers.
type Load struct {
	// Waiting and Held count jobs, Others the slots of workers on other hosts.
	Waiting, Held, Others int
}

// News is what a host decides from, by model slug.
type News struct {
	Bounds map[string]streams.FleetModel
	Load   map[string]Load
}

// Look tells the news. An error means that nothing is known.
type Look func(ctx context.Context) (News, error)

// FromBus looks at the FLEET and WORKERS buckets and asks control for the backlog. host is the name under which the
// workers of this host announce themselves.
func FromBus(bus *streams.Bus, host string) Look {
	return func(ctx context.Context) (News, error) {
		n := News{Bounds: map[string]streams.FleetModel{}, Load: map[string]Load{}}
		bounds, err := bus.Bucket(streams.BucketFleet).List(ctx, streams.PrefixModel+">")
		if err != nil {
			return News{}, err
		}
		for _, e := range bounds {
			var m streams.FleetModel
			if schemas.DecodeJSON(e.Value, &m, maxEntry) == nil { // one that cannot be read is as none
				n.Bounds[strings.TrimPrefix(e.Key, streams.PrefixModel)] = m
			}
		}
		if err := others(ctx, bus, host, n.Load); err != nil {
			return News{}, err
		}
		backlogs, err := bus.Backlogs(ctx)
		if err != nil {
			return News{}, err
		}
		for _, b := range backlogs {
			l := n.Load[b.Route.Slug]
			l.Waiting += int(b.Pending)
			l.Held += int(b.InFlight)
			n.Load[b.Route.Slug] = l
		}
		return n, nil
	}
}

// others counts the slots that serving workers of other hosts offer.
func others(ctx context.Context, bus *streams.Bus, host string, load map[string]Load) error {
	entries, err := bus.Bucket(streams.BucketWorkers).List(ctx, streams.PrefixWorker+">")
	if err != nil {
		return err
	}
	for _, e := range entries {
		var w streams.WorkerEntry
		if schemas.DecodeJSON(e.Value, &w, maxEntry) != nil || w.Host == host || w.State != streams.WorkerServing {
			continue
		}
		for _, m := range w.Models {
			l := load[m.Route.Slug]
			l.Others += m.Slots
			load[m.Route.Slug] = l
		}
	}
	return nil
}
