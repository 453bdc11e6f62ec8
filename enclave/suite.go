package enclave

import (
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"fmt"

	"github.com/cocoon-network/cocoon/schemas"
)

// secretSize is the size of every symmetric secret in bytes.
const secretSize = 32

// kem is the key encapsulation of envelope version 1.
func kem() hpke.KEM { return hpke.MLKEM768X25519() }

// errSealed is the one outward error of everything that does not open, so that nobody learns from the error which check
// failed.
func errSealed() error {
	return &schemas.Error{Kind: schemas.KindSealed, Message: "cannot be opened with this key for this purpose"}
}

// encapsulate makes a fresh secret that only the holder of pk's private key can make again from enc. kid is the key's id,
// purpose separates uses of one key.
func encapsulate(pk hpke.PublicKey, kid [16]byte, purpose string) (enc []byte, secret [secretSize]byte, err error) {
	enc, sender, err := hpke.NewSender(pk, hpke.HKDFSHA256(), hpke.ExportOnly(), hpkeInfo(purpose, kid))
	if err != nil {
		return nil, secret, fmt.Errorf("encapsulate: %w", err)
	}
	exported, err := sender.Export(purpose, secretSize)
	if err != nil {
		return nil, secret, fmt.Errorf("encapsulate: %w", err)
	}
	return enc, [secretSize]byte(exported), nil
}

// decapsulate is the holder's side of encapsulate.
func decapsulate(enc []byte, sk hpke.PrivateKey, kid [16]byte, purpose string) (secret [secretSize]byte, err error) {
	recipient, err := hpke.NewRecipient(enc, sk, hpke.HKDFSHA256(), hpke.ExportOnly(), hpkeInfo(purpose, kid))
	if err != nil {
		return secret, errSealed()
	}
	exported, err := recipient.Export(purpose, secretSize)
	if err != nil {
		return secret, errSealed()
	}
	return [secretSize]byte(exported), nil
}

// hpkeInfo binds an encapsulation to its purpose and to the recipient's key id.
func hpkeInfo(purpose string, kid [16]byte) []byte { return schemas.AppendFields(nil, purpose, kid[:]) }

// kidOf is the id of a public key in its binary form.
func kidOf(public []byte) [16]byte { return schemas.KeyIDOf(public).KeyBytes() }

// expand derives one key from a secret. Label and fields say what the key is for; no two uses have the same.
func expand(secret []byte, label string, fields ...[]byte) (key [secretSize]byte) {
	derived, err := hkdf.Expand(sha256.New, secret, string(schemas.AppendFields(nil, label, fields...)), secretSize)
	if err != nil {
		panic("enclave: HKDF refuses only outputs above 8,160 bytes: " + err.Error())
	}
	return [secretSize]byte(derived)
}
