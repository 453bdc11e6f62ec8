//go:build !worker

package cli

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"sync/atomic"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams/reference"
)

var _ reference.Steps = (*bareCrypto)(nil)

// bareCrypto makes the cryptographic calls of one job of the pipeline, step by step: as many HPKE, AES-GCM and Ed25519 calls,
// over as many bytes, and no codec, no hash, no key derivation, no broker. It makes the raw reference program the floor.
type bareCrypto struct {
	kem                          hpke.KEM
	epoch, reply                 hpke.PrivateKey
	enc                          []byte
	sign                         ed25519.PrivateKey
	public                       ed25519.PublicKey
	statement, signature         []byte
	key                          [32]byte
	payload, wrap, chunk, result []byte
	sealedPayload, sealedWrap    []byte
	sealedResult                 []byte
	seals, answers, opened       atomic.Uint64
}

// Sizes that the pipeline adds to what is sealed: a wrapped key with its spend authorisation, and a statement to sign.
const (
	bareWrap      = 200
	bareStatement = 900
)

// newBareCrypto prepares keys and one ciphertext of each kind.
func newBareCrypto(payload, chunk, result int) (*bareCrypto, error) {
	c := &bareCrypto{
		kem: hpke.MLKEM768X25519(), payload: make([]byte, payload), wrap: make([]byte, bareWrap), chunk: make([]byte, chunk),
		result: make([]byte, result), statement: make([]byte, bareStatement),
	}
	var err error
	if c.epoch, err = c.kem.GenerateKey(); err != nil {
		return nil, err
	}
	if c.reply, err = c.kem.GenerateKey(); err != nil {
		return nil, err
	}
	if c.public, c.sign, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	if c.enc, err = c.encapsulate(c.epoch.PublicKey()); err != nil {
		return nil, err
	}
	c.signature = ed25519.Sign(c.sign, c.statement)
	c.sealedPayload, c.sealedWrap, c.sealedResult = c.sealed(c.payload), c.sealed(c.wrap), c.sealed(c.result)
	return c, nil
}

// encapsulate makes a secret for a key.
func (c *bareCrypto) encapsulate(to hpke.PublicKey) ([]byte, error) {
	enc, sender, err := hpke.NewSender(to, hpke.HKDFSHA256(), hpke.AES256GCM(), nil)
	if err != nil {
		return nil, err
	}
	_, err = sender.Export("bench", 32)
	return enc, err
}

// decapsulate is its inverse.
func (c *bareCrypto) decapsulate() {
	r, err := hpke.NewRecipient(c.enc, c.epoch, hpke.HKDFSHA256(), hpke.AES256GCM(), nil)
	if err == nil {
		_, err = r.Export("bench", 32)
	}
	must(err)
}

// aead is made for every message: every message has a key of its own.
func (c *bareCrypto) aead() cipher.AEAD {
	block, err := aes.NewCipher(c.key[:])
	must(err)
	aead, err := cipher.NewGCM(block)
	must(err)
	return aead
}

// sealed seals one message.
func (c *bareCrypto) sealed(plain []byte) []byte {
	var nonce [12]byte
	return c.aead().Seal(nil, nonce[:], plain, nil)
}

// unseal opens one message.
func (c *bareCrypto) unseal(sealed []byte) {
	var nonce [12]byte
	_, err := c.aead().Open(nil, nonce[:], sealed, nil)
	must(err)
}

// verify checks one signature.
func (c *bareCrypto) verify() {
	if !ed25519.Verify(c.public, c.statement, c.signature) {
		must(errors.New("a signature made here does not verify"))
	}
}

// shared reports whether this call is the one in a thousand that pays for an encapsulation.
func shared(n *atomic.Uint64) bool { return n.Add(1)%schemas.MaxPerEncapsulation == 1 }

// Seal is the producer's part: payload and wrap; an encapsulation and a spend signature per thousand.
func (c *bareCrypto) Seal() {
	if shared(&c.seals) {
		_, err := c.encapsulate(c.epoch.PublicKey())
		must(err)
		ed25519.Sign(c.sign, c.statement)
	}
	c.sealed(c.payload)
	c.sealed(c.wrap)
}

// Answer is the broker's part (the wrap, the grant's signature; a decapsulation and the spend signature per thousand) and the
// worker's: the grant's signature, the payload, the live chunk, the result, the receipt.
func (c *bareCrypto) Answer() {
	if shared(&c.answers) {
		c.decapsulate()
		c.verify()
		_, err := c.encapsulate(c.reply.PublicKey())
		must(err)
	}
	c.unseal(c.sealedWrap)
	ed25519.Sign(c.sign, c.statement)
	c.verify()
	c.unseal(c.sealedPayload)
	c.sealed(c.chunk)
	c.sealed(c.result)
	ed25519.Sign(c.sign, c.statement)
}

// Open is the tenant's part: grant, receipt and result.
func (c *bareCrypto) Open() {
	if shared(&c.opened) {
		c.decapsulate()
	}
	c.verify()
	c.verify()
	c.unseal(c.sealedResult)
}

// must stops a benchmark whose own keys do not work: there is nothing to measure then.
func must(err error) {
	if err != nil {
		panic("bench: " + err.Error())
	}
}
