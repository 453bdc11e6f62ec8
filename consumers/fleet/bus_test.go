package fleet

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/control"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestFromBus: the news come from the buckets and from control, and what cannot be read is as if it were not there.
func TestFromBus(t *testing.T) {
	t.Parallel()
	bus := streamstest.New(t)
	ended := make(chan error, 1)
	ctx := streamstest.Context(t)
	go func() { ended <- control.New(bus, control.Options{}).Run(ctx) }()
	route := streamstest.Route
	put := func(bucket streams.BucketName, key string, value any) {
		t.Helper()
		b, err := json.Marshal(value)
		if err == nil {
			_, err = bus.Bucket(bucket).Put(ctx, key, b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	worker := func(id, host string, state streams.WorkerState, slots int) {
		put(streams.BucketWorkers, streams.PrefixWorker+id, streams.WorkerEntry{
			Worker: schemas.WorkerID(id), Host: host, State: state, Models: []streams.WorkerModel{{Route: route, Slots: slots}},
		})
	}
	worker("waaaaaaaaaaaaaaaa", "here", streams.WorkerServing, 8)
	worker("wbbbbbbbbbbbbbbbb", "there", streams.WorkerServing, 16)
	worker("wcccccccccccccccc", "there", streams.WorkerDraining, 32)
	put(streams.BucketWorkers, streams.PrefixWorker+"wdddddddddddddddd", "nonsense")
	put(streams.BucketFleet, streams.PrefixModel+route.Slug, streams.FleetModel{Min: 1, Max: 4})
	put(streams.BucketFleet, streams.PrefixModel+"broken", []int{1})
	tenant := schemas.NewTenantID()
	for i := range 5 {
		if _, err := bus.PublishJob(ctx, streamstest.Job(tenant, []byte{byte(i)}, nil)); err != nil {
			t.Fatal(err)
		}
	}
	want := News{
		Bounds: map[string]streams.FleetModel{route.Slug: {Min: 1, Max: 4}},
		Load:   map[string]Load{route.Slug: {Waiting: 5, Others: 16}},
	}
	var got News
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got, err = FromBus(bus, "here")(ctx); err == nil && cmp.Equal(got, want) {
			return // control needs a moment to see the jobs
		}
	}
	t.Errorf("news (-want +got):\n%s\nlast error: %v", cmp.Diff(want, got), err)
}
