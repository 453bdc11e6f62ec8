package streams

import (
	"context"
	"io"

	"github.com/cocoon-network/cocoon/schemas"
)

// StoreName names an object store of the topology.
type StoreName string

// The stores.
const (
	// StoreBodies holds envelopes and results above schemas.MaxInlineBody, named by their hash, for 8 days.
	StoreBodies StoreName = "BODIES"
	// StoreWeights holds sealed weights, without an end.
	StoreWeights StoreName = "WEIGHTS"
)

// Object describes a stored object.
type Object struct {
	Name string       `json:"name"`
	Size int64        `json:"size"`
	Hash schemas.Hash `json:"hash"`
}

// Store keeps large objects as numbered parts in a stream, read back by direct gets: without consumers, so that tenants
// and workers need no right to create any. The hash of the whole is checked on the way out.
type Store struct{}

// Store opens an object store of the topology.
func (b *Bus) Store(name StoreName) *Store { panic("unfinished") }

// Put stores an object under a name (one subject token) and returns its size and hash. The object is there when Put has
// returned; readers of an older one under the same name may fail with KindCorrupt meanwhile.
func (s *Store) Put(ctx context.Context, name string, r io.Reader) (Object, error) {
	panic("unfinished")
}

// Open reads an object, or returns KindNotFound. The last Read returns KindCorrupt instead of io.EOF when the bytes do not
// match the hash; use nothing before that.
func (s *Store) Open(ctx context.Context, name string) (io.ReadCloser, Object, error) {
	panic("unfinished")
}

// Stat describes an object, or returns KindNotFound.
func (s *Store) Stat(ctx context.Context, name string) (Object, error) { panic("unfinished") }

// List describes all objects, sorted by name.
func (s *Store) List(ctx context.Context) ([]Object, error) { panic("unfinished") }

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, name string) error { panic("unfinished") }
