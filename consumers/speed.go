package consumers

import (
	"sync"
	"time"
)

// speedWindow is how long a speed looks back.
const speedWindow = time.Minute

// speed is a recent rate of tokens, for people and for scaling: the average over the last one to two windows.
type speed struct {
	// mu guards the rest.
	mu        sync.Mutex
	start     time.Time // of the current window
	now, last float64
}

// add counts n.
func (s *speed) add(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn()
	s.now += float64(n)
}

// rate is per second, 0 when nothing happened.
func (s *speed) rate() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn()
	if s.now == 0 && s.last == 0 {
		return 0
	}
	elapsed := time.Since(s.start)
	if s.last > 0 {
		elapsed += speedWindow
	}
	return (s.now + s.last) / max(elapsed.Seconds(), 1)
}

// turn begins a new window when the current one is full.
func (s *speed) turn() {
	switch age := time.Since(s.start); {
	case age >= 2*speedWindow:
		s.start, s.now, s.last = time.Now(), 0, 0
	case age >= speedWindow:
		s.start, s.now, s.last = s.start.Add(speedWindow), 0, s.now
	}
}
