//go:build !worker

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Board is where a network's signed documents of one kind hang: the newest one, and every version by its number.
type Board interface {
	// Current returns the signed document that hangs now and a mark of it, or KindNotFound.
	Current(ctx context.Context) (signed []byte, mark uint64, err error)
	// Post keeps a document under its version and makes it the current one if the mark is still that of the current
	// one (0: none hangs). It fails with KindConflict when somebody else was faster.
	Post(ctx context.Context, version uint64, signed []byte, mark uint64) error
}

// OpenBoard reaches the board of a kind of documents as the flags of a command say. close releases it.
type OpenBoard func(cmd *cobra.Command, mediaType string) (board Board, close func(), err error)

// Connect reaches the network as the flags and the environment of a command say.
type Connect func(*cobra.Command) (*streams.Bus, error)

// OverBus opens boards on the buckets of a network.
func OverBus(connect Connect) OpenBoard {
	return func(cmd *cobra.Command, mediaType string) (Board, func(), error) {
		name, ok := map[string]streams.BucketName{
			schemas.PolicyMediaType: streams.BucketPolicy, schemas.CatalogueMediaType: streams.BucketCatalogue,
		}[mediaType]
		if !ok {
			return nil, nil, schemas.Errorf(schemas.KindUnsupported, "no bucket holds %s", mediaType)
		}
		bus, err := connect(cmd)
		if err != nil {
			return nil, nil, err
		}
		return bucketBoard{bus.Bucket(name)}, func() { _ = bus.Close(context.WithoutCancel(cmd.Context())) }, nil
	}
}

// bucketBoard is a board on a key-value bucket.
type bucketBoard struct{ bucket *streams.Bucket }

// Current implements [Board].
func (b bucketBoard) Current(ctx context.Context) ([]byte, uint64, error) {
	e, err := b.bucket.Get(ctx, currentKey)
	return e.Value, e.Revision, err
}

// Post implements [Board].
//
// Commit point: the write of "current", which only succeeds on the revision that was read. The version is stored under
// its own name before; a crash in between leaves a version that nobody is sent to, and posting it again goes through.
func (b bucketBoard) Post(ctx context.Context, version uint64, signed []byte, mark uint64) error {
	if _, err := b.bucket.Put(ctx, fmt.Sprintf("v%d", version), signed); err != nil {
		return err
	}
	var err error
	if mark == 0 {
		_, err = b.bucket.Create(ctx, currentKey, signed)
	} else {
		_, err = b.bucket.Update(ctx, currentKey, signed, mark)
	}
	return err
}
