package broker

import (
	"sync"
	"time"
)

// seen remembers what was used, for at least one window and at most two, in two generations. When a generation is full it
// ends early, so memory is bounded; what is forgotten early has an expiry of its own.
type seen struct {
	mu       sync.Mutex // guards the fields below
	limit    int
	window   time.Duration
	young    map[[32]byte]struct{}
	old      map[[32]byte]struct{}
	turnover time.Time
}

// newSeen makes an empty memory of at most 2·limit entries.
func newSeen(limit int, window time.Duration) *seen {
	return &seen{limit: limit, window: window, young: map[[32]byte]struct{}{}}
}

// first reports whether key is new, and remembers it.
func (s *seen) first(key [32]byte, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(now)
	if s.has(key) {
		return false
	}
	s.young[key] = struct{}{}
	return true
}

// known reports whether key is remembered.
func (s *seen) known(key [32]byte, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(now)
	return s.has(key)
}

// has looks in both generations. The caller holds mu.
func (s *seen) has(key [32]byte) bool {
	if _, ok := s.young[key]; ok {
		return true
	}
	_, ok := s.old[key]
	return ok
}

// turn begins a new generation when the young one is old or full. The caller holds mu.
func (s *seen) turn(now time.Time) {
	if now.Sub(s.turnover) >= s.window || len(s.young) >= s.limit {
		s.old, s.young, s.turnover = s.young, map[[32]byte]struct{}{}, now
	}
}
