package schemas

import (
	"crypto/sha256"
	"encoding/hex"
)

// EnvelopeVersion is the version of every sealed form. It fixes the suite: a new algorithm means a new version, and
// nothing is ever negotiated.
const EnvelopeVersion = 1

// Suite names the algorithms of version 1 as HPKE code points: KEM ML-KEM-768+X25519 (0x647a), KDF HKDF-SHA256
// (0x0001), AEAD AES-256-GCM (0x0002).
const Suite = "647a-0001-0002"

// Sizes that follow from the suite, in bytes.
const (
	// PublicKeySize is the size of an HPKE public key.
	PublicKeySize = 1216
	// EncSize is the size of an encapsulated key.
	EncSize = 1120
	// FrameSize is the size of the plaintext in one frame of a sealed payload; the last frame may be shorter.
	FrameSize = 16 << 10
	// TagSize is the size of the authentication tag after each frame.
	TagSize = 16
)

// Limits of an envelope.
const (
	// MaxRecipients bounds the recipient list: 1 in broker mode, 2 to MaxRecipients in pin mode.
	MaxRecipients = 8
	// MaxPerEncapsulation bounds the jobs (or results) that may share one encapsulation.
	MaxPerEncapsulation = 1000
	// MaxWrapped bounds a wrapped key with its spend authorisation.
	MaxWrapped = 512
	// MaxEnvelope bounds an encoded envelope: a body of MaxRequestBody, padded, with tags and recipients.
	MaxEnvelope = 20 << 20
)

// Mode says who may open an envelope.
type Mode uint8

// The modes.
const (
	// ModeBroker: one recipient, the model's epoch key. The broker releases the content key job by job.
	ModeBroker Mode = 1
	// ModePin: 2 to 8 recipients, the attested keys of named workers. No broker can open the job.
	ModePin Mode = 2
)

// String is the mode's name.
func (m Mode) String() string {
	switch m {
	case ModeBroker:
		return "broker"
	case ModePin:
		return "pin"
	}
	return "unknown"
}

// Recipient is one holder of the content key.
type Recipient struct {
	_ struct{} `cbor:",toarray"`
	// Key is the recipient's key id as bytes.
	Key [16]byte
	// Enc is the encapsulated key; up to MaxPerEncapsulation jobs of one submission share it.
	Enc []byte
	// Index is the job's number under Enc, from 0. No two jobs under one Enc have the same.
	Index uint32
	// Wrapped is the content key and the spend authorisation, sealed under a key derived from Enc's exported secret,
	// Index and the attributes.
	Wrapped []byte
}

// KeyID spells the recipient's key.
func (r *Recipient) KeyID() KeyID { return KeyID(hex.EncodeToString(r.Key[:])) }

// KeyBytes is the binary form of a key id; the zero value for one that does not parse.
func (k KeyID) KeyBytes() (b [16]byte) {
	if raw, err := hex.DecodeString(string(k)); err == nil && len(raw) == len(b) {
		copy(b[:], raw)
	}
	return b
}

// Envelope is a sealed job as it travels in the body of a job message. See spec/envelope.md.
type Envelope struct {
	_ struct{} `cbor:",toarray"`
	// Version is EnvelopeVersion.
	Version uint8
	// Mode says who may open it.
	Mode Mode
	// Recipients hold the content key.
	Recipients []Recipient
	// Commit commits to the content key: AES-GCM alone does not.
	Commit [32]byte
	// Payload is the padded request in frames of FrameSize, each with its tag.
	Payload []byte
}

// walk visits the fields of a recipient.
func (r *Recipient) walk(f *form) {
	f.fields(4)
	f.fixed(r.Key[:])
	f.octets(&r.Enc)
	unsigned(f, &r.Index)
	f.octets(&r.Wrapped)
}

// walk visits the fields of an envelope.
func (e *Envelope) walk(f *form) {
	f.fields(5)
	unsigned(f, &e.Version)
	unsigned(f, &e.Mode)
	list(f, &e.Recipients, func(f *form, r *Recipient) { r.walk(f) })
	f.fixed(e.Commit[:])
	f.octets(&e.Payload)
}

