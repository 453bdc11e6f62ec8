package broker

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/schemas"
)

// claimsTerm is the life of the broker's own evidence; published keys are renewed at half of it.
const claimsTerm = 55 * time.Minute

// challenge answers VerbChallenge.
func (b *Broker) challenge(request []byte) ([]byte, error) {
	var r schemas.ChallengeRequest
	if err := schemas.ParseCall(request, &r); err != nil {
		return nil, err
	}
	token, err := b.group.newChallenge(time.Now())
	if err != nil {
		return nil, err
	}
	return schemas.EncodeCall(&schemas.ChallengeReply{Version: schemas.EnvelopeVersion, Token: token}), nil
}

// session answers VerbSession: evidence for a session.
func (b *Broker) session(ctx context.Context, request []byte) ([]byte, error) {
	var r schemas.SessionRequest
	if err := schemas.ParseCall(request, &r); err != nil {
		return nil, err
	}
	a, found, err := b.admit(ctx, r.Evidence, r.Token, schemas.RoleWorker)
	b.audit(decisionAbout(enclave.VerbSession, a, found), err)
	if err != nil {
		return nil, err
	}
	return b.sessionReply(ctx, request, a, r.Ask)
}

// sessionReply makes the session of an admitted worker.
func (b *Broker) sessionReply(ctx context.Context, request []byte, a *attest.Admission, ask schemas.BasisPoints) ([]byte, error) {
	enc, secret, err := enclave.OfferChannel(a.Claims.HPKE)
	if err != nil {
		return nil, err
	}
	evidence, _, err := b.evidence(ctx)
	if err != nil {
		return nil, err
	}
	reply := schemas.SessionReply{
		Version: schemas.EnvelopeVersion, Enc: enc, Expires: a.NotAfter.Unix(), Policy: a.PolicyVersion,
		Broker: [32]byte(b.Public()), Evidence: evidence,
	}
	if reply.Ticket, err = b.group.sealTicket(newTicket(secret, a, ask), time.Now()); err != nil {
		return nil, err
	}
	if len(reply.Ticket) > schemas.MaxTicket {
		return nil, &schemas.Error{Kind: schemas.KindTooLarge, Field: "models", Message: "one worker serves too many models"}
	}
	reply.Signature = [64]byte(ed25519.Sign(b.group.sign, schemas.SessionSigned(schemas.HashOf(request), &reply)))
	return schemas.EncodeCall(&reply), nil
}

// decisionAbout begins an audit entry about an admission, which may have failed, and what was found; both may be nil.
func decisionAbout(verb enclave.Verb, a *attest.Admission, found *schemas.Finding) Decision {
	d := Decision{Verb: verb, Finding: found}
	if found != nil {
		d.Evidence, d.Policy = found.Evidence, found.Policy
	}
	if a != nil {
		d.Evidence, d.Policy = a.Digest, a.PolicyVersion
		if a.Role == schemas.RoleWorker {
			d.Worker = schemas.WorkerIDOf(a.Claims.Sign)
		}
	}
	return d
}

// admit verifies evidence that answers one of our challenges, for one role. Everything cheap is done before the
// verification, which costs milliseconds: the token, its single use, the allowance.
func (b *Broker) admit(ctx context.Context, evidence, token []byte, role schemas.Role) (*attest.Admission, *schemas.Finding, error) {
	now := time.Now()
	if err := b.group.checkChallenge(token, now); err != nil {
		return nil, nil, err
	}
	if !b.calls.first(sha256.Sum256(token), now) {
		return nil, nil, &schemas.Error{Kind: schemas.KindReplayed, Field: "token", Message: "was answered before; ask for another"}
	}
	return b.examine(ctx, evidence, schemas.ChallengeNonce(token), role)
}

// examiner is a verifier that also tells what it found; [attest.Verifier] is one.
type examiner interface {
	Examine(ctx context.Context, e schemas.Evidence, nonce [32]byte) *attest.Examination
}

// examine verifies challenged evidence within the allowance. The finding is nil where nothing was examined.
func (b *Broker) examine(ctx context.Context, evidence []byte, nonce [32]byte, role schemas.Role) (*attest.Admission, *schemas.Finding, error) {
	parsed, err := schemas.ParseEvidence(evidence)
	if err != nil {
		return nil, nil, err
	}
	if !b.allowance.Allow() {
		return nil, nil, &schemas.Error{Kind: schemas.KindBusy, Message: "too many verifications", RetryAfter: time.Second}
	}
	if err := b.verify.Acquire(ctx, 1); err != nil {
		return nil, nil, schemas.Errorf(schemas.KindUnavailable, "%w", err)
	}
	defer b.verify.Release(1)
	a, found, err := b.judge(ctx, parsed, nonce)
	if err == nil {
		err = b.usable(a, role)
	}
	if err != nil && found != nil && found.Kind == schemas.KindUnknown {
		found.Refuse(err)
		found.Advice = attest.Advice(err)
	}
	return a, found, err
}

