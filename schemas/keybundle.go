package schemas

import (
	"crypto/ed25519"
	"encoding/base64"
	"time"
)

// TypKey is the typ header of a signed key bundle.
const TypKey = "cocoon-key+jws"

// Limits of a key bundle.
const (
	// MaxEpochLength bounds the time in which a key is sealed to, and MaxDecryptWindow the time after it in which it
	// still opens. The window is at least the longest life of a job, or a job could outlive its key.
	MaxEpochLength   = 24 * time.Hour
	MaxDecryptWindow = 2 * MaxLifetime
	// MaxKeyBundle bounds the JWS of a bundle, MaxPublishedKey the whole published form.
	MaxKeyBundle    = 8 << 10
	MaxPublishedKey = MaxEvidence*4/3 + 2*MaxKeyBundle
)

// KeyBundle says which public key jobs of one model are sealed to now. It is the payload of a JWS signed by the key
// that the broker's evidence attests.
type KeyBundle struct {
	// V is the version of the form, 1.
	V int `json:"v"`
	// Model is the one model that the key opens jobs of.
	Model ModelID `json:"model"`
	// Key is the id of PublicKey.
	Key KeyID `json:"kid"`
	// Suite must be Suite.
	Suite string `json:"suite"`
	// PublicKey is the HPKE key, PublicKeySize bytes.
	PublicKey []byte `json:"public_key"`
	// Epoch numbers the key: the epochs of all brokers of a group count alike.
	Epoch uint64 `json:"epoch"`
	// ActiveFrom to ActiveUntil is when jobs may be sealed to it; after DecryptUntil it is erased.
	ActiveFrom   time.Time `json:"active_from"`
	ActiveUntil  time.Time `json:"active_until"`
	DecryptUntil time.Time `json:"decrypt_until"`
	// Policy is the hash and PolicyVersion the version of the policy the broker obeys.
	Policy        Hash   `json:"policy"`
	PolicyVersion uint64 `json:"policy_version"`
	// Catalogue is the version of the catalogue that prices hold from.
	Catalogue uint64 `json:"catalogue"`
	// Environment keeps simulated networks apart.
	Environment Environment `json:"environment"`
	// Broker is the Ed25519 public key that signs this bundle and the grants (base64 in JSON).
	Broker []byte `json:"broker"`
}

// Check refuses bundles that no broker may publish. It does not look at the clock.
func (k *KeyBundle) Check() error {
	switch {
	case k.V != 1:
		return &Error{Kind: KindUnsupported, Field: "v", Message: "must be 1"}
	case k.Suite != Suite:
		return &Error{Kind: KindUnsupported, Field: "suite", Message: "must be " + Suite}
	case len(k.PublicKey) != PublicKeySize:
		return invalid("public_key", "must be 1,216 bytes")
	case k.Key != KeyIDOf(k.PublicKey):
		return invalid("kid", "is not the id of public_key")
	case len(k.Broker) != ed25519.PublicKeySize:
		return invalid("broker", "must be an Ed25519 public key of 32 bytes")
	}
	if _, err := ParseModelID(string(k.Model)); err != nil {
		return err
	}
	if err := k.Environment.check(); err != nil {
		return err
	}
	if !utcSecond(k.ActiveFrom) || !utcSecond(k.ActiveUntil) || !utcSecond(k.DecryptUntil) {
		return invalid("active_from", "times must be UTC with whole seconds")
	}
	if active := k.ActiveUntil.Sub(k.ActiveFrom); active <= 0 || active > MaxEpochLength {
		return invalid("active_until", "must lie after active_from, by at most 24 hours")
	}
	if window := k.DecryptUntil.Sub(k.ActiveUntil); window < 0 || window > MaxDecryptWindow {
		return invalid("decrypt_until", "must lie after active_until, by at most 96 hours")
	}
	return nil
}

// ParseKeyBundle reads the payload of a bundle strictly.
func ParseKeyBundle(b []byte) (KeyBundle, error) {
	var k KeyBundle
	if err := decodeCanonical(b, &k, MaxKeyBundle); err != nil {
		return KeyBundle{}, err
	}
	return k, k.Check()
}

// TypWeightsKey is the typ header of the brokers' weights key.
const TypWeightsKey = "cocoon-weights-key+jws"

// WeightsKey is the public key that model owners seal the keys of their weights to. Unlike a model's key it has no epoch:
// sealed weights lie for long. It is the payload of a JWS signed by the key that the broker's evidence attests.
type WeightsKey struct {
	// V is the version of the form, 1.
	V int `json:"v"`
	// Key is the id of PublicKey, Suite must be Suite.
	Key       KeyID  `json:"kid"`
	Suite     string `json:"suite"`
	PublicKey []byte `json:"public_key"`
	// Environment keeps simulated networks apart.
	Environment Environment `json:"environment"`
	// Broker is the Ed25519 public key that signs.
	Broker []byte `json:"broker"`
}

// ParseWeightsKey reads the payload strictly.
func ParseWeightsKey(b []byte) (WeightsKey, error) {
	var k WeightsKey
	if err := decodeCanonical(b, &k, MaxKeyBundle); err != nil {
		return WeightsKey{}, err
	}
	switch {
	case k.V != 1 || k.Suite != Suite:
		return WeightsKey{}, &Error{Kind: KindUnsupported, Field: "suite", Message: "must be " + Suite + " and v 1"}
	case len(k.PublicKey) != PublicKeySize || k.Key != KeyIDOf(k.PublicKey):
		return WeightsKey{}, invalid("kid", "is not the id of a public key of 1,216 bytes")
	case len(k.Broker) != ed25519.PublicKeySize:
		return WeightsKey{}, invalid("broker", "must be an Ed25519 public key of 32 bytes")
	}
	return k, k.Environment.check()
}

// PublishedKey is a bundle with the evidence that attests its signer: one value of the KEYS bucket.
type PublishedKey struct {
	// Bundle is the compact JWS of a KeyBundle or a WeightsKey.
	Bundle string `json:"bundle"`
	// Evidence is the broker's evidence in its wire form, in standard base64.
	Evidence string `json:"evidence"`
}

// NewPublishedKey puts a published key together.
func NewPublishedKey(bundle string, evidence []byte) PublishedKey {
	return PublishedKey{Bundle: bundle, Evidence: base64.StdEncoding.EncodeToString(evidence)}
}

// Encode spells the published key.
func (p PublishedKey) Encode() ([]byte, error) { return EncodeJSON(p) }

// ParsePublishedKey reads a published key strictly; neither signature nor evidence are verified.
func ParsePublishedKey(b []byte) (PublishedKey, Evidence, error) {
	var p PublishedKey
	if err := decodeCanonical(b, &p, MaxPublishedKey); err != nil {
		return PublishedKey{}, Evidence{}, err
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(p.Evidence)
	if err != nil || base64.StdEncoding.EncodeToString(raw) != p.Evidence {
		return PublishedKey{}, Evidence{}, invalid("evidence", "must be standard base64")
	}
	evidence, err := ParseEvidence(raw)
	return p, evidence, err
}
