package weights

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of one model's weights.
const (
	// MaxFiles bounds the files, MaxPath the length of a path in bytes, MaxBytes all files together.
	MaxFiles = 4096
	MaxPath  = 512
	MaxBytes = 4 << 40
)

// File is one file of a model.
type File struct {
	_ struct{} `cbor:",toarray"`
	// Path is slash-separated, relative and clean.
	Path string
	// Size is in bytes.
	Size uint64
	// Hash is the SHA-256 of the content.
	Hash schemas.Hash
}

// RootOf is the root of a list of files, which must be sorted by path.
func RootOf(files []File) schemas.Hash {
	fields := make([][]byte, 0, 3*len(files))
	for i := range files {
		f := &files[i]
		fields = append(fields, []byte(f.Path), binary.BigEndian.AppendUint64(nil, f.Size), f.Hash[:])
	}
	return schemas.HashFields("cocoon/weights-root/v1", fields...)
}

// Root hashes every file of a folder and returns the list and its root. Only regular files are allowed.
func Root(ctx context.Context, fsys fs.FS) ([]File, schemas.Hash, error) {
	var files []File
	err := fs.WalkDir(fsys, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if !entry.Type().IsRegular() {
			return schemas.FieldError(path, "is not a regular file")
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := hashFile(fsys, path)
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		return nil, schemas.Hash{}, readFailure(err)
	}
	sort.Slice(files, func(i, j int) bool { return files[i].Path < files[j].Path })
	if err := checkFiles(files); err != nil {
		return nil, schemas.Hash{}, err
	}
	return files, RootOf(files), nil
}

// readFailure gives an error of the file system a kind.
func readFailure(err error) error {
	if schemas.KindOf(err) != schemas.KindUnknown {
		return err
	}
	return schemas.Errorf(schemas.KindUnavailable, "weights: %w", err)
}

// hashFile hashes one file.
func hashFile(fsys fs.FS, path string) (File, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return File{Path: path, Size: uint64(n), Hash: schemas.Hash(h.Sum(nil))}, err
}

// checkFiles refuses lists that no model has: unsorted, too many, too large, with paths that leave the folder or name a
// file as a folder.
func checkFiles(files []File) error {
	if len(files) == 0 || len(files) > MaxFiles {
		return schemas.FieldError("files", "must be 1 to 4,096")
	}
	var total uint64
	names := make(map[string]bool, len(files))
	for i := range files {
		f := &files[i]
		if !fs.ValidPath(f.Path) || f.Path == "." || len(f.Path) > MaxPath || filepath.ToSlash(filepath.FromSlash(f.Path)) != f.Path || !filepath.IsLocal(filepath.FromSlash(f.Path)) {
			return schemas.FieldError("files", "has a path that is not relative, clean and at most 512 bytes")
		}
		if i > 0 && files[i-1].Path >= f.Path {
			return schemas.FieldError("files", "must be sorted by path without duplicates")
		}
		if f.Size > MaxBytes || total+f.Size > MaxBytes {
			return &schemas.Error{Kind: schemas.KindTooLarge, Field: "files", Message: "have more than 4 TiB"}
		}
		total += f.Size
		names[f.Path] = true
	}
	for i := range files {
		for dir := filepath.ToSlash(filepath.Dir(files[i].Path)); dir != "."; dir = filepath.ToSlash(filepath.Dir(dir)) {
			if names[dir] {
				return schemas.FieldError("files", "has a path that is both a file and a folder")
			}
		}
	}
	return nil
}

// Copy copies plain weights into an empty private folder while hashing them, and refuses them when they are not those that
// the model's id names. What is read once is what is verified and used: the source is never read again.
func Copy(ctx context.Context, fsys fs.FS, model schemas.ModelID, dir string) ([]File, error) {
	w, err := newWriter(model, dir)
	if err != nil {
		return nil, err
	}
	files, _, err := Root(ctx, metadata{fsys})
	if err != nil {
		return nil, w.abort(err)
	}
	for i := range files {
		if err := w.copy(ctx, fsys, &files[i]); err != nil {
			return nil, w.abort(err)
		}
	}
	if err := w.finish(files); err != nil {
		return nil, w.abort(err)
	}
	return files, nil
}

// metadata lists a file system's files without content: Copy hashes while it copies, and needs only the names before.
type metadata struct{ fs.FS }

// Open gives folders as they are and files empty.
func (m metadata) Open(name string) (fs.File, error) {
	f, err := m.FS.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return f, err
	}
	return emptyFile{f}, nil
}

// emptyFile reads as nothing.
type emptyFile struct{ fs.File }

// Read is at the end.
func (emptyFile) Read([]byte) (int, error) { return 0, io.EOF }

// writer writes files into a private folder and remembers what it made.
type writer struct {
	root schemas.Hash
	dir  string
}

// newWriter demands an empty folder: nothing that lies there already may be mistaken for weights.
func newWriter(model schemas.ModelID, dir string) (*writer, error) {
	ref, err := schemas.ParseModelID(string(model))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, readFailure(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, readFailure(err)
	}
	if len(entries) > 0 {
		return nil, &schemas.Error{Kind: schemas.KindConflict, Field: dir, Message: "is not empty"}
	}
	return &writer{root: ref.Root, dir: dir}, nil
}

// create makes one file.
func (w *writer) create(path string) (*os.File, error) {
	full := filepath.Join(w.dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(full, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// put writes one file from r and sets its size and hash in f.
func (w *writer) put(ctx context.Context, f *File, r io.Reader) (err error) {
	out, err := w.create(f.Path)
	if err != nil {
		return readFailure(err)
	}
	defer func() {
		if closeErr := out.Close(); err == nil && closeErr != nil {
			err = readFailure(closeErr)
		}
	}()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), contextReader{ctx, r})
	if err != nil {
		return readFailure(err)
	}
	f.Size, f.Hash = uint64(n), schemas.Hash(h.Sum(nil))
	return nil
}

// copy writes one file from a file system.
func (w *writer) copy(ctx context.Context, fsys fs.FS, f *File) error {
	in, err := fsys.Open(f.Path)
	if err != nil {
		return readFailure(err)
	}
	defer in.Close()
	return w.put(ctx, f, in)
}

// finish compares what was written with the root.
func (w *writer) finish(files []File) error {
	if err := checkFiles(files); err != nil {
		return err
	}
	if RootOf(files) != w.root {
		return &schemas.Error{Kind: schemas.KindCorrupt, Field: "root", Message: "the files are not those that the model's id names"}
	}
	return nil
}

// abort removes everything that was written; the folder was empty before.
func (w *writer) abort(cause error) error {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return cause
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(w.dir, e.Name())); err != nil {
			return schemas.Errorf(schemas.KindOf(cause), "%w (and what was written could not be removed: %s)", cause, err.Error())
		}
	}
	return cause
}

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
