package ton

import (
	"context"
	"crypto/ed25519"
	"errors"
	"time"

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
	key  ed25519.PrivateKey
	init *tlb.StateInit
}

// Limits of messages of a wallet v4.
const (
	maxWalletTransfers = 4
	walletMessageLife  = 3 * time.Minute
)

// Wallet is the wallet v4r2 of the given key. It need not exist on chain yet.
func (c *Chain) Wallet(key ed25519.PrivateKey) (*Wallet, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, schemas.FieldError("key", "is not an Ed25519 private key")
	}
	public := key.Public().(ed25519.PublicKey)
	init, err := wallet.GetStateInit(public, wallet.V4R2, wallet.DefaultSubwallet)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "ton: wallet: %w", err)
	}
	addr, err := wallet.AddressFromPubKey(public, wallet.V4R2, wallet.DefaultSubwallet)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "ton: wallet: %w", err)
	}
	account, err := c.Account(toOwner(addr))
	if err != nil {
		return nil, err
	}
	return &Wallet{Account: account, key: key, init: init}, nil
}

// Send signs up to four transfers with the wallet's current sequence number and hands them to a liteserver, deploying the
// wallet if need be. It does not wait: until they are in a block another Send has the same number, and only one of the
// two will count.
func (w *Wallet) Send(ctx context.Context, transfers ...Transfer) error {
	if n := len(transfers); n == 0 || n > maxWalletTransfers {
		return schemas.FieldError("transfers", "must be 1 to 4")
	}
	body := cell.BeginCell()
	for _, t := range transfers {
		if err := t.check("transfer", "", nil); err != nil {
			return err
		}
		m, err := t.message()
		if err != nil {
			return err
		}
		body.MustStoreUInt(payFeesSeparately|ignoreErrors, 8).MustStoreRef(m)
	}
	seqno, now, err := w.seqno(ctx)
	if err != nil {
		return err
	}
	const plainTransfer = 0
	payload := cell.BeginCell().MustStoreUInt(wallet.DefaultSubwallet, 32).MustStoreUInt(uint64(now.Add(walletMessageLife).Unix()), 32).
		MustStoreUInt(seqno, 32).MustStoreUInt(plainTransfer, 8).MustStoreBuilder(body).EndCell()
	ext := &tlb.ExternalMessage{
		DstAddr: w.addr,
		Body:    cell.BeginCell().MustStoreSlice(ed25519.Sign(w.key, payload.Hash()), 512).MustStoreBuilder(payload.ToBuilder()).EndCell(),
	}
	if seqno == 0 {
		ext.StateInit = w.init
	}
	c, err := tlb.ToCell(ext)
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "ton: wallet: %w", err)
	}
	return w.chain.Send(ctx, c.ToBOC())
}

// seqno asks the wallet for its next sequence number, 0 if it is not deployed. The answer is the liteserver's word: a
// wrong one makes the wallet refuse the message.
func (w *Wallet) seqno(ctx context.Context) (seqno uint64, now time.Time, err error) {
	err = w.chain.ask(ctx, func(ctx context.Context) error {
		b, err := w.chain.head(ctx)
		if err != nil {
			return err
		}
		now, seqno = b.Time, 0
		r, err := w.chain.api.RunGetMethod(ctx, b.id, w.addr, "seqno")
		var exit tonapi.ContractExecError
		if errors.As(err, &exit) && exit.Code == tonapi.ErrCodeContractNotInitialized {
			return nil
		}
		if err != nil {
			return classify(err)
		}
		n, err := r.Int(0)
		if err != nil {
			return classify(err)
		}
		seqno = n.Uint64()
		return nil
	})
	return seqno, now, err
}
