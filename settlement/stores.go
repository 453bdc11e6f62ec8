package settlement

import (
	"context"
	"crypto/ed25519"

	"github.com/cocoon-network/cocoon/schemas"
)

// AddCatalogue keeps a verified catalogue for pricing. The same one again does nothing; another one under a known
// version is KindConflict.
func (l *Ledger) AddCatalogue(ctx context.Context, c *schemas.Catalogue) error { panic("skeleton") }

// Catalogue finds a price book by version; KindNotFound when it was never added.
func (l *Ledger) Catalogue(ctx context.Context, version uint64) (*schemas.Catalogue, error) {
	panic("skeleton")
}

// AddBrokerKey keeps the signing key of a broker whose evidence was verified. Keys are kept for ever: receipts may be
// booked long after the broker is gone.
func (l *Ledger) AddBrokerKey(ctx context.Context, key ed25519.PublicKey) error { panic("skeleton") }

// BrokerKey finds a broker's key by its id; KindNotFound when it was never added.
func (l *Ledger) BrokerKey(ctx context.Context, id schemas.KeyID) (ed25519.PublicKey, error) {
	panic("skeleton")
}
