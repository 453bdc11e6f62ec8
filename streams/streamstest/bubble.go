package streamstest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
)

// Bubble runs f with a whole NATS server under fake time: time stands still while anything runs, and jumps to the next
// timer when everything waits. Leases, retries and windows of hours take milliseconds. Inside, start the server with
// [NewWith] (without TCP) as usual; t.Context and Context obey the fake clock.
//
// The fake clock starts at the real time. One thing in the server goes on by the real clock: the age at which a stream
// drops a message (MaxAge, Nats-TTL, the entries of the WORKERS bucket). Test that outside of bubbles. And nats.go keeps
// timers in a pool for the calls that take a timeout instead of a context (Conn.Flush, Conn.Request,
// Subscription.NextMsg): inside a bubble use those with a context, as this package's users do anyway.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	// nats-server's clock is one goroutine for all servers of a process. It must live outside the bubble: one that began
	// inside would stall time.
	ats.Register()
	defer ats.Unregister()
	now := time.Now()
	synctest.Test(t, func(t *testing.T) {
		// A bubble begins in the year 2000: to the server's clock its messages would be decades old.
		time.Sleep(time.Until(now))
		f(t)
	})
}
