package consumers

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// TestServedClasses: a worker pulls no class that pays less than it asks.
func TestServedClasses(t *testing.T) {
	t.Parallel()
	c := &schemas.Catalogue{Classes: map[schemas.Class]schemas.BasisPoints{
		schemas.Priority: 20_000, schemas.Standard: 10_000, schemas.Batch: 5_000,
	}}
	for _, test := range []struct {
		ask  schemas.BasisPoints
		want []schemas.Class
	}{
		{0, []schemas.Class{schemas.Priority, schemas.Standard, schemas.Batch}},
		{5_000, []schemas.Class{schemas.Priority, schemas.Standard, schemas.Batch}},
		{5_001, []schemas.Class{schemas.Priority, schemas.Standard}},
		{20_000, []schemas.Class{schemas.Priority}},
		{20_001, nil},
	} {
		if got := served(c, test.ask); !slices.Equal(got, test.want) {
			t.Errorf("ask %d: serves %v, want %v", test.ask, got, test.want)
		}
	}
}

func TestGate(t *testing.T) {
	t.Parallel()
	changes := 0
	g := gate{changed: func() { changes++ }}
	if !g.open() {
		t.Fatal("a gate without reasons is shut")
	}
	g.set(gateOrder, "disabled")
	g.set(gateOrder, "disabled")
	g.set(gateMachine, "memory")
	if changes != 2 {
		t.Errorf("%d changes told, want 2", changes)
	}
	g.set(gateMachine, "")
	if source, reason := g.why(); g.open() || source != gateOrder || reason != "disabled" {
		t.Errorf("one source overruled the other: %q %q", source, reason)
	}
	g.set(gateOrder, "")
	if !g.open() {
		t.Error("still shut")
	}
}

func TestSpeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s speed
		if s.rate() != 0 {
			t.Errorf("before anything: %v", s.rate())
		}
		for range 300 {
			s.add(50)
			time.Sleep(time.Second)
		}
		if r := s.rate(); r < 45 || r > 55 {
			t.Errorf("50 a second measured as %v", r)
		}
		time.Sleep(5 * time.Minute)
		if s.rate() != 0 {
			t.Errorf("long after: %v", s.rate())
		}
	})
}
