// Package clocktest makes times as a machine reads them whose wall clock was set.
//
// A reading of time.Now has two clocks in it: the wall clock, which people and time servers set, and the monotonic clock, which
// goes on evenly. What must last for a certain time, such as a lease, goes by the second. [Jump] takes a reading and moves only
// the first, so that a test can give it to code that takes the time as an argument and see that nothing changes:
//
//	late := clocktest.Jump(begun.Add(term), -time.Hour) // the clock was set back by an hour meanwhile
//
// Times without a monotonic part cannot be used: those that were rounded, truncated, decoded, or read inside a synctest bubble.
//
// Only tests import it.
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
