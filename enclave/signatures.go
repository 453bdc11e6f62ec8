package enclave

import (
	"crypto/ed25519"
	"sync"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"

	"github.com/cocoon-network/cocoon/schemas"
)

// maxSignatureKeys bounds the keys that a Signatures keeps: 1.5 MB of tables.
const maxSignatureKeys = 1 << 10

// Signatures verifies statements, faster those by keys it knows. Brokers, workers and tenants sign every job with the same
// few keys, and after HPKE their verification is most of a job's processor time. So a key that has verified gets its point
// and a table of its multiples, with which a verification takes about half the time. The zero value is ready and knows no
// key; it keeps at most 1,024. Safe for concurrent use, and not to be copied.
//
// Why that is safe: everything here is public, so it may take a time that depends on it. A table changes no answer: the
// options are those under which curve25519-voi takes exactly what crypto/ed25519 takes, and the tests hold them against each
// other on Wycheproof's cases, on points of small order, on other spellings of points and scalars, and by fuzzing. The first
// signature that a key verifies is verified by crypto/ed25519; only then is the key kept, so who invents keys fills nothing.
type Signatures struct {
	mu sync.Mutex // guards keys
	// keys that have verified, by their bytes; a key gets its table at its second signature.
	keys map[[ed25519.PublicKeySize]byte]*voi.ExpandedPublicKey
}

// verify reports whether the signature of a message is by the key. A key of another length has signed nothing.
func (s *Signatures) verify(key ed25519.PublicKey, message, signature []byte) bool {
	if len(key) != ed25519.PublicKeySize {
		return false
	}
	id := [ed25519.PublicKeySize]byte(key)
	s.mu.Lock()
	table, known := s.keys[id]
	s.mu.Unlock()
	if !known {
		ok := ed25519.Verify(key, message, signature)
		if ok {
			s.remember(id, nil)
		}
		return ok
	}
	if table == nil {
		var err error
		if table, err = voi.NewExpandedPublicKey(voi.PublicKey(id[:])); err != nil {
			return ed25519.Verify(key, message, signature)
		}
		s.remember(id, table)
	}
	return verifyWithTable(table, message, signature)
}

// verifyWithTable takes what crypto/ed25519 takes.
func verifyWithTable(table *voi.ExpandedPublicKey, message, signature []byte) bool {
	return voi.VerifyExpandedWithOptions(table, message, signature, &voi.Options{Verify: voi.VerifyOptionsStdLib})
}

// remember keeps a key, at the price of another one when there are too many.
func (s *Signatures) remember(id [ed25519.PublicKeySize]byte, table *voi.ExpandedPublicKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.keys[id]; !known && len(s.keys) >= maxSignatureKeys {
		for other := range s.keys {
			delete(s.keys, other)
			break
		}
	}
	if s.keys == nil {
		s.keys = map[[ed25519.PublicKeySize]byte]*voi.ExpandedPublicKey{}
	}
	s.keys[id] = table
}

// VerifyGrant verifies a grant's form and its signature by the broker's key. It looks at no clock and at no policy.
func (s *Signatures) VerifyGrant(token string, broker ed25519.PublicKey) (schemas.Grant, error) {
	payload, err := s.verifyJWS(token, schemas.TypGrant, broker)
	if err != nil {
		return schemas.Grant{}, err
	}
	return schemas.ParseGrant(payload)
}

// VerifyReceipt verifies a receipt's form and its signature by the worker's key, which the grant names.
func (s *Signatures) VerifyReceipt(token string, worker ed25519.PublicKey) (schemas.Receipt, error) {
	payload, err := s.verifyJWS(token, schemas.TypReceipt, worker)
	if err != nil {
		return schemas.Receipt{}, err
	}
	return schemas.ParseReceipt(payload)
}
