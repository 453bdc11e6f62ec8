package reference

import (
	"context"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Clock takes the times of jobs, and paces them. It is safe for concurrent use.
type Clock struct {
	start time.Time

	mu     sync.Mutex // guards the rest
	begun  map[schemas.JobID]time.Time
	passed []time.Duration
}

// NewClock returns a clock for n jobs that starts now.
func NewClock(n int) *Clock {
	return &Clock{start: time.Now(), begun: make(map[schemas.JobID]time.Time, n)}
}

// Wait sleeps until job i is to begin: i times the pace after the start. It returns ctx's error when ctx has ended.
func (c *Clock) Wait(ctx context.Context, i int, pace time.Duration) error {
	if pace > 0 {
		t := time.NewTimer(time.Until(c.start.Add(time.Duration(i) * pace)))
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
	return ctx.Err()
}

// Begin notes that a job began.
func (c *Clock) Begin(id schemas.JobID, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun[id] = at
}

// End notes that a job has ended now. A job that never began is none of this clock's.
func (c *Clock) End(id schemas.JobID) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if begun, ok := c.begun[id]; ok {
		c.passed = append(c.passed, now.Sub(begun))
	}
}

// Times are the times of all jobs that have ended.
func (c *Clock) Times() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed
}
