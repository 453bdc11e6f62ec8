package schemas

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"time"
)

// Limits of a signed document.
const (
	// MaxRootKeys bounds a root key set, and with it the signatures of a document that count.
	MaxRootKeys = 16
	// MaxSignatures bounds the signatures of a document, those of unknown keys included.
	MaxSignatures = 2 * MaxRootKeys
	// maxSignedSize bounds the wrapped form: base64 of the largest payload, and the signatures.
	maxSignedSize = MaxDocumentSize/3*4 + 64<<10
)

// Document is a form that operators sign: [Policy] or [Catalogue].
type Document interface {
	// Check refuses what nobody may publish.
	Check() error
	// Head is what the rules of signing, rolling forward and expiring look at.
	Head() Head
	// MediaType separates the kinds of documents: a signature over one never counts for another.
	MediaType() string
}

// Head is the part that every signed document has.
type Head struct {
	// Version only ever grows.
	Version uint64
	// Issued and Expires bound the document.
	Issued, Expires time.Time
	// Environment keeps simulated and real networks apart.
	Environment Environment
}

// RootKeys is the set of keys that may sign documents, and how many of them must. Its hash is measured into every
// enclave, so that an enclave which obeys other people is another enclave.
type RootKeys struct {
	// K is the number of different keys that must have signed, 1 to len(Keys).
	K int `json:"k"`
	// Keys are Ed25519 public keys, sorted, without duplicates; base64 in JSON.
	Keys []ed25519.PublicKey `json:"keys"`
}

// NewRootKeys sorts the keys and checks the set.
func NewRootKeys(k int, keys ...ed25519.PublicKey) (RootKeys, error) {
	r := RootKeys{K: k, Keys: append([]ed25519.PublicKey(nil), keys...)}
	sort.Slice(r.Keys, func(i, j int) bool { return bytes.Compare(r.Keys[i], r.Keys[j]) < 0 })
	return r, r.Check()
}

// ParseRootKeys reads the JSON form strictly.
func ParseRootKeys(b []byte) (RootKeys, error) {
	var r RootKeys
	if err := DecodeJSON(b, &r, 8<<10); err != nil {
		return RootKeys{}, err
	}
	return r, r.Check()
}

// Check refuses sets that cannot sign or count a key twice.
func (r RootKeys) Check() error {
	if len(r.Keys) == 0 || len(r.Keys) > MaxRootKeys {
		return invalid("keys", "must have 1 to 16 root keys")
	}
	if r.K < 1 || r.K > len(r.Keys) {
		return invalid("k", "must lie between 1 and the number of root keys")
	}
	for i, key := range r.Keys {
		if len(key) != ed25519.PublicKeySize {
			return invalid(fmt.Sprintf("keys[%d]", i), "must be an Ed25519 public key of 32 bytes")
		}
		if i > 0 && bytes.Compare(r.Keys[i-1], key) >= 0 {
			return invalid(fmt.Sprintf("keys[%d]", i), "keys must be sorted without duplicates")
		}
	}
	return nil
}

// Hash is the identity of the set, the payload of the RTMR3 event "policy-root": SHA-256 over the label
// "cocoon/roots/v1", a zero byte, k and the number of keys as 16-bit big-endian numbers, and the keys.
func (r RootKeys) Hash() Hash {
	h := sha256.New()
	h.Write([]byte("cocoon/roots/v1\x00"))
	h.Write(binary.BigEndian.AppendUint16(nil, uint16(r.K)))
	h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(r.Keys))))
	for _, key := range r.Keys {
		h.Write(key)
	}
	return Hash(h.Sum(nil))
}

// Trust is what a process believes before it has spoken to anyone: who signs, and whether the hardware is real.
type Trust struct {
	// Roots sign policies and catalogues.
	Roots RootKeys `json:"roots"`
	// Environment is the only one whose documents are accepted.
	Environment Environment `json:"environment"`
	// PolicyFloor is the version below which no policy is accepted; 0: any. A process that keeps nothing over restarts has no
	// other memory of what it has seen.
	PolicyFloor uint64 `json:"policy_floor,omitempty"`
}

