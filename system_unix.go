//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// freeDisk is the number of bytes that an ordinary user may still write below a folder.
func freeDisk(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}

// lockFile takes the file for this process or fails at once. The lock ends with the process, however it ends.
func lockFile(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
