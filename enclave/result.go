package enclave

import (
	"crypto/hkdf"
	"crypto/sha256"
	"sync"

	"github.com/cocoon-network/cocoon/schemas"
)

// Labels of the keys derived for one run of a job.
const (
	labelResult = "cocoon/result-key/v1"
	labelChunk  = "cocoon/chunk-key/v1"
)

// run names one run of a job: everything that a result and its chunks are bound to.
type run struct {
	job      schemas.JobID
	envelope schemas.Hash
	attempt  uint32
	worker   schemas.WorkerID
	index    uint32
}

// key derives a key of the run from the encapsulated secret (only the reply key's holder can have it) and the reply
// secret (only who opened the job can have it).
func (r *run) key(label string, encapsulated, reply [secretSize]byte) ([secretSize]byte, error) {
	prk, err := hkdf.Extract(sha256.New, encapsulated[:], reply[:])
	if err != nil {
		return [secretSize]byte{}, schemas.Errorf(schemas.KindInternal, "derive: %w", err)
	}
	return expand(prk, label, []byte(r.job), r.envelope[:], be32(r.attempt), []byte(r.worker), be32(r.index)), nil
}

// replies hands out encapsulations to reply keys: the results for one reply key share one, up to
// schemas.MaxPerEncapsulation, so a worker pays for one encapsulation per thousand lines of a bulk.
type replies struct {
	mu    sync.Mutex // guards byKey and order, and is held during an encapsulation: a bulk makes one, not one per slot
	limit int
	byKey map[string]*reply
	order []string // oldest first
}

// reply is one encapsulation to a reply key.
type reply struct {
	enc    []byte
	secret [secretSize]byte
	next   uint32
}

// maxReplyKeys bounds the reply keys a worker remembers an encapsulation for.
const maxReplyKeys = 1024

// newReplies makes an empty set.
func newReplies(limit int) *replies {
	return &replies{limit: limit, byKey: make(map[string]*reply)}
}

// take returns an encapsulation to the key and a number under it that nobody else has.
func (s *replies) take(public []byte) (enc []byte, secret [secretSize]byte, index uint32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.byKey[string(public)]
	if r == nil || r.next == schemas.MaxPerEncapsulation {
		pk, err := kem().NewPublicKey(public)
		if err != nil {
			return nil, secret, 0, schemas.FieldError("request.reply_key", "is not an ML-KEM-768+X25519 public key")
		}
		fresh := &reply{}
		if fresh.enc, fresh.secret, err = encapsulate(pk, kidOf(public), purposeResult); err != nil {
			return nil, secret, 0, schemas.Errorf(schemas.KindInternal, "%w", err)
		}
		name := string(public)
		if r == nil {
			s.remember(name)
		}
		r = fresh
		s.byKey[name] = r
	}
	index = r.next
	r.next++
	return r.enc, r.secret, index, nil
}

// remember makes room for a new key.
func (s *replies) remember(key string) {
	if len(s.order) == s.limit {
		delete(s.byKey, s.order[0])
		s.order = s.order[1:]
	}
	s.order = append(s.order, key)
}

// sealResult seals a result for one run.
func sealResult(r run, enc []byte, encapsulated, replySecret [secretSize]byte, result *schemas.Result) ([]byte, error) {
	key, err := r.key(labelResult, encapsulated, replySecret)
	if err != nil {
		return nil, err
	}
	sealed := schemas.SealedResult{
		Version: schemas.EnvelopeVersion, Attempt: r.attempt, Enc: enc, Index: r.index,
		Payload: sealFrames(key, pad(result.Encode(), resultFloor)),
	}
	return sealed.Encode(), nil
}

// openResult opens a sealed result of a run; the index of the run is taken from the sealed form.
func (t *Tenant) openResult(r run, body []byte) (*schemas.Result, error) {
	sealed, err := schemas.ParseSealedResult(body)
	if err != nil {
		return nil, err
	}
	if sealed.Attempt != r.attempt {
		return nil, errSealed()
	}
	r.index = sealed.Index
	encapsulated, err := t.encapsulated(sealed.Enc)
	if err != nil {
		return nil, err
	}
	key, err := r.key(labelResult, encapsulated, t.replySecret(r.job))
	if err != nil {
		return nil, err
	}
	padded, err := openFrames(key, sealed.Payload)
	if err != nil {
		return nil, err
	}
	plain, err := unpad(padded, resultFloor)
	if err != nil {
		return nil, err
	}
	result, err := schemas.ParseResult(plain)
	if err != nil {
		return nil, errSealed()
	}
	return result, nil
}
