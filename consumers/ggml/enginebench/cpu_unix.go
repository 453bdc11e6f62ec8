//go:build unix

package enginebench

import (
	"syscall"
	"time"
)

// processTime is the CPU time of this process so far.
func processTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0 // cannot fail for this process
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
