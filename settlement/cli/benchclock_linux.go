package cli

import (
	"time"

	"golang.org/x/sys/unix"
)

// clockName says what benchClock measures.
const clockName = "CPU time of the process"

// benchClock is the CPU time of this process: what other processes do on the machine is not in it.
func benchClock() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		panic("cli: Linux has a clock for each process: " + err.Error())
	}
	return time.Duration(t.Nano())
}
