package enclave

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
)

// algEdDSA is the one algorithm (RFC 8037).
const algEdDSA = "EdDSA"

// The header of a token has one spelling, these texts around key id and typ, so no header can choose an algorithm or bring
// a key, and verifying needs no parser for it.
const (
	headerBeforeKey = `{"alg":"` + algEdDSA + `","kid":"`
	headerBeforeTyp = `","typ":"`
	headerEnd       = `"}`
)

// signJWS signs a statement as a compact JWS (RFC 7515) with a constant header. The form is written out here because it is
// twenty lines without choices; the tests read and write it through an independent JOSE library.
func signJWS(key ed25519.PrivateKey, typ string, statement any) (string, error) {
	payload, err := encodeStatement(statement)
	if err != nil {
		return "", err
	}
	header := headerBeforeKey + string(schemas.KeyIDOf(key.Public().(ed25519.PublicKey))) + headerBeforeTyp + typ + headerEnd
	b64 := base64.RawURLEncoding
	token := make([]byte, 0, b64.EncodedLen(len(header))+b64.EncodedLen(len(payload))+b64.EncodedLen(ed25519.SignatureSize)+2)
	token = append(b64.AppendEncode(token, []byte(header)), '.')
	token = b64.AppendEncode(token, payload)
	signature := ed25519.Sign(key, token)
	token = b64.AppendEncode(append(token, '.'), signature)
	if len(token) > schemas.MaxSignedHeader {
		return "", &schemas.Error{Kind: schemas.KindTooLarge, Field: typ, Message: "is longer than 8 KiB"}
	}
	return string(token), nil
}

// encodeStatement spells a payload: the statements of every job have a writer of their own.
func encodeStatement(statement any) ([]byte, error) {
	if s, ok := statement.(interface{ Encode() ([]byte, error) }); ok {
		return s.Encode()
	}
	return schemas.EncodeJSON(statement)
}

// jws is a token taken apart; nothing in it is verified.
type jws struct {
	key       schemas.KeyID
	signed    []byte // header and payload, as signed
	payload   []byte
	signature []byte
}

// verifyJWS verifies a compact JWS strictly: the one header for this typ and key, canonical base64, the signature. It
// returns the payload.
func (s *Signatures) verifyJWS(token, typ string, key ed25519.PublicKey) ([]byte, error) {
	parsed, err := parseJWS(token, typ)
	if err != nil {
		return nil, err
	}
	if len(key) != ed25519.PublicKeySize || parsed.key != schemas.KeyIDOf(key) {
		return nil, &schemas.Error{Kind: schemas.KindDenied, Field: "kid", Message: "is signed by another key"}
	}
	if !s.verify(key, parsed.signed, parsed.signature) {
		return nil, &schemas.Error{Kind: schemas.KindDenied, Field: "signature", Message: "does not verify"}
	}
	return parsed.payload, nil
}

// parseJWS takes a token apart and refuses every header and spelling that signJWS does not write.
func parseJWS(token, typ string) (jws, error) {
	if len(token) > schemas.MaxSignedHeader {
		return jws{}, &schemas.Error{Kind: schemas.KindTooLarge, Field: typ, Message: "is longer than 8 KiB"}
	}
	if strings.IndexByte(token, '\n') >= 0 || strings.IndexByte(token, '\r') >= 0 { // which base64 would skip
		return jws{}, schemas.FieldError(typ, "is not canonically encoded")
	}
	b := []byte(token)
	header, rest, _ := bytes.Cut(b, []byte("."))
	payload, signature, ok := bytes.Cut(rest, []byte("."))
	if !ok {
		return jws{}, schemas.FieldError(typ, "is not a compact JWS")
	}
	decoded := make([]byte, 0, len(b))
	var parts [3][]byte
	for i, part := range [...][]byte{header, payload, signature} {
		start := len(decoded)
		var err error
		if decoded, err = strictBase64.AppendDecode(decoded, part); err != nil {
			return jws{}, schemas.FieldError(typ, "is not canonically encoded")
		}
		parts[i] = decoded[start:]
	}
	if len(parts[2]) != ed25519.SignatureSize {
		return jws{}, schemas.FieldError(typ, "must have a signature of 64 bytes")
	}
	key, begun := strings.CutPrefix(string(parts[0]), headerBeforeKey)
	key, ended := strings.CutSuffix(key, headerBeforeTyp+typ+headerEnd)
	if !begun || !ended {
		return jws{}, schemas.FieldError(typ, "must have exactly the headers alg "+algEdDSA+", kid and typ "+typ)
	}
	id, err := schemas.ParseKeyID(key)
	return jws{key: id, signed: b[:len(header)+1+len(payload)], payload: parts[1], signature: parts[2]}, err
}

// strictBase64 refuses bits that a second spelling could hide in.
var strictBase64 = base64.RawURLEncoding.Strict()

// readJWS returns the payload and the id of the claimed signer without verifying anything.
func readJWS(token, typ string) ([]byte, schemas.KeyID, error) {
	parsed, err := parseJWS(token, typ)
	if err != nil {
		return nil, "", err
	}
	return parsed.payload, parsed.key, nil
}

// SignGrant signs a grant with the broker's key.
func SignGrant(key ed25519.PrivateKey, g schemas.Grant) (string, error) {
	return signJWS(key, schemas.TypGrant, &g)
}

// VerifyGrant is [Signatures.VerifyGrant] for a single grant.
func VerifyGrant(token string, broker ed25519.PublicKey) (schemas.Grant, error) {
	return new(Signatures).VerifyGrant(token, broker)
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

// GrantKey says by which key a grant claims to be signed.
func GrantKey(token string) (schemas.KeyID, error) {
	_, key, err := readJWS(token, schemas.TypGrant)
	return key, err
}

// SignReceipt signs a receipt with a worker's key; [Session.SignReceipt] also numbers it.
func SignReceipt(key ed25519.PrivateKey, r schemas.Receipt) (string, error) {
	return signJWS(key, schemas.TypReceipt, &r)
}

// VerifyReceipt is [Signatures.VerifyReceipt] for a single receipt.
func VerifyReceipt(token string, worker ed25519.PublicKey) (schemas.Receipt, error) {
	return new(Signatures).VerifyReceipt(token, worker)
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
	payload, err := new(Signatures).verifyJWS(token, schemas.TypKey, broker)
	if err != nil {
		return schemas.KeyBundle{}, err
	}
	return schemas.ParseKeyBundle(payload)
}
