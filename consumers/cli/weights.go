package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	enclavecli "github.com/cocoon-network/cocoon/enclave/cli"
	"github.com/cocoon-network/cocoon/enclave/weights"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// fetch puts the verified weights of a model into dir, which is empty before, and again after a failure.
func (f *following) fetch(ctx context.Context, m *schemas.Model, dir string) error {
	if len(m.Locations) == 0 {
		return f.copyPlain(ctx, m, dir)
	}
	r, err := enclavecli.Sources(f.bus.Store(streams.StoreWeights)).Open(ctx, m.Locations)
	if err != nil {
		return err
	}
	defer r.Close()
	if !m.Sealed {
		return &schemas.Error{Kind: schemas.KindUnsupported, Field: "locations", Message: "only sealed weights are fetched; bring others with --weights"}
	}
	p, err := weights.Read(r)
	if err != nil {
		return err
	}
	if p.Model() != m.ID {
		return &schemas.Error{Kind: schemas.KindCorrupt, Field: "locations", Message: "hold the weights of another model"}
	}
	enc, wrapped := p.Wrapped()
	key, err := f.session.WeightKey(ctx, enclavecli.BrokerCall(f.bus), m.ID, enc, wrapped)
	if err != nil {
		return err
	}
	defer clear(key[:])
	_, err = p.Extract(ctx, key, dir)
	return err
}

// copyPlain copies weights that the worker's owner brings, while verifying them.
func (f *following) copyPlain(ctx context.Context, m *schemas.Model, dir string) error {
	if f.o.PlainDir == "" {
		return schemas.FieldError("weights", "the catalogue does not say where those of "+string(m.ID)+" lie: bring them with --weights")
	}
	plain := filepath.Join(f.o.PlainDir, m.Slug)
	if _, err := os.Stat(plain); errors.Is(err, os.ErrNotExist) {
		plain = f.o.PlainDir // one model: its folder itself
	}
	_, err := weights.Copy(ctx, os.DirFS(plain), m.ID, dir)
	return err
}
