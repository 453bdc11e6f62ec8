package ton

import (
	"context"
	"crypto/ed25519"

	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
)

// Wallet is an ordinary wallet v4r2, such as a tenant's: it pays deposits in demonstrations and tests. It keeps no record
// of what it sent; use a Treasury for money that must be paid exactly once.
type Wallet struct {
	*Account
	key ed25519.PrivateKey
}

// maxWalletTransfers is what one message of a wallet v4 can carry.
const maxWalletTransfers = 4

// Wallet is the wallet v4r2 of the given key. It need not exist on chain yet.
func (c *Chain) Wallet(key ed25519.PrivateKey) (*Wallet, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, schemas.FieldError("key", "is not an Ed25519 private key")
	}
	addr, err := wallet.AddressFromPubKey(key.Public().(ed25519.PublicKey), wallet.V4R2, wallet.DefaultSubwallet)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "ton: wallet: %w", err)
	}
	account, err := c.Account(toOwner(addr))
	if err != nil {
		return nil, err
	}
	return &Wallet{Account: account, key: key}, nil
}

// Send signs up to four transfers with the wallet's current sequence number and hands them to a liteserver, deploying the
// wallet if need be. It does not wait: a second Send before the first is in a block replaces it.
func (w *Wallet) Send(ctx context.Context, transfers ...Transfer) error {
	if n := len(transfers); n == 0 || n > maxWalletTransfers {
		return schemas.FieldError("transfers", "must be 1 to 4")
	}
	messages := make([]*wallet.Message, 0, len(transfers))
	for _, t := range transfers {
		m, err := t.walletMessage()
		if err != nil {
			return err
		}
		messages = append(messages, m)
	}
	// A fresh client: the library keeps the newest block for a second, and a stale sequence number would be refused.
	api := tonapi.NewAPIClient(w.chain.lite, tonapi.ProofCheckPolicySecure)
	api.SetTrustedBlock(w.chain.Trusted())
	lib, err := wallet.FromPrivateKey(api, w.key, wallet.V4R2)
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "ton: wallet: %w", err)
	}
	ext, err := lib.BuildExternalMessageForMany(ctx, messages)
	if err != nil {
		return unavailable("wallet: %w", err)
	}
	c, err := tlb.ToCell(ext)
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "ton: wallet: %w", err)
	}
	return w.chain.Send(ctx, c.ToBOC())
}

// walletMessage is a transfer as the library's wallets take it.
func (t Transfer) walletMessage() (*wallet.Message, error) {
	if err := t.check("transfer", "", nil); err != nil {
		return nil, err
	}
	c, err := t.message()
	if err != nil {
		return nil, err
	}
	m := new(tlb.InternalMessage)
	if err = tlb.Parse(m, c); err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "ton: wallet: %w", err)
	}
	if m.Body == nil {
		m.Body = cell.BeginCell().EndCell()
	}
	return &wallet.Message{Mode: payFeesSeparately | ignoreErrors, InternalMessage: m}, nil
}
