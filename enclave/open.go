package enclave

import (
	"crypto/hpke"
	"crypto/subtle"
	"encoding/binary"

	"github.com/cocoon-network/cocoon/schemas"
)

// Unwrapper opens wraps with one private key: a broker's epoch key, or a worker's own key in pin mode. It remembers
// decapsulated secrets, so the jobs of one submission cost one decapsulation. It is safe for concurrent use.
type Unwrapper struct {
	private hpke.PrivateKey
	kid     [16]byte
	secrets *secretCache
}

// NewUnwrapper makes an unwrapper that remembers at most limit encapsulations.
func NewUnwrapper(private hpke.PrivateKey, limit int) *Unwrapper {
	return &Unwrapper{
		private: private, kid: kidOf(private.PublicKey().Bytes()), secrets: newSecretCache(limit),
	}
}

// Public is the public key in its wire form.
func (u *Unwrapper) Public() []byte { return u.private.PublicKey().Bytes() }

// Unwrap opens one wrap and checks that its spend authorisation belongs to the job. The tenant's signature in it is
// still to be verified. All failures to open are KindSealed.
func (u *Unwrapper) Unwrap(mode schemas.Mode, enc []byte, index uint32, wrapped []byte, a *schemas.Attributes) (*schemas.Wrap, error) {
	secret, err := u.secrets.get(enc, func() ([secretSize]byte, error) { return decapsulate(enc, u.private, u.kid, purposeJob) })
	if err != nil {
		return nil, err
	}
	plain, err := openOnce(wrapKey(secret, mode, u.kid, index, a.Digest()), wrapped)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	wrap, err := schemas.ParseWrap(plain)
	if err != nil {
		return nil, errSealed()
	}
	if err := wrap.Spend.Check(a); err != nil {
		return nil, err
	}
	return wrap, nil
}

// Open opens a whole job that was sealed to this key, whatever the mode. Brokers never do this; a pinned
// worker could, and implementations of the format are tested with it.
func (u *Unwrapper) Open(a *schemas.Attributes, envelope []byte) (*schemas.Request, *schemas.Spend, error) {
	e, err := schemas.ParseEnvelope(envelope)
	if err != nil {
		return nil, nil, err
	}
	for i := range e.Recipients {
		r := &e.Recipients[i]
		if r.Key != u.kid {
			continue
		}
		wrap, err := u.Unwrap(e.Mode, r.Enc, r.Index, r.Wrapped, a)
		if err != nil {
			return nil, nil, err
		}
		defer clear(wrap.Content[:])
		request, err := openEnvelope(e, a.Digest(), e.RecipientsHash(), wrap.Content)
		return request, &wrap.Spend, err
	}
	return nil, nil, errSealed()
}

// Wipe forgets all secrets.
func (u *Unwrapper) Wipe() { u.secrets.wipe() }

// openEnvelope opens the payload of an envelope with its content key. It opens in place: the payload is gone afterwards.
func openEnvelope(e *schemas.Envelope, attributes, recipients schemas.Hash, content [secretSize]byte) (*schemas.Request, error) {
	commit := expand(content[:], labelCommit, attributes[:])
	if subtle.ConstantTimeCompare(commit[:], e.Commit[:]) != 1 {
		return nil, errSealed()
	}
	padded, err := openFrames(payloadKey(content, e.Mode, attributes, recipients), e.Payload)
	if err != nil {
		return nil, err
	}
	defer clear(padded)
	plain, err := unpad(padded, requestFloor)
	if err != nil {
		return nil, err
	}
	request, err := schemas.ParseRequest(plain)
	if err != nil {
		return nil, errSealed()
	}
	return request, nil
}

// be32 spells a number as a field.
func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
