package openai

import (
	"testing"

	"github.com/cocoon-network/cocoon/consumers"
)

// easy is a load under which the limit may rise.
func easy() load { return load{running: 10, waiting: 0, memory: 0.5, preempted: 3, total: -1} }

func TestLimiter(t *testing.T) {
	t.Parallel()
	at := func(n int) limiter { return limiter{now: float64(n), most: 100} }
	for name, c := range map[string]struct {
		l             limiter
		before, after load
		inflight      int
		want          int
	}{
		"rises when used":              {at(20), easy(), easy(), 19, 21},
		"stays when unused":            {at(20), easy(), easy(), 5, 20},
		"stays at the most":            {at(100), easy(), easy(), 100, 100},
		"falls when many wait":         {at(20), easy(), load{10, 3, 0.5, 3, -1}, 20, 14},
		"one may wait":                 {at(20), easy(), load{10, 1, 0.5, 3, -1}, 20, 20},
		"some may wait when many run":  {at(50), easy(), load{40, 3, 0.5, 3, -1}, 50, 50},
		"falls when memory is short":   {at(20), easy(), load{10, 0, 0.95, 3, -1}, 20, 14},
		"stays when memory is tight":   {at(20), easy(), load{10, 0, 0.9, 3, -1}, 20, 20},
		"falls after a preemption":     {at(20), easy(), load{10, 0, 0.5, 4, -1}, 20, 14},
		"a first count is no increase": {at(20), unknownLoad(), load{10, 0, 0.5, 4, -1}, 20, 21},
		"unknown is not zero":          {at(20), unknownLoad(), unknownLoad(), 20, 21},
		"never below one":              {at(1), easy(), load{1, 9, 1, 9, -1}, 1, 1},
	} {
		c.l.observe(c.before, c.after, c.inflight)
		if got := c.l.limit(); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	if u := unknownLoad(); u.waiting != consumers.Unknown {
		t.Errorf("%+v", u)
	}
}

// TestLimiterRefused: a 429 counts once a look, however often it came.
func TestLimiterRefused(t *testing.T) {
	t.Parallel()
	l := limiter{now: 20, most: 100}
	l.refused()
	l.refused()
	l.observe(easy(), easy(), 20)
	if l.limit() != 14 {
		t.Errorf("%d", l.limit())
	}
	l.observe(easy(), easy(), 14)
	if l.limit() != 15 {
		t.Errorf("%d", l.limit())
	}
}

// TestLimiterExact: a server that says how many it takes is believed, until it refuses.
func TestLimiterExact(t *testing.T) {
	t.Parallel()
	l := newLimiter(256)
	l.exact(18)
	if l.limit() != 18 {
		t.Errorf("%d", l.limit())
	}
	l.observe(easy(), load{16, 5, 0.99, 9, -1}, 18)
	if l.limit() != 18 {
		t.Errorf("its own queue and memory are its own business: %d", l.limit())
	}
	l.refused()
	l.observe(easy(), easy(), 18)
	if l.limit() != 12 {
		t.Errorf("%d", l.limit())
	}
	for range 20 {
		l.observe(easy(), easy(), 0)
	}
	if l.limit() != 18 {
		t.Errorf("does not come back: %d", l.limit())
	}
}
