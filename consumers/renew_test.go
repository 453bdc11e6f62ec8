package consumers

import (
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas/clocktest"
)

// TestRenewalClockJumps: renewals come when a third of the lease is over, whoever sets the wall clock.
func TestRenewalClockJumps(t *testing.T) {
	t.Parallel()
	const term = 30 * time.Second
	start := time.Now()
	k := kept{since: start}
	for _, jump := range []time.Duration{0, time.Hour, -time.Hour} {
		if k.due(term, clocktest.Jump(start.Add(term/3-time.Second), jump)) {
			t.Errorf("clock set by %v: too early", jump)
		}
		if !k.due(term, clocktest.Jump(start.Add(term/3), jump)) {
			t.Errorf("clock set by %v: too late", jump)
		}
	}
}
