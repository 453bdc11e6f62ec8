package schemas

import (
	"crypto/ed25519"
	"time"
)

// MaxCreditEntry bounds an encoded credit entry in bytes.
const MaxCreditEntry = 1 << 10

// Credit is what settlement tells the brokers about one tenant: its entry in the CREDIT bucket. A broker grants a job
// only when Available covers the job's ceiling beside everything it has reserved since.
type Credit struct {
	// V is the version of the form, 1.
	V int `json:"v"`
	// Available is what one broker may reserve for the tenant, in nanoTON: min(balance, stake) less holds, divided by
	// the number of broker replicas.
	Available NanoTON `json:"available"`
	// Key is the tenant's Ed25519 public key (base64 in JSON); spend authorisations must be signed by it.
	Key ed25519.PublicKey `json:"key"`
	// Updated is when settlement computed the entry.
	Updated time.Time `json:"updated"`
	// Through is the stream position up to which outcomes are booked: a broker may forget the reservation of a job
	// whose outcome stands at or before it.
	Through uint64 `json:"through"`
}

// ParseCredit reads an entry strictly.
func ParseCredit(b []byte) (Credit, error) {
	var c Credit
	if err := DecodeJSON(b, &c, MaxCreditEntry); err != nil {
		return Credit{}, err
	}
	if c.V != 1 {
		return Credit{}, invalid("v", "must be 1")
	}
	if c.Available < 0 {
		return Credit{}, invalid("available", "must not be negative")
	}
	if len(c.Key) != ed25519.PublicKeySize {
		return Credit{}, invalid("key", "must be 32 bytes")
	}
	if !wholeSecond(c.Updated) {
		return Credit{}, invalid("updated", "must be UTC with whole seconds")
	}
	return c, nil
}
