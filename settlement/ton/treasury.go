package ton

import (
	"context"
	"crypto/ed25519"
	"time"

	"github.com/xssnick/tonutils-go/tlb"

	"github.com/cocoon-network/cocoon/schemas"
)

// Treasury is a highload wallet v3 whose key we hold. It is safe for concurrent use; one process should sign for one
// wallet, so that query ids are used once.
type Treasury struct {
	*Account
	key    ed25519.PrivateKey
	wallet *highload
}

// TreasuryAddress is the address of the highload wallet v3 with the given public key.
func TreasuryAddress(key ed25519.PublicKey, opt TreasuryOptions) (schemas.Owner, error) {
	h, err := newHighload(key, opt)
	if err != nil {
		return "", err
	}
	return toOwner(h.addr), nil
}

// Treasury is the highload wallet v3 of the given key. It need not exist on chain yet.
func (c *Chain) Treasury(key ed25519.PrivateKey, opt TreasuryOptions) (*Treasury, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, schemas.FieldError("key", "is not an Ed25519 private key")
	}
	h, err := newHighload(key.Public().(ed25519.PublicKey), opt)
	if err != nil {
		return nil, err
	}
	account, err := c.Account(toOwner(h.addr))
	if err != nil {
		return nil, err
	}
	return &Treasury{Account: account, key: key, wallet: h}, nil
}

// Timeout is how long a signed batch can be accepted.
func (t *Treasury) Timeout() time.Duration { return t.wallet.Timeout }

// Sign builds the external message of a batch. The same batch always gives the same bytes. It fails with KindInvalid or
// KindTooLarge, naming the field, when the batch breaks a rule of Batch.
func (t *Treasury) Sign(b Batch) (Signed, error) {
	if err := b.check(t.Address()); err != nil {
		return Signed{}, err
	}
	ext, err := t.wallet.external(t.key, b)
	if err != nil {
		return Signed{}, schemas.Errorf(schemas.KindInternal, "ton: batch %s: %w", b.QueryID, err)
	}
	c, err := tlb.ToCell(ext)
	if err != nil {
		return Signed{}, schemas.Errorf(schemas.KindInternal, "ton: batch %s: %w", b.QueryID, err)
	}
	return Signed{BoC: c.ToBOC(), Body: Hash(ext.Body.HashKey())}, nil
}

// Send hands a signed batch to a liteserver; see Chain.Send.
func (t *Treasury) Send(ctx context.Context, boc []byte) error { return t.chain.Send(ctx, boc) }

// Times around a batch.
const (
	// createdBefore is how long before the newest block a batch is dated: a shard's clock may be that much behind, and
	// the wallet refuses batches from the future.
	createdBefore = 30 * time.Second
	// expiryGrace is how long after a batch's end of life the chain's clock must have gone on before the batch counts as
	// dead: a shard's block may be that much older than the masterchain block that will register it.
	expiryGrace = time.Minute
)

// CreatedAt is the right CreatedAt for a batch made now.
func CreatedAt(now BlockTime) time.Time { return now.Time.Add(-createdBefore) }

// Expires is the end of a batch's life in chain time: from then on the wallet refuses it.
func (t *Treasury) Expires(createdAt time.Time) time.Time { return createdAt.Add(t.wallet.Timeout) }

// Expired reports whether a batch that is not in the wallet's history as of at can never be accepted any more. Only a
// complete Page as of at says that it is not.
func (t *Treasury) Expired(createdAt time.Time, at BlockTime) bool {
	return at.Time.After(t.Expires(createdAt).Add(expiryGrace))
}