// Encode spells the envelope.
func (e *Envelope) Encode() []byte { return EncodeCBOR(e) }

// ParseEnvelope reads an envelope strictly.
func ParseEnvelope(b []byte) (*Envelope, error) {
	var e Envelope
	if err := DecodeCBOR(b, &e, MaxEnvelope); err != nil {
		return nil, rename(err, "envelope")
	}
	if err := e.Check(); err != nil {
		return nil, err
	}
	return &e, nil
}

// Check refuses envelopes that no producer may send.
func (e *Envelope) Check() error {
	if e.Version != EnvelopeVersion {
		return &Error{Kind: KindUnsupported, Field: "envelope.version", Message: "is not 1"}
	}
	switch n := len(e.Recipients); {
	case e.Mode == ModeBroker && n != 1:
		return invalid("envelope.recipients", "must be exactly one in broker mode")
	case e.Mode == ModePin && (n < 2 || n > MaxRecipients):
		return invalid("envelope.recipients", "must be 2 to 8 in pin mode")
	case e.Mode != ModeBroker && e.Mode != ModePin:
		return &Error{Kind: KindUnsupported, Field: "envelope.mode", Message: "is neither broker nor pin"}
	}
	for i := range e.Recipients {
		if err := e.Recipients[i].check(); err != nil {
			return err
		}
		if i > 0 && string(e.Recipients[i-1].Key[:]) >= string(e.Recipients[i].Key[:]) {
			return invalid("envelope.recipients", "must be sorted by key without duplicates")
		}
	}
	return checkPayload("envelope.payload", e.Payload)
}

// check refuses a recipient of wrong sizes.
func (r *Recipient) check() error {
	if len(r.Enc) != EncSize {
		return invalid("envelope.recipients.enc", "must be 1,120 bytes")
	}
	if r.Index >= MaxPerEncapsulation {
		return invalid("envelope.recipients.index", "must be below 1,000")
	}
	if len(r.Wrapped) <= TagSize || len(r.Wrapped) > MaxWrapped {
		return invalid("envelope.recipients.wrapped", "must have 17 to 512 bytes")
	}
	return nil
}

// checkPayload refuses a payload that cannot be a sequence of frames: empty, or a last frame without plaintext.
func checkPayload(field string, payload []byte) error {
	if rest := len(payload) % (FrameSize + TagSize); len(payload) == 0 || rest != 0 && rest <= TagSize {
		return invalid(field, "must be frames of 16,384 bytes and a tag, the last one shorter but not empty")
	}
	return nil
}

// RecipientsHash binds the recipient list, in order.
func (e *Envelope) RecipientsHash() Hash {
	fields := make([][]byte, 0, 4*MaxRecipients)
	for i := range e.Recipients {
		r := &e.Recipients[i]
		fields = append(fields, r.Key[:], r.Enc, be32(r.Index), r.Wrapped)
	}
	return HashFields("cocoon/recipients/v1", fields...)
}

// PayloadHash is the hash of the sealed payload.
func (e *Envelope) PayloadHash() Hash { return sha256.Sum256(e.Payload) }

// Hash names the whole sealed job, attributes included: message id, grant, result and receipt cite it.
func (e *Envelope) Hash(a *Attributes) Hash {
	return EnvelopeHash(a.Digest(), e.Mode, e.RecipientsHash(), e.Commit, e.PayloadHash())
}

// EnvelopeHash computes Envelope.Hash from its parts, for who does not hold the payload (the broker).
func EnvelopeHash(attributes Hash, mode Mode, recipients Hash, commit [32]byte, payload Hash) Hash {
	return HashFields("cocoon/envelope/v1", []byte{EnvelopeVersion, byte(mode)}, attributes[:], recipients[:], commit[:], payload[:])
}

// PoolKeyID is the key id that stands in the attributes of a pinned job: it names the sorted set of recipient keys.
func PoolKeyID(keys [][16]byte) KeyID {
	fields := make([][]byte, len(keys))
	for i := range keys {
		fields[i] = keys[i][:]
	}
	h := HashFields("cocoon/pool/v1", fields...)
	return KeyID(hex.EncodeToString(h[:16]))
}
