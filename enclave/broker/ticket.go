package broker

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/schemas"
)

const (
	labelTicket    = "cocoon/ticket/v1"
	labelChallenge = "cocoon/challenge/v1"
	// challengeTerm is how long a challenge may be answered: making a quote on real hardware takes up to seconds.
	challengeTerm = 60 * time.Second
	// challengeSize: epoch, expiry, 16 random bytes, 16 bytes of HMAC.
	challengeSize = 8 + 8 + 16 + 16
)

// newChallenge makes a token that every broker of the group recognises without having seen it.
func (g *group) newChallenge(now time.Time) ([]byte, error) {
	epoch := g.epochNow(now)
	token := binary.BigEndian.AppendUint64(make([]byte, 0, challengeSize), epoch)
	token = binary.BigEndian.AppendUint64(token, uint64(now.Add(challengeTerm).Unix()))
	var random [16]byte
	rand.Read(random[:])
	token = append(token, random[:]...)
	mac, ok := g.challengeMAC(epoch, token)
	if !ok {
		return nil, &schemas.Error{Kind: schemas.KindInternal, Message: "the epoch at hand has no secret: is the clock right?"}
	}
	return append(token, mac...), nil
}

// checkChallenge refuses tokens of others and old ones.
func (g *group) checkChallenge(token []byte, now time.Time) error {
	refused := &schemas.Error{Kind: schemas.KindReplayed, Field: "token", Message: "is no challenge of this group, or too old; ask for another"}
	if len(token) != challengeSize {
		return refused
	}
	body := token[:challengeSize-16]
	mac, ok := g.challengeMAC(binary.BigEndian.Uint64(body), body)
	if !ok || !hmac.Equal(mac, token[len(body):]) {
		return refused
	}
	expiry := time.Unix(int64(binary.BigEndian.Uint64(body[8:])), 0)
	if now.After(expiry) || expiry.Sub(now) > 2*challengeTerm {
		return refused
	}
	return nil
}

// challengeMAC authenticates a challenge.
func (g *group) challengeMAC(epoch uint64, body []byte) ([]byte, bool) {
	key, ok := g.sharedSecret(epoch, labelChallenge)
	mac := hmac.New(sha256.New, key[:])
	mac.Write(body)
	return mac.Sum(nil)[:16], ok
}

// epochNow is the epoch at a time.
func (g *group) epochNow(now time.Time) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.epochAt(now)
}

// ticket is a session as it travels: everything a broker must know about an admitted worker, sealed for brokers.
type ticket struct {
	_ struct{} `cbor:",toarray"`
	// Secret is the session's secret.
	Secret [32]byte
	// Worker is the worker's signing key and Owner who it earns for.
	Worker []byte
	Owner  schemas.Owner
	// Models it may serve.
	Models []schemas.ModelID
	// Ask is the lowest multiplier it serves at.
	Ask schemas.BasisPoints
	// Policy is the version that admitted it and Evidence the digest of what it showed.
	Policy      uint64
	Environment schemas.Environment
	Evidence    schemas.Hash
	// Expires is in Unix seconds.
	Expires int64
}

// newTicket puts a ticket together from an admission.
func newTicket(secret [32]byte, a *attest.Admission, ask schemas.BasisPoints) *ticket {
	return &ticket{
		Secret: secret, Worker: a.Claims.Sign, Owner: a.Claims.Owner, Models: a.Models, Ask: ask, Policy: a.PolicyVersion,
		Environment: a.Environment, Evidence: a.Digest, Expires: a.NotAfter.Unix(),
	}
}

// sealTicket seals a ticket: epoch, then a random nonce and the ciphertext.
func (g *group) sealTicket(t *ticket, now time.Time) ([]byte, error) {
	epoch := g.epochNow(now)
	aead, ok := g.ticketAEAD(epoch)
	if !ok {
		return nil, &schemas.Error{Kind: schemas.KindInternal, Message: "the epoch at hand has no secret: is the clock right?"}
	}
	head := binary.BigEndian.AppendUint64(nil, epoch)
	return aead.Seal(head, nil, schemas.EncodeCBOR(t), head), nil
}

