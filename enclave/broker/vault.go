package broker

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/cocoon-network/cocoon/schemas"
)

// Sealer protects the group's state at rest. Hardware sealing fits behind it once TDX offers it to Linux guests; until
// then production brokers hold their state in memory only and get it from each other, and [FileSealer] is for simulated
// networks.
type Sealer interface {
	Seal(state []byte) (sealed []byte, err error)
	// Unseal fails with KindCorrupt.
	Unseal(sealed []byte) (state []byte, err error)
	// Development reports that it protects nothing from who can read the disk; only simulated networks may use it.
	Development() bool
}

// Store keeps the sealed state.
type Store interface {
	// Load returns what was saved last, KindNotFound when nothing was.
	Load(ctx context.Context) ([]byte, error)
	// Save replaces it: when it returns nil the new state is durable and the old one gone; when it fails either stands,
	// whole.
	Save(ctx context.Context, sealed []byte) error
}

// fileSealerLabel is bound into what a FileSealer seals.
const fileSealerLabel = "cocoon/file-sealer/v1"

// FileSealer seals under a key that lies in a file beside the state. Who can read the disk can read the state: it is for
// development, and its name says so in every log.
type FileSealer struct{ aead cipher.AEAD }

var _ Sealer = (*FileSealer)(nil)

// NewFileSealer reads the key file, making it when there is none.
func NewFileSealer(path string) (*FileSealer, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, 32)
		rand.Read(key)
		err = replaceFile(path, key)
	}
	if err != nil {
		return nil, schemas.Errorf(schemas.KindUnavailable, "sealing key: %w", err)
	}
	if len(key) != 32 {
		return nil, &schemas.Error{Kind: schemas.KindCorrupt, Field: path, Message: "must have 32 bytes"}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "sealing key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "sealing key: %w", err)
	}
	return &FileSealer{aead}, nil
}

// Development implements [Sealer].
func (s *FileSealer) Development() bool { return true }

// Seal implements [Sealer].
func (s *FileSealer) Seal(state []byte) ([]byte, error) {
	return s.aead.Seal(nil, nil, state, []byte(fileSealerLabel)), nil
}

// Unseal implements [Sealer].
func (s *FileSealer) Unseal(sealed []byte) ([]byte, error) {
	state, err := s.aead.Open(nil, nil, sealed, []byte(fileSealerLabel))
	if err != nil {
		return nil, &schemas.Error{Kind: schemas.KindCorrupt, Field: "state", Message: "was not sealed by this key, or is damaged"}
	}
	return state, nil
}

// FileStore keeps the state in one file.
type FileStore struct {
	path string
	mu   sync.Mutex // one writer at a time
}

var _ Store = (*FileStore)(nil)

// NewFileStore names the file; its folder must exist.
func NewFileStore(path string) *FileStore { return &FileStore{path: path} }

// Load implements [Store].
func (s *FileStore) Load(context.Context) ([]byte, error) {
	b, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &schemas.Error{Kind: schemas.KindNotFound, Field: "state", Message: "has not been saved yet"}
	}
	if err != nil {
		return nil, schemas.Errorf(schemas.KindUnavailable, "broker state: %w", err)
	}
	return b, nil
}

// Save implements [Store].
func (s *FileStore) Save(_ context.Context, sealed []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := replaceFile(s.path, sealed); err != nil {
		return schemas.Errorf(schemas.KindUnavailable, "broker state: %w", err)
	}
	return nil
}

// replaceFile replaces a file's content. Commit point: the rename; before it the old file stands, after it and the sync of
// the folder the new one survives a power failure.
func replaceFile(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