// ParseTrust reads the JSON form strictly.
func ParseTrust(b []byte) (Trust, error) {
	var t Trust
	if err := DecodeJSON(b, &t, 16<<10); err != nil {
		return Trust{}, err
	}
	return t, t.Check()
}

// Check refuses trust that would believe nobody or anything.
func (t Trust) Check() error {
	if err := t.Roots.Check(); err != nil {
		return rename(err, "roots."+err.(*Error).Field)
	}
	return t.Environment.check()
}

// check refuses everything but the two environments.
func (e Environment) check() error {
	if e != Production && e != Simulated {
		return invalid("environment", "must be production or simulated")
	}
	return nil
}

// Signed is a document with its signatures: a DSSE envelope (github.com/secure-systems-lab/dsse).
type Signed struct {
	// Payload is the canonical JSON of the document.
	Payload []byte `json:"payload"`
	// PayloadType is the document's media type.
	PayloadType string `json:"payloadType"`
	// Signatures may include ones by keys we do not know: they count for nothing and harm nothing.
	Signatures []Signature `json:"signatures"`
}

// Signature is one signature over the DSSE pre-authentication encoding of type and payload.
type Signature struct {
	// KeyID is KeyIDOf the public key: a hint, never trusted.
	KeyID KeyID `json:"keyid"`
	// Sig is the Ed25519 signature.
	Sig []byte `json:"sig"`
}

