package schemas

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strings"
)

// MaxToken is the longest subject token in bytes. NATS allows more; stream and consumer names built from tokens
// must stay readable and below the server's own limit of 255.
const MaxToken = 48

// idEncoding spells binary ids: lower-case RFC 4648 base32 without padding, one subject token without escaping.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// JobID names a job: 128 bits, chosen by the producer, spelled as 26 characters [a-z2-7]. It is random or, for jobs
// that must be the same job when submitted again, derived from a secret of the tenant; it never contains user data.
type JobID string

// TenantID names an account on the wire: "t" and 16 characters [a-z2-7]. It is random: no name, no chain address.
type TenantID string

// WorkerID names one life of one worker: "w" and 16 characters, a hash of its signing key. A worker that restarts has
// fresh keys and thus a fresh id.
type WorkerID string

// Owner is the TON address that a worker earns for, in raw form "0:" and 64 lower-case hex digits ("-1:" for the
// masterchain). It is part of what a worker attests.
type Owner string

// KeyID names a public key: the first 16 bytes of its SHA-256 in lower-case hex.
type KeyID string

// Hash is a SHA-256 digest. It is spelled "sha256-" and 64 lower-case hex digits in JSON and headers.
type Hash [sha256.Size]byte

// lengths of the textual ids.
const (
	jobIDLen   = 26
	shortIDLen = 17
)

// NewJobID returns a random job id.
func NewJobID() JobID {
	var b [16]byte
	rand.Read(b[:])
	return JobIDFrom(b)
}

// JobIDFrom spells 128 bits as a job id; producers that derive ids use it.
func JobIDFrom(b [16]byte) JobID { return JobID(idEncoding.EncodeToString(b[:])) }

// ParseJobID refuses everything but the canonical spelling.
func ParseJobID(s string) (JobID, error) {
	// Of the last character's five bits two are beyond the 128: one spelling leaves them zero.
	if len(s) != jobIDLen || !base32Chars(s) || strings.IndexByte("aeimquy4", s[jobIDLen-1]) < 0 {
		return "", invalid("job", "must be 26 characters of a-z and 2-7")
	}
	return JobID(s), nil
}

// NewTenantID returns a random tenant id.
func NewTenantID() TenantID {
	var b [10]byte
	rand.Read(b[:])
	return TenantID("t" + idEncoding.EncodeToString(b[:]))
}

// ParseTenantID refuses everything but the canonical spelling.
func ParseTenantID(s string) (TenantID, error) {
	if !shortID(s, 't') {
		return "", invalid("tenant", `must be "t" and 16 characters of a-z and 2-7`)
	}
	return TenantID(s), nil
}

// WorkerIDOf derives the id of the worker that signs with the given public key.
func WorkerIDOf(signKey []byte) WorkerID {
	sum := sha256.Sum256(signKey)
	return WorkerID("w" + idEncoding.EncodeToString(sum[:10]))
}

// ParseWorkerID refuses everything but the canonical spelling.
func ParseWorkerID(s string) (WorkerID, error) {
	if !shortID(s, 'w') {
		return "", invalid("worker", `must be "w" and 16 characters of a-z and 2-7`)
	}
	return WorkerID(s), nil
}

// shortID reports whether s is prefix and 80 bits in canonical base32.
func shortID(s string, prefix byte) bool {
	return len(s) == shortIDLen && s[0] == prefix && base32Chars(s[1:])
}

