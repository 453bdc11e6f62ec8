package guest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Files is what is needed of the kernel's virtual file systems. Paths begin with "/".
type Files interface {
	// MkdirTemp makes an entry of its own in a folder and returns its path.
	MkdirTemp(dir, pattern string) (string, error)
	// List names the entries of a folder.
	List(dir string) ([]string, error)
	// Read reads a whole file.
	Read(path string) ([]byte, error)
	// Write writes to an existing file in one call, without truncating it.
	Write(path string, b []byte) error
	// Remove removes an entry that MkdirTemp made.
	Remove(path string) error
}

// maxFile bounds what is read of any one file.
const maxFile = 64 << 10

// rooted is the file system below a folder.
type rooted struct{ root string }

// MkdirTemp implements [Files].
func (r rooted) MkdirTemp(dir, pattern string) (string, error) {
	made, err := os.MkdirTemp(filepath.Join(r.root, dir), pattern)
	return filepath.Join(dir, filepath.Base(made)), err
}

// List implements [Files].
func (r rooted) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.root, dir))
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

// Read implements [Files]. Kernel files state no size, so the limit is enforced while reading.
func (r rooted) Read(path string) ([]byte, error) {
	f, err := os.Open(filepath.Join(r.root, path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f)
}

// Write implements [Files].
func (r rooted) Write(path string, b []byte) error {
	f, err := os.OpenFile(filepath.Join(r.root, path), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// Remove implements [Files]. The kernel removes an entry's files with its folder.
func (r rooted) Remove(path string) error { return os.Remove(filepath.Join(r.root, path)) }

// exists reports whether a folder or file is there.
func exists(files Files, path string) bool {
	if _, err := files.List(path); err == nil {
		return true
	}
	_, err := files.Read(path)
	return err == nil || !errors.Is(err, fs.ErrNotExist)
}
