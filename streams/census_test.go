package streams_test

import (
	"testing"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// submitted queues n jobs of a tenant in a class.
func submitted(t *testing.T, bus *streams.Bus, tenant schemas.TenantID, class schemas.Class, n int) {
	t.Helper()
	for range n {
		job := streamstest.Job(tenant, []byte(schemas.NewJobID()), func(a *schemas.Attributes) { a.Class = class })
		if _, err := bus.PublishJob(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCensus counts a class by tenant and nothing of another class.
func TestCensus(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	one, two := schemas.NewTenantID(), schemas.NewTenantID()
	submitted(t, bus, one, schemas.Batch, 3)
	submitted(t, bus, two, schemas.Batch, 1)
	submitted(t, bus, two, schemas.Priority, 5)
	census, err := bus.Census(ctx, 0, schemas.Batch)
	if err != nil {
		t.Fatal(err)
	}
	have := map[schemas.TenantID]uint64{}
	for _, q := range census {
		have[q.Tenant] += q.Jobs
	}
	if len(census) != 2 || have[one] != 3 || have[two] != 1 || census[0].Class != schemas.Batch || census[0].Route.Slug == "" {
		t.Errorf("census %+v", census)
	}
}

// TestNewestDead pages backwards through dead letters of which most were replayed or removed.
func TestNewestDead(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	if list, err := bus.NewestDead(ctx, 0, 5); err != nil || len(list) != 0 {
		t.Errorf("no dead letters: %v, %v", list, err)
	}
	submitted(t, bus, schemas.NewTenantID(), schemas.Standard, 60)
	buried := 0
	cause := &schemas.Error{Kind: schemas.KindPoison, Message: "used all attempts"}
	err := bus.ScanQueued(ctx, 0, "", 1, func(q streams.Queued) (bool, error) {
		buried++
		return true, bus.Bury(ctx, q, cause, 5)
	})
	if err != nil || buried != 60 {
		t.Fatalf("%d buried, %v", buried, err)
	}
	for seq := uint64(10); seq < 55; seq++ { // a hole that one step does not cross
		if err := bus.PurgeDead(ctx, seq); err != nil {
			t.Fatal(err)
		}
	}
	state, err := bus.DeadLetterState(ctx)
	if err != nil || state.Count != 15 || state.Last != 60 {
		t.Errorf("state %+v, %v", state, err)
	}
	var seqs []uint64
	for before := uint64(0); ; before = seqs[len(seqs)-1] {
		page, err := bus.NewestDead(ctx, before, 4)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page {
			if d.Header != nil || d.Body != nil || d.Kind != schemas.KindPoison {
				t.Errorf("letter %+v", d)
			}
			seqs = append(seqs, d.Seq)
		}
		if len(page) == 0 {
			break
		}
	}
	if len(seqs) != 15 || seqs[0] != 60 || seqs[5] != 55 || seqs[6] != 9 || seqs[14] != 1 {
		t.Errorf("positions %v", seqs)
	}
}
