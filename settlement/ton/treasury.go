package ton

import (
	"crypto/ed25519"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// TreasuryOptions are part of the wallet's address: changing them means another wallet.
type TreasuryOptions struct {
	// Subwallet tells wallets of one key apart, for instance one for payouts and one for deposits.
	Subwallet uint32
	// Timeout is how long a signed batch can be accepted; 0 means 1 h. At least 1 min, below 48 days, whole seconds.
	Timeout time.Duration
}

// Treasury is a highload wallet v3 whose key we hold.
type Treasury struct {
	*Account
}

// TreasuryAddress is the address of the wallet with the given public key.
func TreasuryAddress(key ed25519.PublicKey, opt TreasuryOptions) (schemas.Owner, error) {
	panic("skeleton")
}

// Sign builds the external message of a batch. The same batch always gives the same bytes.
func (t *Treasury) Sign(b Batch) (Signed, error) { panic("skeleton") }

// Cost is the balance that the wallet needs before it accepts the batch: what it pays, what it sends itself along, and
// the fees. Below it the wallet would use up the query id and pay nobody. Batches in flight at once add up.
func (b Batch) Cost() schemas.NanoTON { panic("skeleton") }

// CreatedAt is the right CreatedAt for a batch made now.
func CreatedAt(now BlockTime) time.Time { panic("skeleton") }

// Expired reports whether a batch that is not in the history as of at can never be accepted any more.
func (t *Treasury) Expired(createdAt time.Time, at BlockTime) bool { panic("skeleton") }
