package fleet

import (
	"testing"
	"time"
)

func TestWant(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		d    Demand
		want int
	}{
		{"nothing to do", Demand{Slots: 8, Max: 4}, 0},
		{"minimum is kept", Demand{Slots: 8, Min: 2, Max: 4}, 2},
		{"one job needs one worker", Demand{Waiting: 1, Slots: 8, Max: 4}, 1},
		{"rounds up", Demand{Waiting: 17, Slots: 8, Max: 4}, 3},
		{"jobs being run count", Demand{Waiting: 1, Held: 16, Slots: 8, Max: 4}, 3},
		{"maximum holds", Demand{Waiting: 1000, Slots: 8, Max: 4}, 4},
		{"others' slots are subtracted", Demand{Waiting: 20, Slots: 8, Others: 16, Max: 4}, 1},
		{"others have room for all", Demand{Waiting: 10, Slots: 8, Others: 16, Max: 4}, 0},
		{"a model without workers begins", Demand{Waiting: 3, Slots: 0, Max: 1}, 1},
		{"maximum zero is no service", Demand{Waiting: 3, Slots: 8, Max: 0}, 0},
	} {
		if got := c.d.Want(); got != c.want {
			t.Errorf("%s: want %d workers, got %d", c.name, c.want, got)
		}
	}
}

// TestScalerHysteresis: up at once, down one by one and only after it was enough for a while, zero after longer.
func TestScalerHysteresis(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	s := scaler{pace: Pace{Up: 2, Down: time.Minute, Idle: 5 * time.Minute}}
	have := 0
	for _, step := range []struct {
		at      time.Duration
		waiting int
		want    int
	}{
		{0, 80, 2}, // ten are wanted, two start at a time
		{time.Second, 80, 4},
		{2 * time.Second, 8, 4},   // one would do: not at once
		{61 * time.Second, 80, 5}, // load again: the patience starts over
		{62 * time.Second, 0, 5},
		{121 * time.Second, 0, 5},
		{123 * time.Second, 0, 4},
		{124 * time.Second, 0, 4}, // one per minute
		{183 * time.Second, 0, 3},
		{243 * time.Second, 0, 2},
		{303 * time.Second, 0, 1},
		{363 * time.Second, 0, 1}, // the last one stays longer
		{602 * time.Second, 0, 1},
		{604 * time.Second, 0, 0},
		{605 * time.Second, 0, 0},
		{606 * time.Second, 1, 1}, // and from zero at once
	} {
		have = s.next(start.Add(step.at), have, Demand{Waiting: step.waiting, Slots: 8, Max: 5})
		if have != step.want {
			t.Fatalf("at %v with %d waiting: %d workers, want %d", step.at, step.waiting, have, step.want)
		}
	}
}

func TestScalerObeysNewBoundsAtOnce(t *testing.T) {
	t.Parallel()
	s := scaler{pace: Pace{}.withDefaults()}
	now := time.Unix(1_000_000, 0)
	if got := s.next(now, 5, Demand{Waiting: 100, Slots: 1, Max: 2}); got != 2 {
		t.Errorf("maximum lowered to 2: %d workers", got)
	}
	if got := s.next(now, 0, Demand{Slots: 1, Min: 3, Max: 5}); got != 3 {
		t.Errorf("minimum raised to 3: %d workers", got)
	}
	if got := s.next(now, 3, Demand{Waiting: 100, Slots: 1, Max: 0}); got != 0 {
		t.Errorf("maximum 0: %d workers", got)
	}
}
