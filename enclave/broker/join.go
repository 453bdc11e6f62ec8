package broker

import (
	"context"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/schemas"
)

const purposeJoin = "cocoon/join/v1"

// join answers VerbJoin: another broker, measured as we are, gets the group's state. The request is bound by its hash, the
// asker by its quote over our challenge, the reply by our quote over all of it.
func (b *Broker) join(ctx context.Context, request []byte) ([]byte, error) {
	var r schemas.JoinRequest
	if err := schemas.ParseCall(request, &r); err != nil {
		return nil, err
	}
	a, found, err := b.admit(ctx, r.Evidence, r.Token, schemas.RoleBroker)
	if err == nil {
		err = b.equallyMeasured(ctx, a)
	}
	b.audit(decisionAbout(enclave.VerbJoin, a, found), err)
	if err != nil {
		return nil, err
	}
	reply := schemas.JoinReply{Version: schemas.EnvelopeVersion}
	if reply.Enc, reply.Sealed, err = b.sealState(a.Claims.HPKE, schemas.HashOf(request)); err != nil {
		return nil, err
	}
	nonce := schemas.JoinNonce(schemas.HashOf(request), r.Nonce, reply.Enc, reply.Sealed)
	if reply.Evidence, err = b.quote(ctx, b.Public(), nonce); err != nil {
		return nil, err
	}
	return schemas.EncodeCall(&reply), nil
}

// equallyMeasured refuses a broker of another image or configuration than ours. What we are ourselves is judged by the
// same verifier, from a quote over a nonce of our own.
func (b *Broker) equallyMeasured(ctx context.Context, other *attest.Admission) error {
	mine, err := b.self(ctx)
	if err != nil {
		return err
	}
	return sameMeasurement(mine, other)
}

// self is this broker as a verifier sees it.
func (b *Broker) self(ctx context.Context) (*attest.Admission, error) {
	var nonce [32]byte
	rand.Read(nonce[:])
	key := b.private.PublicKey().Bytes()[:ed25519.PublicKeySize] // any key: nothing is signed with it
	if b.group != nil {
		key = b.Public()
	}
	evidence, err := b.cfg.Attester.Attest(ctx, b.claims(key), nonce)
	if err != nil {
		return nil, err
	}
	return b.cfg.Verifier.Verify(ctx, evidence, nonce)
}

// sameMeasurement compares two admissions.
func sameMeasurement(a, b *attest.Admission) error {
	if a.Role != b.Role || a.Measurement != b.Measurement || a.Config != b.Config || a.Environment != b.Environment {
		return &schemas.Error{Kind: schemas.KindPolicy, Field: "measurement", Message: "is another broker image or configuration than ours"}
	}
	return nil
}

// joinAEAD is the cipher of one reply.
func joinAEAD(exported []byte, request schemas.Hash) cipher.AEAD {
	return randomGCM(derive(exported, "cocoon/join-state/v1", request[:]))
}

// sealState seals the group's state to another broker's attested key.
func (b *Broker) sealState(hpkeKey []byte, request schemas.Hash) (enc, sealed []byte, err error) {
	public, err := hpke.MLKEM768X25519().NewPublicKey(hpkeKey)
	if err != nil {
		return nil, nil, schemas.FieldError("hpke", "is not an ML-KEM-768+X25519 public key")
	}
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte(purposeJoin))
	if err != nil {
		return nil, nil, schemas.Errorf(schemas.KindInternal, "encapsulate: %w", err)
	}
	exported, err := sender.Export(purposeJoin, 32)
	if err != nil {
		return nil, nil, schemas.Errorf(schemas.KindInternal, "encapsulate: %w", err)
	}
	b.group.mu.Lock()
	plain := schemas.EncodeCBOR(b.group.state)
	b.group.mu.Unlock()
	defer clear(plain)
	return enc, joinAEAD(exported, request).Seal(nil, nil, plain, nil), nil
}

// ask gets the state from another broker.
func (b *Broker) ask(ctx context.Context, call enclave.Call) (*state, error) {
	reply, err := call(ctx, enclave.VerbChallenge, schemas.EncodeCall(&schemas.ChallengeRequest{Version: schemas.EnvelopeVersion}))
	if err != nil {
		return nil, err
	}
	var challenge schemas.ChallengeReply
	if err := schemas.ParseCall(reply, &challenge); err != nil {
		return nil, err
	}
	r := schemas.JoinRequest{Version: schemas.EnvelopeVersion, Token: challenge.Token}
	rand.Read(r.Nonce[:])
	key := b.private.PublicKey().Bytes()[:ed25519.PublicKeySize] // any key: we have none to sign with yet
	if r.Evidence, err = b.quote(ctx, key, schemas.ChallengeNonce(challenge.Token)); err != nil {
		return nil, err
	}
	request := schemas.EncodeCall(&r)
	if reply, err = call(ctx, enclave.VerbJoin, request); err != nil {
		return nil, err
	}
	var answer schemas.JoinReply
	if err := schemas.ParseCall(reply, &answer); err != nil {
		return nil, err
	}
	return b.openState(ctx, request, &r, &answer)
}

// openState verifies who answered before it opens the answer.
func (b *Broker) openState(ctx context.Context, request []byte, r *schemas.JoinRequest, answer *schemas.JoinReply) (*state, error) {
	evidence, err := schemas.ParseEvidence(answer.Evidence)
	if err != nil {
		return nil, err
	}
	hash := schemas.HashOf(request)
	giver, err := b.cfg.Verifier.Verify(ctx, evidence, schemas.JoinNonce(hash, r.Nonce, answer.Enc, answer.Sealed))
	if err != nil {
		return nil, err
	}
	if err := b.equallyMeasured(ctx, giver); err != nil {
		return nil, err
	}
	refused := &schemas.Error{Kind: schemas.KindSealed, Message: "the group's state does not open"}
	recipient, err := hpke.NewRecipient(answer.Enc, b.private, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte(purposeJoin))
	if err != nil {
		return nil, refused
	}
	exported, err := recipient.Export(purposeJoin, 32)
	if err != nil {
		return nil, refused
	}
	plain, err := joinAEAD(exported, hash).Open(nil, nil, answer.Sealed, nil)
	if err != nil {
		return nil, refused
	}
	defer clear(plain)
	return parseState(plain)
}
