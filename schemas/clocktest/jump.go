// Package clocktest makes times as a machine reads them whose wall clock was set.
//
// A reading of time.Now has two clocks in it, and only the monotonic one goes on evenly. [Jump] moves the other, so that tests
// can show that nothing that must last for a certain time, such as a lease, depends on it.
package clocktest

import (
	"time"
	"unsafe"
)

// Jump is a reading of time.Now as it would be had somebody set the wall clock forward by d, or back when d is negative, in
// whole seconds: its monotonic part is the same. It panics when t has no monotonic part, or when time.Time has another layout
// than this package knows.
func Jump(t time.Time, d time.Duration) time.Time {
	moved := t
	// The first word holds a flag for the monotonic part, 33 bits of seconds and 30 bits of nanoseconds.
	*(*uint64)(unsafe.Pointer(&moved)) += uint64(d/time.Second) << 30
	if moved.Sub(t) != 0 || moved.Round(0).Sub(t.Round(0)) != d.Truncate(time.Second) {
		panic("clocktest: not a reading of time.Now")
	}
	return moved
}