// judge verifies evidence, and tells what was found where the verifier can.
func (b *Broker) judge(ctx context.Context, evidence schemas.Evidence, nonce [32]byte) (*attest.Admission, *schemas.Finding, error) {
	v, ok := b.cfg.Verifier.(examiner)
	if !ok {
		a, err := b.cfg.Verifier.Verify(ctx, evidence, nonce)
		return a, nil, err
	}
	x := v.Examine(ctx, evidence, nonce)
	found := x.Finding()
	found.Time = time.Now().UTC()
	a, err := x.Result()
	return a, &found, err
}

// usable asks whether an admission opens anything here.
func (b *Broker) usable(a *attest.Admission, role schemas.Role) error {
	switch {
	case a.Role != role:
		return &schemas.Error{Kind: schemas.KindPolicy, Field: "role", Message: "is not admitted as a " + string(role)}
	case !a.Challenged:
		return &schemas.Error{Kind: schemas.KindAttestation, Field: "nonce", Message: "evidence that answers no challenge opens nothing"}
	case !time.Now().Before(a.NotAfter):
		return &schemas.Error{Kind: schemas.KindAttestation, Field: "expires", Message: "the evidence is over"}
	}
	return nil
}

// Entry is what a worker's evidence buys at the door of the network.
type Entry struct {
	// Worker is the worker's id and Key its Ed25519 public key, which is also its NATS identity.
	Worker schemas.WorkerID
	Key    ed25519.PublicKey
	// Models are those of the catalogue that the worker may serve.
	Models []*schemas.Model
	// NotAfter is when it must show fresh evidence.
	NotAfter time.Time
	// Environment and Policy say under what it was admitted.
	Environment schemas.Environment
	Policy      uint64
}

// Admit decides about a worker at the door (NATS auth callout): evidence that answers the server's nonce buys entry for
// the models that policy and catalogue let it serve, until the evidence is over. It shares the allowance of sessions.
func (b *Broker) Admit(ctx context.Context, evidence []byte, nonce [32]byte) (*Entry, error) {
	a, found, err := b.examine(ctx, evidence, nonce, schemas.RoleWorker)
	b.audit(decisionAbout("admit", a, found), err)
	if err != nil {
		return nil, err
	}
	catalogue, err := b.cfg.Catalogues.Current()
	if err != nil {
		return nil, err
	}
	entry := &Entry{
		Worker: schemas.WorkerIDOf(a.Claims.Sign), Key: a.Claims.Sign, NotAfter: a.NotAfter, Environment: a.Environment, Policy: a.PolicyVersion,
	}
	for _, id := range a.Models {
		if m, err := catalogue.Find(string(id)); err == nil {
			entry.Models = append(entry.Models, m)
		}
	}
	if len(entry.Models) == 0 {
		return nil, &schemas.Error{Kind: schemas.KindPolicy, Field: "models", Message: "none of the worker's models is in the catalogue"}
	}
	return entry, nil
}

// Public is the group's signing key.
func (b *Broker) Public() ed25519.PublicKey { return b.group.sign.Public().(ed25519.PublicKey) }

// claims are what this broker says about itself, signing with key.
func (b *Broker) claims(key ed25519.PublicKey) schemas.Claims {
	return schemas.Claims{
		V: 1, Role: schemas.RoleBroker, HPKE: b.private.PublicKey().Bytes(), Sign: key, Boot: b.boot,
		Expires: time.Now().UTC().Add(claimsTerm).Truncate(time.Second),
	}
}

// attest answers VerbAttest: our evidence under the caller's nonce.
func (b *Broker) attest(ctx context.Context, request []byte) ([]byte, error) {
	var r schemas.AttestRequest
	if err := schemas.ParseCall(request, &r); err != nil {
		return nil, err
	}
	if !b.quotes.Allow() {
		return nil, &schemas.Error{Kind: schemas.KindBusy, Message: "too many quotes", RetryAfter: time.Second}
	}
	encoded, err := b.quote(ctx, b.Public(), r.Nonce)
	if err != nil {
		return nil, err
	}
	return schemas.EncodeCall(&schemas.AttestReply{Version: schemas.EnvelopeVersion, Evidence: encoded}), nil
}

// quote makes evidence in its wire form.
func (b *Broker) quote(ctx context.Context, key ed25519.PublicKey, nonce [32]byte) ([]byte, error) {
	evidence, err := b.cfg.Attester.Attest(ctx, b.claims(key), nonce)
	if err != nil {
		return nil, err
	}
	return evidence.Encode()
}
