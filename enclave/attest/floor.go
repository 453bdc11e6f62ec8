package attest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
)

// OpenFloor keeps the highest policy version that a process has accepted in a file, for KeeperOptions: a policy that was
// replaced cannot be replayed to it after a restart. It is worth as much as the disk: who can restore an old file has the old
// floor. Several processes may share the file. KindCorrupt: it is there and cannot be read.
func OpenFloor(path string) (floor uint64, remember func(version uint64) error, err error) {
	floor, err = readFloor(path)
	return floor, func(version uint64) error {
		have, err := readFloor(path)
		if err != nil || have >= version {
			return err
		}
		return writeFloor(path, version)
	}, err
}

// readFloor reads the file; 0 when there is none.
func readFloor(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, schemas.Errorf(schemas.KindUnavailable, "policy floor: %w", err)
	}
	floor, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, &schemas.Error{Kind: schemas.KindCorrupt, Field: "policy floor", Message: path + " must hold one number: the highest policy version that was seen"}
	}
	return floor, nil
}

// writeFloor replaces the file. Commit point: the renaming; before it the old floor holds.
func writeFloor(path string, version uint64) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return schemas.Errorf(schemas.KindUnavailable, "policy floor: %w", err)
	}
	defer os.Remove(f.Name()) // does nothing once it has its name
	_, err = f.WriteString(strconv.FormatUint(version, 10) + "\n")
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return schemas.Errorf(schemas.KindUnavailable, "policy floor: %w", err)
	}
	return nil
}