// openTicket is the inverse of sealTicket. A ticket that does not open or is over is KindAttestation: the worker must
// attest again.
func (g *group) openTicket(sealed []byte, now time.Time) (*ticket, error) {
	again := &schemas.Error{Kind: schemas.KindAttestation, Field: "ticket", Message: "is no session of this group, or over; attest again"}
	if len(sealed) < 8 {
		return nil, again
	}
	aead, ok := g.ticketAEAD(binary.BigEndian.Uint64(sealed))
	if !ok {
		return nil, again
	}
	plain, err := aead.Open(nil, nil, sealed[8:], sealed[:8])
	if err != nil {
		return nil, again
	}
	var t ticket
	if err := schemas.DecodeCBOR(plain, &t, schemas.MaxTicket); err != nil || now.Unix() >= t.Expires {
		return nil, again
	}
	return &t, nil
}

// ticketAEAD is the cipher of one epoch's tickets.
func (g *group) ticketAEAD(epoch uint64) (cipher.AEAD, bool) {
	key, ok := g.sharedSecret(epoch, labelTicket)
	return randomGCM(key), ok
}

// randomGCM is AES-256-GCM that puts a random nonce in front.
func randomGCM(key [32]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("broker: AES refuses only wrong key sizes: " + err.Error())
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("broker: GCM refuses only wrong block sizes: " + err.Error())
	}
	return aead
}

// caller is a worker inside its session.
type caller struct {
	*ticket
	id      schemas.WorkerID
	channel *enclave.Channel
	sealed  []byte // the sealed call, which the reply is bound to
}

// enter opens a sealed call and refuses repeated ones and those under a policy that is no longer in force.
func (b *Broker) enter(verb enclave.Verb, request []byte, call any) (*caller, error) {
	var sealed schemas.SealedCall
	if err := schemas.ParseCall(request, &sealed); err != nil {
		return nil, err
	}
	now := time.Now()
	t, err := b.group.openTicket(sealed.Ticket, now)
	if err != nil {
		return nil, err
	}
	policy, err := b.cfg.Policies.Current()
	if err != nil {
		return nil, err
	}
	if policy.Version != t.Policy {
		return nil, &schemas.Error{Kind: schemas.KindAttestation, Field: "policy", Message: "has changed since this session began; attest again"}
	}
	c := &caller{ticket: t, id: schemas.WorkerIDOf(t.Worker), channel: enclave.NewChannel(t.Secret), sealed: sealed.Sealed}
	plain, err := c.channel.OpenCall(verb, &sealed)
	if err != nil {
		return nil, err
	}
	if err := schemas.ParseCall(plain, call); err != nil {
		return nil, err
	}
	return c, b.fresh(call, sealed.Sealed, now)
}

// fresh refuses calls that are old or were made before.
func (b *Broker) fresh(call any, sealed []byte, now time.Time) error {
	var sent int64
	switch c := call.(type) {
	case *schemas.GrantCall:
		sent = c.Sent
	case *schemas.RenewCall:
		sent = c.Sent
	case *schemas.ReleaseCall:
		sent = c.Sent
	}
	if age := now.Sub(time.Unix(sent, 0)); age > callWindow || age < -callWindow {
		return &schemas.Error{Kind: schemas.KindReplayed, Field: "sent", Message: "is more than two minutes away: are the clocks right?"}
	}
	if !b.calls.first(sha256.Sum256(sealed), now) {
		return &schemas.Error{Kind: schemas.KindReplayed, Message: "this call was made before"}
	}
	return nil
}

// reply seals an answer for the caller.
func (c *caller) reply(answer any) []byte {
	sealed := c.channel.SealReply(c.sealed, schemas.EncodeCall(answer))
	return schemas.EncodeCall(&schemas.SealedReply{Version: schemas.EnvelopeVersion, Sealed: sealed})
}
