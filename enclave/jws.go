package enclave

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/cocoon-network/cocoon/schemas"
)

// jwsHeader is the protected header of every statement; its one spelling is the only one accepted, so no header can
// choose an algorithm or bring a key.
type jwsHeader struct {
	Alg string        `json:"alg"`
	Key schemas.KeyID `json:"kid"`
	Typ string        `json:"typ"`
}

// segment spells the header as the first part of a token.
func (h jwsHeader) segment() string {
	b, err := schemas.EncodeJSON(h)
	if err != nil {
		panic("enclave: a header of three strings must encode: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// signJWS signs a statement as a compact JWS with alg EdDSA. The form is RFC 7515 with a constant header; it is written
// out here because the library's signer costs more than the signature, and verifyJWS reads it through that library.
func signJWS(key ed25519.PrivateKey, typ string, statement any) (string, error) {
	payload, err := schemas.EncodeJSON(statement)
	if err != nil {
		return "", err
	}
	header := jwsHeader{string(jose.EdDSA), schemas.KeyIDOf(key.Public().(ed25519.PublicKey)), typ}
	signed := header.segment() + "." + base64.RawURLEncoding.EncodeToString(payload)
	token := signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(signed)))
	if len(token) > schemas.MaxSignedHeader {
		return "", &schemas.Error{Kind: schemas.KindTooLarge, Field: typ, Message: "is longer than 8 KiB"}
	}
	return token, nil
}

// verifyJWS verifies a compact JWS strictly: the one header for this typ and key, canonical base64, the signature. It
// returns the payload.
func verifyJWS(token, typ string, key ed25519.PublicKey) ([]byte, error) {
	signed, header, err := parseJWS(token, typ)
	if err != nil {
		return nil, err
	}
	if len(key) != ed25519.PublicKeySize || header.Key != schemas.KeyIDOf(key) {
		return nil, &schemas.Error{Kind: schemas.KindDenied, Field: "kid", Message: "is signed by another key"}
	}
	payload, err := signed.Verify(key)
	if err != nil {
		return nil, &schemas.Error{Kind: schemas.KindDenied, Field: "signature", Message: "does not verify"}
	}
	return payload, nil
}

// parseJWS reads the outer form and refuses every header and spelling that signJWS does not write.
func parseJWS(token, typ string) (*jose.JSONWebSignature, jwsHeader, error) {
	if len(token) > schemas.MaxSignedHeader {
		return nil, jwsHeader{}, &schemas.Error{Kind: schemas.KindTooLarge, Field: typ, Message: "is longer than 8 KiB"}
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return nil, jwsHeader{}, schemas.FieldError(typ, "is not a compact JWS with alg EdDSA")
	}
	header := jwsHeader{string(jose.EdDSA), schemas.KeyID(signed.Signatures[0].Header.KeyID), typ}
	if _, err := schemas.ParseKeyID(string(header.Key)); err != nil {
		return nil, jwsHeader{}, err
	}
	first, rest, _ := strings.Cut(token, ".")
	if first != header.segment() {
		return nil, jwsHeader{}, schemas.FieldError(typ, "must have exactly the headers alg, kid and typ "+typ)
	}
	for part := range strings.SplitSeq(rest, ".") {
		if b, err := base64.RawURLEncoding.DecodeString(part); err != nil || base64.RawURLEncoding.EncodeToString(b) != part {
			return nil, jwsHeader{}, schemas.FieldError(typ, "is not canonically encoded")
		}
	}
	return signed, header, nil
}

// readJWS returns the payload and the id of the claimed signer without verifying anything.
func readJWS(token, typ string) ([]byte, schemas.KeyID, error) {
	signed, header, err := parseJWS(token, typ)
	if err != nil {
		return nil, "", err
	}
	return signed.UnsafePayloadWithoutVerification(), header.Key, nil
}

// SignGrant signs a grant with the broker's key.
func SignGrant(key ed25519.PrivateKey, g schemas.Grant) (string, error) {
	return signJWS(key, schemas.TypGrant, g)
}

// VerifyGrant verifies a grant's form and its signature by the broker's key. It looks at no clock and at no policy.
func VerifyGrant(token string, broker ed25519.PublicKey) (schemas.Grant, error) {
	payload, err := verifyJWS(token, schemas.TypGrant, broker)
	if err != nil {
		return schemas.Grant{}, err
	}
	return schemas.ParseGrant(payload)
}

// ReadGrant reads a grant without verifying who signed it; the key id is whose signature to look for.
func ReadGrant(token string) (schemas.Grant, schemas.KeyID, error) {
	payload, key, err := readJWS(token, schemas.TypGrant)
	if err != nil {
		return schemas.Grant{}, "", err
	}
	grant, err := schemas.ParseGrant(payload)
	return grant, key, err
}

// SignReceipt signs a receipt with a worker's key; [Session.SignReceipt] also numbers it.
func SignReceipt(key ed25519.PrivateKey, r schemas.Receipt) (string, error) {
	return signJWS(key, schemas.TypReceipt, r)
}

// VerifyReceipt verifies a receipt's form and its signature by the worker's key, which the grant names.
func VerifyReceipt(token string, worker ed25519.PublicKey) (schemas.Receipt, error) {
	payload, err := verifyJWS(token, schemas.TypReceipt, worker)
	if err != nil {
		return schemas.Receipt{}, err
	}
	return schemas.ParseReceipt(payload)
}

// ReadReceipt reads a receipt without verifying who signed it.
func ReadReceipt(token string) (schemas.Receipt, error) {
	payload, _, err := readJWS(token, schemas.TypReceipt)
	if err != nil {
		return schemas.Receipt{}, err
	}
	return schemas.ParseReceipt(payload)
}

// SignKeyBundle signs a key bundle with the broker's key.
func SignKeyBundle(key ed25519.PrivateKey, k schemas.KeyBundle) (string, error) {
	return signJWS(key, schemas.TypKey, k)
}

// verifyKeyBundle verifies a key bundle's form and its signature by the attested key of a broker.
func verifyKeyBundle(token string, broker ed25519.PublicKey) (schemas.KeyBundle, error) {
	payload, err := verifyJWS(token, schemas.TypKey, broker)
	if err != nil {
		return schemas.KeyBundle{}, err
	}
	return schemas.ParseKeyBundle(payload)
}
