package enclave

import (
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"slices"

	"github.com/cocoon-network/cocoon/schemas"
)

const (
	purposeWeights = "cocoon/weights/v1"
	labelWeightKey = "cocoon/weights-wrap/v1"
)

// WrapWeightKey wraps the key of a model's sealed weights to the brokers' weights key, for this model alone.
func WrapWeightKey(public []byte, model schemas.ModelID, key [32]byte) (enc, wrapped []byte, err error) {
	pk, err := kem().NewPublicKey(public)
	if err != nil {
		return nil, nil, schemas.FieldError("public_key", "is not an ML-KEM-768+X25519 public key")
	}
	enc, secret, err := encapsulate(pk, kidOf(public), purposeWeights)
	if err != nil {
		return nil, nil, schemas.Errorf(schemas.KindInternal, "%w", err)
	}
	return enc, sealOnce(expand(secret[:], labelWeightKey, []byte(model)), key[:]), nil
}

// UnwrapWeightKey is the broker's side of WrapWeightKey.
func UnwrapWeightKey(private hpke.PrivateKey, model schemas.ModelID, enc, wrapped []byte) (key [32]byte, err error) {
	secret, err := decapsulate(enc, private, kidOf(private.PublicKey().Bytes()), purposeWeights)
	if err != nil {
		return key, err
	}
	plain, err := openOnce(expand(secret[:], labelWeightKey, []byte(model)), wrapped)
	if err != nil || len(plain) != len(key) {
		return key, errSealed()
	}
	return [32]byte(plain), nil
}

// VerifyWeightsKey verifies the brokers' published weights key, as VerifyKey does for a model's key. Who seals weights
// calls it before.
func VerifyWeightsKey(ctx context.Context, v Verifier, published []byte) (schemas.WeightsKey, error) {
	p, evidence, err := schemas.ParsePublishedKey(published)
	if err != nil {
		return schemas.WeightsKey{}, err
	}
	admission, err := v.Verify(ctx, evidence, [32]byte{})
	if err != nil {
		return schemas.WeightsKey{}, err
	}
	if admission.Role != schemas.RoleBroker {
		return schemas.WeightsKey{}, &schemas.Error{Kind: schemas.KindPolicy, Field: "role", Message: "the key is not vouched for by a broker"}
	}
	payload, err := new(Signatures).verifyJWS(p.Bundle, schemas.TypWeightsKey, admission.Claims.Sign)
	if err != nil {
		return schemas.WeightsKey{}, err
	}
	key, err := schemas.ParseWeightsKey(payload)
	if err != nil {
		return schemas.WeightsKey{}, err
	}
	if key.Environment != admission.Environment || !slices.Equal(key.Broker, admission.Claims.Sign) {
		return schemas.WeightsKey{}, &schemas.Error{Kind: schemas.KindPolicy, Field: "environment", Message: "is not that of the broker"}
	}
	return key, nil
}

// SignWeightsKey signs the brokers' weights key.
func SignWeightsKey(key ed25519.PrivateKey, k schemas.WeightsKey) (string, error) {
	return signJWS(key, schemas.TypWeightsKey, k)
}
