package schemas

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// Role says what an attested process is for.
type Role string

// The roles.
const (
	// RoleWorker opens and runs jobs.
	RoleWorker Role = "worker"
	// RoleBroker holds epoch keys and gives grants.
	RoleBroker Role = "broker"
)

// check refuses unknown roles.
func (r Role) check() error {
	if r != RoleWorker && r != RoleBroker {
		return invalid("role", "must be worker or broker")
	}
	return nil
}

// Limits of claims.
const (
	// MaxClaims bounds the encoded claims in bytes.
	MaxClaims = 64 << 10
	// MaxClaimedModels bounds the models a worker has loaded after boot.
	MaxClaimedModels = 256
	// MaxGPUs bounds the GPUs of one machine.
	MaxGPUs = 16
	// MaxClaimsTerm bounds the life of claims: evidence lives at most an hour.
	MaxClaimsTerm = time.Hour
	// HPKEKeySize is the size of an ML-KEM-768+X25519 public key: 1184 + 32 bytes.
	HPKEKeySize = 1184 + 32
)

// BootID tells one boot of a machine from another: 128 random bits made after boot-done, spelled as 32 hex digits.
type BootID [16]byte

// NewBootID returns a random boot id.
func NewBootID() (b BootID) {
	rand.Read(b[:])
	return b
}

// String spells the id as in JSON.
func (b BootID) String() string { return hex.EncodeToString(b[:]) }

// MarshalText spells the id.
func (b BootID) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText refuses everything but the canonical spelling.
func (b *BootID) UnmarshalText(text []byte) error {
	if len(text) != 2*len(b) || !lowerHex(string(text)) {
		return invalid("boot", "must be 32 lower-case hex digits")
	}
	_, err := hex.Decode(b[:], text)
	return err
}

// Claims is what an attested process says about itself. The quote binds the hash of the very bytes sent, so claims are
// as trustworthy as the measured code that made them.
type Claims struct {
	// V is the version of the form, 1. It also fixes the suites: ML-KEM-768+X25519, HKDF-SHA256, AES-256-GCM; Ed25519.
	V int `json:"v"`
	// Role must be the role that the policy gives to the measured image.
	Role Role `json:"role"`
	// HPKE is the public key to which secrets for this boot are sealed, HPKEKeySize bytes.
	HPKE []byte `json:"hpke"`
	// Sign is the Ed25519 public key of this boot: receipts or grants, and the NATS identity.
	Sign []byte `json:"sign"`
	// Owner is the TON address that a worker earns for. A broker has none.
	Owner Owner `json:"owner,omitempty"`
	// Boot is the id of this boot.
	Boot BootID `json:"boot"`
	// GPUs are the digests of the GPU evidence that goes with the quote, in order.
	GPUs []Hash `json:"gpus"`
	// Models are those loaded after boot-done, sorted; measured code vouches for them.
	Models []ModelID `json:"models"`
	// Expires is when these claims are worth nothing any more; at most MaxClaimsTerm after they were made.
	Expires time.Time `json:"expires"`
}

// Encode spells the claims: the bytes that are hashed and sent.
func (c Claims) Encode() ([]byte, error) {
	if c.GPUs == nil {
		c.GPUs = []Hash{}
	}
	if c.Models == nil {
		c.Models = []ModelID{}
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	return EncodeJSON(c)
}

// ParseClaims reads claims strictly: canonical spelling, no unknown fields, everything Check demands.
func ParseClaims(b []byte) (Claims, error) {
	var c Claims
	if err := decodeCanonical(b, &c, MaxClaims); err != nil {
		return Claims{}, err
	}
	if c.GPUs == nil || c.Models == nil {
		return Claims{}, invalid("gpus", "gpus and models must be lists, empty ones spelled []")
	}
	return c, c.Check()
}

// Check refuses claims that no honest process makes. It does not look at the clock.
func (c *Claims) Check() error {
	if c.V != 1 {
		return invalid("v", "must be 1")
	}
	if err := c.Role.check(); err != nil {
		return err
	}
	if len(c.HPKE) != HPKEKeySize {
		return invalid("hpke", "must be an ML-KEM-768+X25519 public key of 1,216 bytes")
	}
	if len(c.Sign) != ed25519.PublicKeySize {
		return invalid("sign", "must be an Ed25519 public key of 32 bytes")
	}
	if err := c.checkOwner(); err != nil {
		return err
	}
	if c.Boot == (BootID{}) {
		return invalid("boot", "must not be zero")
	}
	if len(c.GPUs) > MaxGPUs {
		return &Error{Kind: KindTooLarge, Field: "gpus", Message: "has more than 16 entries"}
	}
	if !utcSecond(c.Expires) {
		return invalid("expires", "must be UTC with whole seconds")
	}
	return checkModels(c.Models, MaxClaimedModels)
}

// checkOwner demands an owner of exactly those who earn.
func (c *Claims) checkOwner() error {
	if c.Role == RoleBroker {
		if c.Owner != "" {
			return invalid("owner", "a broker earns nothing and has no owner")
		}
		return nil
	}
	_, err := ParseOwner(string(c.Owner))
	return err
}

// checkModels demands a sorted list of full model ids.
func checkModels(ids []ModelID, limit int) error {
	if len(ids) > limit {
		return &Error{Kind: KindTooLarge, Field: "models", Message: fmt.Sprintf("has more than %d entries", limit)}
	}
	for i, id := range ids {
		if _, err := ParseModelID(string(id)); err != nil {
			return rename(err, fmt.Sprintf("models[%d]", i))
		}
		if i > 0 && ids[i-1] >= id {
			return invalid(fmt.Sprintf("models[%d]", i), "models must be sorted without duplicates")
		}
	}
	return nil
}

// utcSecond reports whether t has the one spelling of the wire.
func utcSecond(t time.Time) bool {
	_, offset := t.Zone()
	return wholeSecond(t) && offset == 0
}

// ReportData is what the quote signs for the process: 32 bytes that bind the claims as sent and the 32 bytes of the
// verifier's challenge. A zero nonce means that nobody asked: such evidence introduces, it never opens anything.
func ReportData(claims []byte, nonce [32]byte) (data [64]byte) {
	sum := labelled("cocoon/reportdata/v1", claims)
	copy(data[:32], sum[:])
	copy(data[32:], nonce[:])
	return data
}

// GPUNonce is the challenge given to every GPU. It ties a GPU report to the verifier's challenge and to the keys of
// this boot; the digest of the report in the claims ties it back to the quote.
func GPUNonce(nonce [32]byte, hpke, sign []byte) [32]byte {
	return labelled("cocoon/gpunonce/v1", nonce[:], hpke, sign)
}

// labelled hashes parts under a label, each preceded by its length as a 32-bit big-endian number.
func labelled(label string, parts ...[]byte) Hash {
	h := sha256.New()
	h.Write(append([]byte(label), 0))
	for _, part := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write(part)
	}
	return Hash(h.Sum(nil))
}
