package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/clocktest"
)

// TestLeaseClockJumps: a wall clock that is set forward or back by an hour neither lengthens a lease nor takes it away, whether
// it was acquired, renewed or heard of from another broker.
func TestLeaseClockJumps(t *testing.T) {
	t.Parallel()
	const term = 30 * time.Second
	start := time.Now()
	expiry := start.Add(48 * time.Hour).Round(0)
	end := start.Truncate(time.Second).Add(term) // as grants have it: without a monotonic reading
	for name, give := range map[string]func(*leases, jobKey) error{
		"acquired": func(l *leases, key jobKey) error {
			_, _, err := l.acquire(key, "first", 3, start, end, expiry)
			return err
		},
		"renewed": func(l *leases, key jobKey) error {
			return l.renew(&schemas.Grant{Tenant: "t", Job: "j", Worker: "first", Attempt: 1}, end, expiry, start)
		},
		"heard of": func(l *leases, key jobKey) error {
			l.merge(key, lease{attempt: 1, worker: "first", until: end, expiry: expiry}, start)
			return nil
		},
	} {
		for _, jump := range []time.Duration{0, time.Hour, -time.Hour} {
			l, key := newLeases(10), keyOf("t", "j")
			if err := give(l, key); err != nil {
				t.Fatal(err)
			}
			after := func(d time.Duration) time.Time { return clocktest.Jump(start.Add(d), jump) }
			soon, late := after(term/2), after(term+time.Second)
			if !l.live(key, "first", soon) {
				t.Errorf("%s, clock set by %v: lost in the middle of the lease", name, jump)
			}
			if _, _, err := l.acquire(key, "second", 3, soon, soon.Add(term), expiry); !errors.Is(err, schemas.KindLeased) {
				t.Errorf("%s, clock set by %v: another worker in the middle of the lease: %v", name, jump, err)
			}
			if l.live(key, "first", late) {
				t.Errorf("%s, clock set by %v: still held after the lease", name, jump)
			}
			if attempt, _, err := l.acquire(key, "second", 3, late, late.Add(term), expiry); err != nil || attempt != 2 {
				t.Errorf("%s, clock set by %v: another worker after the lease: attempt %d, %v", name, jump, attempt, err)
			}
		}
	}
}
