package ton

import (
	"crypto/ed25519"
	"errors"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
)

// Voucher is a claim that a worker can cash without the payer's help, in the form of the worker contract of Cocoon's
// original network: the proxy's key signs how many tokens the worker's contract is owed for in all, since its
// beginning. Vouchers are cumulative, so only the latest matters, and losing or sending one twice does no harm.
//
// The package signs and checks vouchers; sending one to a contract is up to whoever holds it.
type Voucher struct {
	// Worker is the address of the worker's contract, which no other contract will take the voucher for.
	Worker schemas.Owner
	// Tokens is the number of tokens owed for in all. The contract pays for what is above its own count.
	Tokens uint64
	// QueryID is any number; the contract repeats it in its messages.
	QueryID uint64
	// Last closes the contract when it is cashed.
	Last bool
}

// Operations of the worker contract.
const (
	opPayout     = 0xa040ad28
	opLastPayout = 0xf5f26a36
)

// op is the operation that the voucher asks for.
func (v Voucher) op() uint64 {
	if v.Last {
		return opLastPayout
	}
	return opPayout
}

// payload is the cell that is signed: op 32, query id 64, tokens 64, address of the worker's contract.
func (v Voucher) payload() (*cell.Cell, error) {
	worker, err := toAddress(v.Worker)
	if err != nil {
		return nil, err
	}
	return cell.BeginCell().MustStoreUInt(v.op(), 32).MustStoreUInt(v.QueryID, 64).MustStoreUInt(v.Tokens, 64).MustStoreAddr(worker).EndCell(), nil
}

// SignedVoucher is a voucher with its signature.
type SignedVoucher struct {
	Voucher
	// Signature is the Ed25519 signature over the hash of the payload.
	Signature [ed25519.SignatureSize]byte
}

// SignVoucher signs a voucher with the key that the worker's contract knows.
func SignVoucher(key ed25519.PrivateKey, v Voucher) (SignedVoucher, error) {
	if len(key) != ed25519.PrivateKeySize {
		return SignedVoucher{}, schemas.FieldError("key", "is not an Ed25519 private key")
	}
	c, err := v.payload()
	if err != nil {
		return SignedVoucher{}, err
	}
	return SignedVoucher{Voucher: v, Signature: [ed25519.SignatureSize]byte(ed25519.Sign(key, c.Hash()))}, nil
}

// ErrVoucher says that a voucher's signature is not by the key.
var ErrVoucher = errors.New("ton: voucher is not signed by the key")

// Verify checks the signature. It fails with ErrVoucher.
func (v SignedVoucher) Verify(key ed25519.PublicKey) error {
	c, err := v.payload()
	if err != nil {
		return err
	}
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, c.Hash(), v.Signature[:]) {
		return schemas.Errorf(schemas.KindDenied, "%w", ErrVoucher)
	}
	return nil
}

// Body is the message body that cashes the voucher when it is sent to the worker's contract with more than 0.1 TON, as a
// bag of cells: op 32, query id 64, address for what is left over, signature 512, and a reference to the payload.
func (v SignedVoucher) Body(excessTo schemas.Owner) ([]byte, error) {
	back, err := toAddress(excessTo)
	if err != nil {
		return nil, err
	}
	payload, err := v.payload()
	if err != nil {
		return nil, err
	}
	return cell.BeginCell().MustStoreUInt(v.op(), 32).MustStoreUInt(v.QueryID, 64).MustStoreAddr(back).
		MustStoreSlice(v.Signature[:], 512).MustStoreRef(payload).EndCell().ToBOC(), nil
}

// ParseVoucher is the inverse of Body; it does not check the signature. It refuses bodies of another form.
func ParseVoucher(boc []byte) (v SignedVoucher, excessTo schemas.Owner, err error) {
	bad := schemas.FieldError("voucher", "is not a worker contract's payout message")
	root, err := cell.FromBOC(boc)
	if err != nil {
		return SignedVoucher{}, "", bad
	}
	var m voucherMessage
	if err = tlb.Parse(&m, root); err != nil || len(m.Signature) != ed25519.SignatureSize {
		return SignedVoucher{}, "", bad
	}
	v.Worker, v.Tokens, v.QueryID, v.Last = toOwner(m.Payload.Worker), m.Payload.Tokens, m.Payload.QueryID, m.Payload.Op == opLastPayout
	v.Signature = [ed25519.SignatureSize]byte(m.Signature)
	excessTo = toOwner(m.ExcessTo)
	// Any second spelling would give the same voucher other bytes.
	again, err := v.Body(excessTo)
	if err != nil || m.Op != v.op() || m.Payload.Op != v.op() {
		return SignedVoucher{}, "", bad
	}
	if c, err := cell.FromBOC(again); err != nil || c.HashKey() != root.HashKey() {
		return SignedVoucher{}, "", bad
	}
	return v, excessTo, nil
}

// voucherMessage is the layout of the message that cashes a voucher.
type voucherMessage struct {
	Op        uint64           `tlb:"## 32"`
	QueryID   uint64           `tlb:"## 64"`
	ExcessTo  *address.Address `tlb:"addr"`
	Signature []byte           `tlb:"bits 512"`
	Payload   struct {
		Op      uint64           `tlb:"## 32"`
		QueryID uint64           `tlb:"## 64"`
		Tokens  uint64           `tlb:"## 64"`
		Worker  *address.Address `tlb:"addr"`
	} `tlb:"^"`
}
