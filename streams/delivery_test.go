package streams

import (
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas/clocktest"
)

// TestLeaseClockJumps: a wall clock that is set by an hour, forward or back, moves no lease.
func TestLeaseClockJumps(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{0, time.Hour, -time.Hour} {
		// A clock that was set forward since is a lease that began that much earlier by it.
		begun := func(ago time.Duration) *Delivery {
			return &Delivery{wait: time.Hour, leased: clocktest.Jump(time.Now().Add(-ago), -jump)}
		}
		if left := begun(20 * time.Minute).Lease(); left > 40*time.Minute || left < 30*time.Minute {
			t.Errorf("clock set by %v: %v left of an hour after 20 minutes", jump, left)
		}
		if left := begun(61 * time.Minute).Lease(); left != 0 {
			t.Errorf("clock set by %v: %v left of an hour after 61 minutes", jump, left)
		}
	}
}
