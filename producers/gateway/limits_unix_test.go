//go:build unix

package gateway_test

import (
	"syscall"
	"testing"
)

// descriptors is how many files the process may have open, raised towards want as far as the system allows.
func descriptors(t *testing.T, want int) int {
	t.Helper()
	var have syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &have); err != nil {
		t.Fatal(err)
	}
	for _, most := range []uint64{max(have.Max, uint64(want)), have.Max} { // only the superuser may raise Max
		raised := syscall.Rlimit{Cur: most, Max: most}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			return int(min(most, 1<<30))
		}
	}
	return int(min(have.Cur, 1<<30))
}
