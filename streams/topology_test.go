package streams_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/embedded"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestApplyRepairs: streams that somebody weakened are reported and made right again; what the server cannot change is
// refused; applying again changes nothing.
func TestApplyRepairs(t *testing.T) {
	t.Parallel()
	bus := streamstest.Connect(t, streamstest.Server(t, embedded.Options{InProcessOnly: true}), streams.Config{})
	ctx := streamstest.Context(t)
	js, err := jetstream.New(bus.Conn())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []jetstream.StreamConfig{
		{Name: "JOBS_0", Subjects: []string{"jobs.0.*.*.*"}, Retention: jetstream.WorkQueuePolicy, AllowRollup: true},
		{Name: "OUT", Subjects: []string{"out.*.*"}},
	} {
		if _, err := js.CreateStream(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	weak, err := bus.Weaknesses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(weak, "\n")
	for _, want := range []string{"JOBS_0: allows rollups", "JOBS_0: drops the oldest", "JOBS_0: has no consumer limit", "OUT: lets a job have a second outcome", "DLQ is missing"} {
		if !strings.Contains(all, want) {
			t.Errorf("not found: %s\n%s", want, all)
		}
	}
	if changed, err := bus.Apply(ctx, streams.Topology{}); err != nil || len(changed) < 20 {
		t.Errorf("apply: %d changes, %v", len(changed), err)
	}
	if changed, err := bus.Apply(ctx, streams.Topology{}); err != nil || len(changed) != 0 {
		t.Errorf("apply again: %+v, %v", changed, err)
	}
	if weak, err := bus.Weaknesses(ctx); err != nil || len(weak) != 0 {
		t.Errorf("afterwards: %q %v", weak, err)
	}
	publish(t, bus, schemas.NewTenantID(), 1, nil)
	for name, topology := range map[string]streams.Topology{
		"other lanes":    {Lanes: 4},
		"smaller queues": {TenantQueue: 50},
	} {
		if _, err := bus.Apply(ctx, topology); !errors.Is(err, schemas.KindConflict) {
			t.Errorf("%s under a stored job: %v", name, err)
		}
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "KV_X", Subjects: []string{"$KV.X.>"}, Storage: jetstream.MemoryStorage}); err != nil {
		t.Fatal(err)
	}
	if changed, err := bus.Apply(ctx, streams.Topology{Shards: 3}); err != nil || len(changed) != 2 {
		t.Errorf("two more shards beside a stream of others: %+v, %v", changed, err)
	}
}

// TestCheckServer refuses servers that are too old.
func TestCheckServer(t *testing.T) {
	t.Parallel()
	for version, ok := range map[string]bool{
		"2.14.0": true, "2.15.2": true, "v3.0.0-beta": true, "2.15.0-RC.1": true, "2.13.9": false, "2.9": false, "1.99.0": false, "": false, "x.y": false,
	} {
		err := streams.CheckServer(version)
		if ok != (err == nil) || err != nil && !errors.Is(err, schemas.KindUnsupported) {
			t.Errorf("%q: %v", version, err)
		}
	}
}

// TestLane agrees with the partition function of the server.
func TestLane(t *testing.T) {
	t.Parallel()
	tr, err := server.NewSubjectTransform("jobs.*", "q.{{partition(16,1)}}")
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		tenant := schemas.NewTenantID()
		to, err := tr.Match("jobs." + string(tenant))
		if err != nil {
			t.Fatal(err)
		}
		var lane int
		for _, c := range strings.TrimPrefix(to, "q.") {
			lane = lane*10 + int(c-'0')
		}
		if got := streams.Lane(tenant, 16); got != lane {
			t.Fatalf("%s: lane %d, the server says %d", tenant, got, lane)
		}
	}
}

// FuzzTopology: what parses is exported and parses again to the same.
func FuzzTopology(f *testing.F) {
	f.Add([]byte(`{"shards":2,"lease":"5s","streams":{"OUT":{"max_age":1209600000000000}}}`))
	f.Add([]byte(`{"streams":{"JOBS_0":{"allow_rollup_hdrs":true}}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		topology, err := streams.ParseTopology(text)
		if err != nil {
			return
		}
		first, err := topology.ExportJSON()
		if err != nil {
			t.Fatalf("parsed, but not exported: %v", err)
		}
		again, err := streams.ParseTopology(first)
		if err != nil {
			t.Fatalf("exported, but not parsed: %v", err)
		}
		if second, err := again.ExportJSON(); err != nil || string(second) != string(first) {
			t.Errorf("%s became %s (%v)", first, second, err)
		}
	})
}
