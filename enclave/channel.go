package enclave

import (
	"context"
	"crypto/cipher"
	"crypto/hpke"
	"crypto/rand"

	"github.com/cocoon-network/cocoon/schemas"
)

// Verb names a call to the broker; the transport has one subject for each.
type Verb string

// The verbs.
const (
	// VerbChallenge: something unpredictable to bind evidence to.
	VerbChallenge Verb = "challenge"
	// VerbSession: evidence for a session.
	VerbSession Verb = "session"
	// VerbGrant: grants and content keys for 1 to 64 jobs.
	VerbGrant Verb = "grant"
	// VerbRenew: leases of running jobs, kept or given back.
	VerbRenew Verb = "renew"
	// VerbRelease: the key of a model's sealed weights.
	VerbRelease Verb = "release"
	// VerbAttest: the broker's evidence under the caller's nonce.
	VerbAttest Verb = "attest"
	// VerbJoin: the group's secrets, for another broker.
	VerbJoin Verb = "join"
)

// Verbs lists all verbs, in the order a worker meets them.
func Verbs() []Verb {
	return []Verb{VerbChallenge, VerbSession, VerbGrant, VerbRenew, VerbRelease, VerbAttest, VerbJoin}
}

// Call carries a request to any broker of the group and brings the reply back. An error that carries a schemas.Kind is the
// broker's; the transport may be untrusted and may lose, repeat or change anything.
type Call func(ctx context.Context, verb Verb, request []byte) ([]byte, error)

const (
	purposeSession = "cocoon/session/v1"
	labelCall      = "cocoon/session-call/v1"
	labelReply     = "cocoon/session-reply/v1"
	nonceSize      = 12
)

// Channel seals the calls of a session and their replies under a secret that only the attested worker and the brokers
// know. A reply opens only as the answer to the call it was made for.
type Channel struct {
	calls, replies cipher.AEAD
}

// NewChannel derives both directions from a session's secret.
func NewChannel(secret [32]byte) *Channel {
	return &Channel{calls: gcm(expand(secret[:], labelCall)), replies: gcm(expand(secret[:], labelReply))}
}

// OfferChannel is the broker's side of opening a session: enc lets only the holder of the attested HPKE key derive the
// secret.
func OfferChannel(hpkeKey []byte) (enc []byte, secret [32]byte, err error) {
	public, err := kem().NewPublicKey(hpkeKey)
	if err != nil {
		return nil, secret, schemas.FieldError("hpke", "is not an ML-KEM-768+X25519 public key")
	}
	return encapsulate(public, kidOf(hpkeKey), purposeSession)
}

// acceptChannel is the worker's side of OfferChannel.
func acceptChannel(enc []byte, private hpke.PrivateKey) (*Channel, error) {
	secret, err := decapsulate(enc, private, kidOf(private.PublicKey().Bytes()), purposeSession)
	if err != nil {
		return nil, err
	}
	return NewChannel(secret), nil
}

// SealCall seals a call's content for a verb under a ticket.
func (c *Channel) SealCall(verb Verb, ticket, content []byte) []byte {
	return sealRandom(c.calls, content, schemas.AppendFields(nil, string(verb), ticket))
}

// OpenCall is the broker's side of SealCall.
func (c *Channel) OpenCall(verb Verb, call *schemas.SealedCall) ([]byte, error) {
	return openRandom(c.calls, call.Sealed, schemas.AppendFields(nil, string(verb), call.Ticket))
}

// SealReply seals the answer to a sealed call.
func (c *Channel) SealReply(call, content []byte) []byte {
	hash := schemas.HashOf(call)
	return sealRandom(c.replies, content, hash[:])
}

// OpenReply is the worker's side of SealReply.
func (c *Channel) OpenReply(call, sealed []byte) ([]byte, error) {
	hash := schemas.HashOf(call)
	return openRandom(c.replies, sealed, hash[:])
}

// sealRandom seals with a random nonce in front. A session seals far fewer than the 2^32 messages that random nonces
// allow.
func sealRandom(aead cipher.AEAD, plaintext, bound []byte) []byte {
	sealed := make([]byte, nonceSize, nonceSize+len(plaintext)+schemas.TagSize)
	rand.Read(sealed)
	return aead.Seal(sealed, sealed, plaintext, bound)
}

// openRandom is the inverse of sealRandom.
func openRandom(aead cipher.AEAD, sealed, bound []byte) ([]byte, error) {
	if len(sealed) < nonceSize {
		return nil, errSealed()
	}
	plaintext, err := aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], bound)
	if err != nil {
		return nil, errSealed()
	}
	return plaintext, nil
}
