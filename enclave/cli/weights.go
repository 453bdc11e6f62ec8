package cli

import (
	"context"
	"io"
	"strings"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/enclave/weights"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// WeightsKey fetches the brokers' weights key and verifies the evidence of the broker that vouches for it.
func WeightsKey(ctx context.Context, bus *streams.Bus, verifier enclave.Verifier) (schemas.WeightsKey, error) {
	entry, err := bus.Bucket(streams.BucketKeys).Get(ctx, broker.WeightsKeyName)
	if err != nil {
		return schemas.WeightsKey{}, err
	}
	return enclave.VerifyWeightsKey(ctx, verifier, entry.Value)
}

// objectScheme is the scheme of locations in the network's own object store: "object:<name>".
const objectScheme = "object"

// Sources are those of package weights and the network's object store.
func Sources(store *streams.Store) weights.Sources {
	all := weights.DefaultSources()
	all[objectScheme] = objectSource{store}
	return all
}

// objectSource reads packages from the network's object store.
type objectSource struct{ store *streams.Store }

var _ weights.Source = objectSource{}

// Open implements weights.Source.
func (s objectSource) Open(ctx context.Context, location string) (io.ReadCloser, error) {
	name, _ := strings.CutPrefix(location, objectScheme+":")
	if !schemas.ValidToken(name) {
		return nil, schemas.FieldError("locations", "object: must be followed by one token of a-z, 0-9, _ and -")
	}
	r, _, err := s.store.Open(ctx, name)
	return r, err
}