// base32Chars reports whether s has only the characters of idEncoding.
func base32Chars(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// ParseOwner refuses everything but the canonical raw form. The user-friendly base64 form is converted by
// settlement/ton, which knows its checksum and flags.
func ParseOwner(s string) (Owner, error) {
	workchain, account, ok := strings.Cut(s, ":")
	if !ok || (workchain != "0" && workchain != "-1") || len(account) != 64 || !lowerHex(account) {
		return "", invalid("owner", `must be a raw TON address: "0:" and 64 lower-case hex digits`)
	}
	return Owner(s), nil
}

// KeyIDOf derives the id of a public key.
func KeyIDOf(publicKey []byte) KeyID {
	sum := sha256.Sum256(publicKey)
	return KeyID(hex.EncodeToString(sum[:16]))
}

// ParseKeyID refuses everything but the canonical spelling.
func ParseKeyID(s string) (KeyID, error) {
	if len(s) != 32 || !lowerHex(s) {
		return "", invalid("kid", "must be 32 lower-case hex digits")
	}
	return KeyID(s), nil
}

// HashOf is SHA-256.
func HashOf(b []byte) Hash { return sha256.Sum256(b) }

// hashPrefix names the algorithm in the textual form.
const hashPrefix = "sha256-"

// String spells the hash as in JSON.
func (h Hash) String() string {
	var b [len(hashPrefix) + 2*len(h)]byte
	return string(hex.AppendEncode(append(b[:0], hashPrefix...), h[:]))
}

// MarshalText spells the hash; it serves JSON and headers.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText refuses everything but the canonical spelling.
func (h *Hash) UnmarshalText(b []byte) error {
	parsed, err := ParseHash(string(b))
	if err == nil {
		*h = parsed
	}
	return err
}

// ParseHash is UnmarshalText as a function.
func ParseHash(s string) (h Hash, err error) {
	digits, ok := strings.CutPrefix(s, hashPrefix)
	if !ok || len(digits) != 2*len(h) || !lowerHex(digits) {
		return h, invalid("hash", `must be "sha256-" and 64 lower-case hex digits`)
	}
	for i := range h {
		h[i] = hexDigit(digits[2*i])<<4 | hexDigit(digits[2*i+1])
	}
	return h, nil
}

// hexDigit is the value of one of the digits that lowerHex admits.
func hexDigit(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

// IsZero reports whether the hash was never set; encoding/json's omitzero uses it.
func (h Hash) IsZero() bool { return h == Hash{} }

// ValidToken reports whether s may stand between two dots of a NATS subject: 1 to MaxToken characters [a-z0-9_-].
func ValidToken(s string) bool {
	if s == "" || len(s) > MaxToken {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// lowerHex reports whether s has only the characters 0-9 and a-f.
func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// ModelID is the full name of one exact set of weights: name@revision:root, where root is the hash of the weights.
// Two models with the same id have the same bytes.
type ModelID string

// Limits of the parts of a model id.
const (
	MaxModelName     = 64
	MaxModelRevision = 32
)

// ModelRef is a model id taken apart.
type ModelRef struct {
	// Name is what people type: letters, digits, ".", "_", "-" and "/"; at most MaxModelName bytes.
	Name string
	// Revision tells versions of a name apart: letters, digits, ".", "_" and "-"; at most MaxModelRevision bytes.
	Revision string
	// Root is the hash of the weights: see the catalogue's spec for how it is computed.
	Root Hash
}

// ID puts the reference together.
func (r ModelRef) ID() ModelID { return ModelID(r.Name + "@" + r.Revision + ":" + r.Root.String()) }

// ParseModelID takes a full model id apart and checks every part.
func ParseModelID(s string) (ModelRef, error) {
	name, rest, ok := strings.Cut(s, "@")
	revision, root, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return ModelRef{}, invalid("model", "must be name@revision:sha256-<hex>")
	}
	if !nameChars(name, MaxModelName, "._-/") {
		return ModelRef{}, invalid("model", "name has characters other than a-z A-Z 0-9 . _ - / or a wrong length")
	}
	if !nameChars(revision, MaxModelRevision, "._-") {
		return ModelRef{}, invalid("model", "revision has characters other than a-z A-Z 0-9 . _ - or a wrong length")
	}
	h, err := ParseHash(root)
	if err != nil {
		return ModelRef{}, invalid("model", "root must be sha256-<64 hex digits>")
	}
	return ModelRef{Name: name, Revision: revision, Root: h}, nil
}

// nameChars reports whether s has 1 to limit characters, each a letter, a digit or one of extra.
func nameChars(s string, limit int, extra string) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && strings.IndexByte(extra, c) < 0 {
			return false
		}
	}
	return true
}

// Slug turns a model's name and revision into one subject token: lower case, every other character "-", and a short
// hash of the full id at the end so that two models never share a token.
func (r ModelRef) Slug() string {
	const hashChars = 8
	sum := sha256.Sum256([]byte(r.ID()))
	base := strings.ToLower(r.Name + "-" + r.Revision)
	base = strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, base)
	if limit := MaxToken - hashChars - 1; len(base) > limit {
		base = base[:limit]
	}
	return base + "-" + hex.EncodeToString(sum[:hashChars/2])
}

// Class is the urgency a tenant pays for: its own queue and its own price multiplier.
type Class string

// The three classes, most urgent first. Workers take them in this order.
const (
	Priority Class = "priority"
	Standard Class = "standard"
	Batch    Class = "batch"
)

// Classes lists all classes, most urgent first.
func Classes() []Class { return []Class{Priority, Standard, Batch} }

// ParseClass refuses unknown names.
func ParseClass(s string) (Class, error) {
	switch c := Class(s); c {
	case Priority, Standard, Batch:
		return c, nil
	}
	return "", invalid("class", "must be priority, standard or batch")
}
