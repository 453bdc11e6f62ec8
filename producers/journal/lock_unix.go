//go:build unix

package journal

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock keeps other processes out for as long as the file is open.
func lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
