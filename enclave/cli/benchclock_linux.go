//go:build !worker

package cli

import (
	"time"

	"golang.org/x/sys/unix"
)

// clockName says what benchClock counts.
const clockName = "CPU time of the measuring thread"

// benchClock is the CPU time of the calling thread: what other processes do on the machine is not in it. The caller holds
// its thread.
func benchClock() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic("cli: Linux has a clock for each thread: " + err.Error())
	}
	return time.Duration(t.Nano())
}

// processClock is the CPU time of all threads of this process.
func processClock() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		panic("cli: Linux has a clock for each process: " + err.Error())
	}
	return time.Duration(t.Nano())
}
