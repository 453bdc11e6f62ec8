package enclave

import (
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/schemas"
)

// Verifier judges evidence under the policy in force; [attest.Verifier] is the one that does.
type Verifier interface {
	// Verify refuses with KindAttestation what does not prove anything and with KindPolicy what is not admitted. A zero
	// nonce accepts published evidence, whose freshness rests on the claims' expiry alone.
	Verify(ctx context.Context, evidence schemas.Evidence, nonce [32]byte) (*attest.Admission, error)
}

// TrustedKey is a model's public key whose holder has been verified. Only VerifyKey makes one, so nothing can be sealed
// to a key that nobody looked at.
type TrustedKey struct {
	bundle    schemas.KeyBundle
	public    hpke.PublicKey
	admission *attest.Admission
}

// Bundle is what the broker signed.
func (k *TrustedKey) Bundle() schemas.KeyBundle { return k.bundle }

// Admission is how the broker was admitted.
func (k *TrustedKey) Admission() *attest.Admission { return k.admission }

// Broker is the attested key that grants of this key's jobs are signed by.
func (k *TrustedKey) Broker() ed25519.PublicKey { return k.bundle.Broker }

// GoodUntil is when the key must have been verified again: the end of its epoch or of the broker's admission.
func (k *TrustedKey) GoodUntil() time.Time {
	if k.admission.NotAfter.Before(k.bundle.ActiveUntil) {
		return k.admission.NotAfter
	}
	return k.bundle.ActiveUntil
}

// VerifyKey verifies a published key (a value of the KEYS bucket) for a model: the broker's evidence under the policy,
// its role, its signature over the bundle, and that the key is active now. Refusals are KindAttestation, KindPolicy,
// KindInvalid, KindKeyLost for a key whose epoch is over, and KindUnavailable for a broker that obeys an older policy
// than ours.
func VerifyKey(ctx context.Context, v Verifier, model schemas.ModelID, published []byte) (*TrustedKey, error) {
	p, evidence, err := schemas.ParsePublishedKey(published)
	if err != nil {
		return nil, err
	}
	admission, err := v.Verify(ctx, evidence, [32]byte{})
	if err != nil {
		return nil, err
	}
	if admission.Role != schemas.RoleBroker {
		return nil, &schemas.Error{Kind: schemas.KindPolicy, Field: "role", Message: "the key is vouched for by a " + string(admission.Role) + ", not by a broker"}
	}
	bundle, err := verifyKeyBundle(p.Bundle, admission.Claims.Sign)
	if err != nil {
		return nil, err
	}
	if err := checkBundle(&bundle, admission, model, time.Now()); err != nil {
		return nil, err
	}
	public, err := kem().NewPublicKey(bundle.PublicKey)
	if err != nil {
		return nil, schemas.FieldError("public_key", "is not an ML-KEM-768+X25519 public key")
	}
	return &TrustedKey{bundle: bundle, public: public, admission: admission}, nil
}

// checkBundle compares a bundle with the admission of its signer and with what the caller wants.
func checkBundle(k *schemas.KeyBundle, a *attest.Admission, model schemas.ModelID, now time.Time) error {
	switch {
	case k.Model != model:
		return schemas.FieldError("model", "the key is for another model")
	case !slices.Equal(k.Broker, a.Claims.Sign):
		return schemas.FieldError("broker", "is not the attested key")
	case k.Environment != a.Environment:
		return &schemas.Error{Kind: schemas.KindPolicy, Field: "environment", Message: "the broker runs in another environment than its key says"}
	case now.Before(k.ActiveFrom.Add(-maxClockSkew)):
		return schemas.FieldError("active_from", "the key is not active yet: is the clock right?")
	case !now.Before(k.ActiveUntil):
		return &schemas.Error{Kind: schemas.KindKeyLost, Field: "active_until", Message: "the key's epoch is over; fetch the current key"}
	case k.PolicyVersion < a.PolicyVersion:
		return &schemas.Error{Kind: schemas.KindUnavailable, Field: "policy_version", Message: "the broker has not taken up the current policy yet", RetryAfter: time.Second}
	}
	return nil
}

// maxClockSkew is how far two honest clocks may be apart.
const maxClockSkew = 2 * time.Minute

// TrustedWorker is a worker's public key that has been verified, for pinned jobs.
type TrustedWorker struct {
	public    hpke.PublicKey
	admission *attest.Admission
}

// Admission is how the worker was admitted.
func (w *TrustedWorker) Admission() *attest.Admission { return w.admission }

// VerifyWorker verifies published evidence of a worker for a model. Published evidence answers nobody's challenge: it is
// as fresh as its claims, at most an hour.
func VerifyWorker(ctx context.Context, v Verifier, model schemas.ModelID, evidence []byte) (*TrustedWorker, error) {
	parsed, err := schemas.ParseEvidence(evidence)
	if err != nil {
		return nil, err
	}
	admission, err := v.Verify(ctx, parsed, [32]byte{})
	if err != nil {
		return nil, err
	}
	if admission.Role != schemas.RoleWorker || !slices.Contains(admission.Models, model) {
		return nil, &schemas.Error{Kind: schemas.KindPolicy, Field: "models", Message: "is not a worker that may serve this model"}
	}
	public, err := kem().NewPublicKey(admission.Claims.HPKE)
	if err != nil {
		return nil, schemas.FieldError("hpke", "is not an ML-KEM-768+X25519 public key")
	}
	return &TrustedWorker{public: public, admission: admission}, nil
}