// SignDocument checks the document and signs its canonical form with every given key. Further signers add theirs with
// [Signed.Sign].
func SignDocument(d Document, keys ...ed25519.PrivateKey) (*Signed, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	payload, err := EncodeJSON(d)
	if err != nil {
		return nil, err
	}
	s := &Signed{Payload: payload, PayloadType: d.MediaType(), Signatures: []Signature{}}
	for _, key := range keys {
		if err := s.Sign(key); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Sign adds the signature of one key, or replaces the one it had.
func (s *Signed) Sign(key ed25519.PrivateKey) error {
	if len(key) != ed25519.PrivateKeySize {
		return invalid("key", "must be an Ed25519 private key")
	}
	signature := Signature{KeyID: KeyIDOf(key.Public().(ed25519.PublicKey)), Sig: ed25519.Sign(key, s.preimage())}
	for i := range s.Signatures {
		if s.Signatures[i].KeyID == signature.KeyID {
			s.Signatures[i] = signature
			return nil
		}
	}
	if len(s.Signatures) == MaxSignatures {
		return &Error{Kind: KindTooLarge, Field: "signatures", Message: "has 32 signatures already"}
	}
	s.Signatures = append(s.Signatures, signature)
	return nil
}

// preimage is the DSSE pre-authentication encoding.
func (s *Signed) preimage() []byte {
	b := []byte("DSSEv1 ")
	b = append(b, strconv.Itoa(len(s.PayloadType))+" "+s.PayloadType+" "+strconv.Itoa(len(s.Payload))+" "...)
	return append(b, s.Payload...)
}

// Encode spells the envelope as JSON.
func (s *Signed) Encode() ([]byte, error) { return EncodeJSON(s) }

// Hash is the identity of the document: the hash of its payload, whoever signed it.
func (s *Signed) Hash() Hash { return HashOf(s.Payload) }

// ParseSigned reads an envelope strictly. It proves nothing about the signatures: see [VerifyDocument].
func ParseSigned(b []byte) (*Signed, error) {
	var s Signed
	if err := decodeCanonical(b, &s, maxSignedSize); err != nil {
		return nil, err
	}
	if len(s.Payload) > MaxDocumentSize {
		return nil, &Error{Kind: KindTooLarge, Field: "payload", Message: "is longer than 16 MiB"}
	}
	if len(s.Signatures) > MaxSignatures {
		return nil, &Error{Kind: KindTooLarge, Field: "signatures", Message: "has more than 32 entries"}
	}
	for i, signature := range s.Signatures {
		if _, err := ParseKeyID(string(signature.KeyID)); err != nil {
			return nil, rename(err, fmt.Sprintf("signatures[%d].keyid", i))
		}
	}
	return &s, nil
}

// Signers lists which of the root keys have signed, each once, in the order of the set.
func (s *Signed) Signers(roots RootKeys) []KeyID {
	var signers []KeyID
	preimage := s.preimage()
	for _, key := range roots.Keys {
		id := KeyIDOf(key)
		for _, signature := range s.Signatures {
			if signature.KeyID == id && ed25519.Verify(key, preimage, signature.Sig) {
				signers = append(signers, id)
				break
			}
		}
	}
	return signers
}

// VerifyDocument opens a signed document and demands everything that makes it binding: the right kind, K signatures by
// different root keys, a canonical payload that passes its own Check, the environment we live in, an issue date not
// ahead of now by more than MaxClockSkew, an expiry after now, and a version not below previous (0: any). Two documents
// with one version are told apart by their hash, which is the caller's to compare.
//
// Wrong bytes are KindInvalid; a document that is well made but not binding is KindPolicy, with the field that decides.
func VerifyDocument[T any, D interface {
	*T
	Document
}](signed []byte, trust Trust, previous uint64, now time.Time) (D, Hash, error) {
	s, err := ParseSigned(signed)
	if err != nil {
		return nil, Hash{}, err
	}
	d := D(new(T))
	if s.PayloadType != d.MediaType() {
		return nil, Hash{}, invalid("payloadType", "must be "+d.MediaType())
	}
	if err := trust.Check(); err != nil {
		return nil, Hash{}, err
	}
	if have := len(s.Signers(trust.Roots)); have < trust.Roots.K {
		return nil, Hash{}, refused("signatures", "has %d valid signatures of root keys, needs %d", have, trust.Roots.K)
	}
	if err := decodeCanonical(s.Payload, d, MaxDocumentSize); err != nil {
		return nil, Hash{}, err
	}
	if err := d.Check(); err != nil {
		return nil, Hash{}, err
	}
	if err := d.Head().binding(trust.Environment, previous, now); err != nil {
		return nil, Hash{}, err
	}
	return d, s.Hash(), nil
}

// MaxClockSkew is how far another party's clock may be ahead of ours.
const MaxClockSkew = 2 * time.Minute

// binding judges a well-signed document by time, version and environment.
func (h Head) binding(environment Environment, previous uint64, now time.Time) error {
	if h.Environment != environment {
		return refused("environment", "is %s; this process trusts only %s", h.Environment, environment)
	}
	if h.Version < previous {
		return refused("version", "is %d, rolled back from %d", h.Version, previous)
	}
	if h.Issued.After(now.Add(MaxClockSkew)) {
		return refused("issued", "is %s, in the future", h.Issued.Format(time.RFC3339))
	}
	return h.Live(now)
}

// Live refuses a document that has expired.
func (h Head) Live(now time.Time) error {
	if !now.Before(h.Expires) {
		return refused("expires", "expired at %s", h.Expires.Format(time.RFC3339))
	}
	return nil
}

// DocumentHash is the hash under which a document is known: SHA-256 of its canonical payload.
func DocumentHash(d Document) (Hash, error) {
	b, err := EncodeJSON(d)
	return HashOf(b), err
}

// refused is a KindPolicy error that names the field which decided.
func refused(field, format string, args ...any) error {
	return &Error{Kind: KindPolicy, Field: field, Message: fmt.Sprintf(format, args...)}
}

// EncodeJSON is the one JSON spelling of a value: encoding/json without white space and without HTML escapes.
func EncodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, &Error{Kind: KindInvalid, Message: "cannot be encoded: " + err.Error(), Err: err}
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// decodeCanonical is DecodeJSON that also refuses any second spelling of the same value. What encodes again to the same
// bytes has no duplicate keys, no trailing data and no invalid UTF-8 either, so that one comparison checks it all.
func decodeCanonical(b []byte, v any, limit int) error {
	if len(b) > limit {
		return &Error{Kind: KindTooLarge, Message: "document is longer than " + strconv.Itoa(limit) + " bytes"}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return jsonError(err)
	}
	again, err := EncodeJSON(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return &Error{Kind: KindInvalid, Message: "is not in canonical form" + firstDifference(again, b)}
	}
	return nil
}

// firstDifference tells a person where two spellings part.
func firstDifference(want, have []byte) string {
	n := min(len(want), len(have))
	i := 0
	for i < n && want[i] == have[i] {
		i++
	}
	return " at byte " + strconv.Itoa(i)
}
