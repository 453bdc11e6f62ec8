package ton

import (
	"crypto/ed25519"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
)

// TreasuryOptions are part of the wallet's address: changing them means another wallet.
type TreasuryOptions struct {
	// Subwallet tells wallets of one key apart, for instance one for payouts and one for deposits; 0 means
	// DefaultSubwallet.
	Subwallet uint32
	// Timeout is how long a signed batch can be accepted; 0 means 1 h. At least 1 min, below 48 days, whole seconds.
	Timeout time.Duration
}

// Defaults and limits of TreasuryOptions.
const (
	// DefaultSubwallet is the number that other software uses for highload wallets.
	DefaultSubwallet = 0x10ad
	defaultTimeout   = time.Hour
	minTimeout       = time.Minute
	timeoutBits      = 22
)

// withDefaults fills what is zero and refuses what the contract cannot hold.
func (o TreasuryOptions) withDefaults() (TreasuryOptions, error) {
	if o.Subwallet == 0 {
		o.Subwallet = DefaultSubwallet
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Timeout < minTimeout || o.Timeout >= 1<<timeoutBits*time.Second || o.Timeout%time.Second != 0 {
		return o, schemas.FieldError("timeout", "must lie between 1 minute and 48 days, in whole seconds")
	}
	return o, nil
}

// highload is the contract of one wallet: what its address is derived from.
type highload struct {
	TreasuryOptions
	init *tlb.StateInit
	addr *address.Address
}

// newHighload derives the wallet of a key.
func newHighload(key ed25519.PublicKey, opt TreasuryOptions) (*highload, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	if len(key) != ed25519.PublicKeySize {
		return nil, schemas.FieldError("key", "is not an Ed25519 public key")
	}
	spec := wallet.ConfigHighloadV3{MessageTTL: uint32(opt.Timeout / time.Second)}
	h := &highload{TreasuryOptions: opt}
	if h.init, err = wallet.GetStateInit(key, spec, opt.Subwallet); err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "ton: highload wallet: %w", err)
	}
	c, err := tlb.ToCell(h.init)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "ton: highload wallet: %w", err)
	}
	h.addr = address.NewAddress(0, 0, c.Hash())
	return h, nil
}

// Send modes of messages.
const (
	payFeesSeparately = 1
	ignoreErrors      = 2
)

// sendAction begins an action that sends a message, in a list of actions.
const sendAction = 0x0ec3c86d

// external builds and signs the external message of a batch that was checked.
func (h *highload) external(key ed25519.PrivateKey, b Batch) (*tlb.ExternalMessage, error) {
	message, err := h.message(b)
	if err != nil {
		return nil, err
	}
	payload := cell.BeginCell().
		MustStoreUInt(uint64(h.Subwallet), 32).
		MustStoreRef(message).
		MustStoreUInt(payFeesSeparately|ignoreErrors, 8).
		MustStoreUInt(uint64(b.QueryID), queryBits).
		MustStoreUInt(uint64(b.CreatedAt.Unix()), 64).
		MustStoreUInt(uint64(h.Timeout/time.Second), timeoutBits).
		EndCell()
	body := cell.BeginCell().MustStoreSlice(ed25519.Sign(key, payload.Hash()), 512).MustStoreRef(payload).EndCell()
	ext := &tlb.ExternalMessage{DstAddr: h.addr, Body: body}
	if b.Deploy {
		ext.StateInit = h.init
	}
	return ext, nil
}

// message is what the wallet sends when it accepts: a single transfer directly, anything else packed into a message to
// itself.
func (h *highload) message(b Batch) (*cell.Cell, error) {
	if len(b.Transfers) == 1 && b.Note == nil {
		return b.Transfers[0].message()
	}
	actions := cell.BeginCell().EndCell()
	add := func(msg *cell.Cell, mode uint64) {
		actions = cell.BeginCell().MustStoreRef(actions).MustStoreUInt(sendAction, 32).MustStoreUInt(mode, 8).MustStoreRef(msg).EndCell()
	}
	for _, t := range b.Transfers {
		msg, err := t.message()
		if err != nil {
			return nil, err
		}
		add(msg, payFeesSeparately|ignoreErrors)
	}
	if b.Note != nil {
		msg, err := note(b.Note)
		if err != nil {
			return nil, err
		}
		add(msg, payFeesSeparately|ignoreErrors)
	}
	body := cell.BeginCell().MustStoreUInt(opSelf, 32).MustStoreUInt(uint64(b.QueryID), 64).MustStoreRef(actions).EndCell()
	return tlb.ToCell(&tlb.InternalMessage{IHRDisabled: true, DstAddr: h.addr, Amount: coins(b.attached()), Body: body})
}

// message is one transfer as an internal message.
func (t Transfer) message() (*cell.Cell, error) {
	to, err := toAddress(t.To)
	if err != nil {
		return nil, err
	}
	body := cell.BeginCell()
	if t.Comment != "" {
		body.MustStoreUInt(opText, 32).MustStoreSlice([]byte(t.Comment), uint(len(t.Comment))*8)
	}
	return tlb.ToCell(&tlb.InternalMessage{IHRDisabled: true, Bounce: t.Bounce, DstAddr: to, Amount: coins(t.Amount), Body: body.EndCell()})
}

// note is the note as an external message that leaves the chain: it is sent to nobody and stays in the transaction.
func note(b []byte) (*cell.Cell, error) {
	body := cell.BeginCell().MustStoreUInt(opNote, 32).MustStoreSlice(b, uint(len(b))*8).EndCell()
	return tlb.ToCell(&tlb.ExternalMessageOut{SrcAddr: address.NewAddressNone(), DstAddr: address.NewAddressNone(), Body: body})
}

// coins is an amount in the library's type.
func coins(n schemas.NanoTON) tlb.Coins { return tlb.FromNanoTONU(uint64(n)) }
