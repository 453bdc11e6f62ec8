package settlement

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"sync"

	"github.com/cocoon-network/cocoon/schemas"
)

// AddCatalogue keeps a verified catalogue for pricing. The same one again does nothing; another one under a known
// version is KindConflict.
func (l *Ledger) AddCatalogue(ctx context.Context, c *schemas.Catalogue) error {
	if err := c.Check(); err != nil {
		return err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "catalogue: %w", err)
	}
	return l.write(ctx, func(t *tx) error {
		var have []byte
		found, err := t.one([]any{&have}, "SELECT body FROM catalogues WHERE version = ?", int64(c.Version))
		switch {
		case err != nil:
			return err
		case found && !bytes.Equal(have, body):
			return schemas.Errorf(schemas.KindConflict, "catalogue version %d is known with other contents", c.Version)
		case found:
			return nil
		}
		_, err = t.exec("INSERT INTO catalogues (version, body, added) VALUES (?, ?, ?)", int64(c.Version), body, t.now)
		return err
	})
}

// Catalogue finds a price book by version; KindNotFound when it was never added.
func (l *Ledger) Catalogue(ctx context.Context, version uint64) (*schemas.Catalogue, error) {
	var body []byte
	err := l.read(ctx, func(t *tx) error {
		found, err := t.one([]any{&body}, "SELECT body FROM catalogues WHERE version = ?", int64(version))
		if err == nil && !found {
			err = schemas.Errorf(schemas.KindNotFound, "catalogue version %d is not in the ledger", version)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return schemas.ParseCatalogue(body)
}

// NewestCatalogue is the price book with the highest version; KindNotFound when there is none.
func (l *Ledger) NewestCatalogue(ctx context.Context) (*schemas.Catalogue, error) {
	var version uint64
	err := l.read(ctx, func(t *tx) error {
		_, err := t.one([]any{&version}, "SELECT COALESCE(MAX(version), 0) FROM catalogues")
		return err
	})
	if err != nil {
		return nil, err
	}
	return l.Catalogue(ctx, version)
}

// AddBrokerKey keeps the signing key of a broker whose evidence was verified. Keys are kept for ever: receipts may be
// booked long after the broker is gone.
func (l *Ledger) AddBrokerKey(ctx context.Context, key ed25519.PublicKey) error {
	if len(key) != ed25519.PublicKeySize {
		return schemas.FieldError("key", "must be an Ed25519 public key of 32 bytes")
	}
	return l.write(ctx, func(t *tx) error {
		_, err := t.exec("INSERT INTO broker_keys (id, key, added) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING",
			string(schemas.KeyIDOf(key)), []byte(key), t.now)
		return err
	})
}

// BrokerKey finds a broker's key by its id; KindNotFound when it was never added.
func (l *Ledger) BrokerKey(ctx context.Context, id schemas.KeyID) (ed25519.PublicKey, error) {
	var key []byte
	err := l.read(ctx, func(t *tx) error {
		found, err := t.one([]any{&key}, "SELECT key FROM broker_keys WHERE id = ?", string(id))
		if err == nil && !found {
			err = schemas.Errorf(schemas.KindNotFound, "no verified broker has the key %s", id)
		}
		return err
	})
	return key, err
}

// priceBook is a catalogue prepared for pricing.
type priceBook struct {
	catalogue *schemas.Catalogue
	prices    map[schemas.ModelID]schemas.Price
}

// priceBooks caches catalogues by version; what a version says never changes.
type priceBooks struct {
	// mu guards m.
	mu sync.Mutex
	m  map[uint64]*priceBook
}

// maxPriceBooks bounds the cache: receipts name the newest versions.
const maxPriceBooks = 8

// get finds a version, through source when it is not cached.
func (b *priceBooks) get(ctx context.Context, source Catalogues, version uint64) (*priceBook, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.m[version]; p != nil {
		return p, nil
	}
	c, err := source.Catalogue(ctx, version)
	if err != nil {
		return nil, err
	}
	p := &priceBook{catalogue: c, prices: make(map[schemas.ModelID]schemas.Price, len(c.Models))}
	for i := range c.Models {
		p.prices[c.Models[i].ID] = c.Models[i].Price
	}
	if b.m == nil || len(b.m) >= maxPriceBooks {
		b.m = map[uint64]*priceBook{}
	}
	b.m[version] = p
	return p, nil
}
