//go:build !unix

package tonnet

import (
	"fmt"
	"os"
	"path/filepath"
)

// lockDir opens the lock file. Systems without flock do not keep a second process out.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("tonnet: %w", err)
	}
	return f, nil
}

// unlockDir closes the lock file.
func unlockDir(f *os.File) error { return f.Close() }
