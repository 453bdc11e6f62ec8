package schemas

import (
	"crypto/ed25519"
	"time"
)

// MaxCredit bounds the encoded form of a Credit.
const MaxCredit = 1 << 10

// Credit is what settlement tells the brokers about one tenant: one value of the CREDIT bucket.
type Credit struct {
	// V is the version of the form, 1.
	V int `json:"v"`
	// Available is what a broker may have reserved for the tenant at one time. It is already divided by the number of
	// brokers.
	Available NanoTON `json:"available"`
	// Key is the tenant's Ed25519 public key (base64 in JSON); it signs spend authorisations.
	Key []byte `json:"key"`
	// Updated is when this was true: outcomes booked by then are deducted from Available.
	Updated time.Time `json:"updated"`
	// Through is the sequence of the last outcome that is deducted.
	Through uint64 `json:"through"`
}

// Encode spells the credit.
func (c Credit) Encode() ([]byte, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	return EncodeJSON(c)
}

// Check refuses a credit that nobody may publish.
func (c *Credit) Check() error {
	switch {
	case c.V != 1:
		return &Error{Kind: KindUnsupported, Field: "v", Message: "must be 1"}
	case c.Available < 0:
		return invalid("available", "must not be negative")
	case len(c.Key) != ed25519.PublicKeySize:
		return invalid("key", "must be an Ed25519 public key of 32 bytes")
	case !utcSecond(c.Updated):
		return invalid("updated", "must be UTC with whole seconds")
	}
	return nil
}

// ParseCredit reads a credit strictly.
func ParseCredit(b []byte) (Credit, error) {
	var c Credit
	if err := decodeCanonical(b, &c, MaxCredit); err != nil {
		return Credit{}, err
	}
	return c, c.Check()
}
