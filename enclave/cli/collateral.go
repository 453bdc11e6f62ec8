package cli

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Times of publishing collateral.
const (
	collateralEvery = 6 * time.Hour
	collateralRetry = 10 * time.Second
)

// collateralStore keeps collateral where every process of a network finds it. The documents are signed by who made the
// hardware: the network is trusted for nothing.
type collateralStore struct{ bucket *streams.Bucket }

var _ tdx.Store = collateralStore{}

// CollateralStore is the network's store of collateral.
func CollateralStore(bus *streams.Bus) tdx.Store {
	return collateralStore{bus.Bucket(streams.BucketCollateral)}
}

// Load implements [tdx.Store].
func (s collateralStore) Load(ctx context.Context, name string) (d tdx.Document, err error) {
	entry, err := s.bucket.Get(ctx, name)
	if err != nil {
		return d, err
	}
	return d, schemas.DecodeJSON(entry.Value, &d, 2*tdx.MaxDocument)
}

// Save implements [tdx.Store].
func (s collateralStore) Save(ctx context.Context, name string, d tdx.Document) error {
	value, err := json.Marshal(d)
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "collateral: %w", err)
	}
	_, err = s.bucket.Put(ctx, name, value)
	return err
}

// publishCollateral saves documents at once and again before they grow old, until ctx ends: producers reach the source of
// simulated hardware nowhere else.
func publishCollateral(ctx context.Context, store tdx.Store, documents func(context.Context) (tdx.Bundle, error), log *slog.Logger) error {
	for {
		wait := collateralEvery
		if err := saveAll(ctx, store, documents); err != nil && ctx.Err() == nil {
			log.Warn("collateral is not published", "error", err)
			wait = collateralRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// saveAll saves all documents.
func saveAll(ctx context.Context, store tdx.Store, documents func(context.Context) (tdx.Bundle, error)) error {
	all, err := documents(ctx)
	if err != nil {
		return err
	}
	for name, d := range all {
		if err := store.Save(ctx, name, d); err != nil {
			return err
		}
	}
	return nil
}
