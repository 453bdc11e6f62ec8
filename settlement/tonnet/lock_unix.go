//go:build unix

package tonnet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cocoon-network/cocoon/schemas"
)

// lockDir keeps a second process from opening dir. The lock goes when the file is closed or the process ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("tonnet: %w", err)
	}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, schemas.Errorf(schemas.KindConflict, "tonnet: %s is open in another process", dir)
	}
	return nil, fmt.Errorf("tonnet: lock: %w", err)
}

// unlockDir lets go of a directory. The lock is given up by name and not only by closing the file: a process that is just
// being started holds copies of all files for a moment.
func unlockDir(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}
