package enclave

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Purposes of encapsulations and labels of keys in an envelope; the spec pages list them.
const (
	purposeJob    = "cocoon/job/v1"
	labelWrap     = "cocoon/wrap/v1"
	labelCommit   = "cocoon/commit/v1"
	labelPayload  = "cocoon/payload/v1"
	purposeResult = "cocoon/result/v1"
)

// Defaults of attributes that a caller leaves zero.
const (
	DefaultLifetime = time.Hour
	DefaultAttempts = 3
)

// SealedJob is a job ready to be published.
type SealedJob struct {
	// Attributes are the public headers, completed.
	Attributes schemas.Attributes
	// Envelope is the body of the job message.
	Envelope []byte
	// Hash names the sealed job; it is the message id, and the grant and the result are bound to it.
	Hash schemas.Hash
}

// Submission seals the jobs of one tenant for one model. Up to schemas.MaxPerEncapsulation jobs share one encapsulation,
// so a bulk of a thousand lines costs one; who sees the envelopes can tell that these jobs belong together. A single job
// is a bulk of one. It is safe for concurrent use.
type Submission struct {
	tenant  *Tenant
	model   schemas.ModelID
	policy  schemas.Hash
	mode    schemas.Mode
	targets []target
	keyID   schemas.KeyID
	// sealUntil is when the keys must have been verified again, openUntil the last moment a job can be opened.
	sealUntil, openUntil time.Time

	mu      sync.Mutex // guards current; held during an encapsulation, so that a bulk makes one and not one per goroutine
	current *encapsulations
}

// target is one recipient.
type target struct {
	kid    [16]byte
	public hpke.PublicKey
}

// encapsulations are one encapsulation per target, shared by up to MaxPerEncapsulation jobs.
type encapsulations struct {
	encs    [][]byte
	secrets [][secretSize]byte
	// proof is the tenant's signature for all jobs of the encapsulation, in broker mode.
	proof [ed25519.SignatureSize]byte
	next  uint32
}

// NewSubmission prepares to seal jobs to a model's epoch key.
func NewSubmission(t *Tenant, key *TrustedKey) *Submission {
	return &Submission{
		tenant: t, model: key.bundle.Model, policy: key.admission.PolicyHash, mode: schemas.ModeBroker,
		targets: []target{{key.bundle.Key.KeyBytes(), key.public}}, keyID: key.bundle.Key,
		sealUntil: key.GoodUntil(), openUntil: key.bundle.DecryptUntil,
	}
}

// NewPinned prepares to seal jobs to 2 to 8 named workers; no broker can open them. The jobs live no longer than the
// shortest admission among the workers, because nobody else can run them.
func NewPinned(t *Tenant, model schemas.ModelID, workers []*TrustedWorker) (*Submission, error) {
	if len(workers) < 2 || len(workers) > schemas.MaxRecipients {
		return nil, schemas.FieldError("workers", "must be 2 to 8")
	}
	s := &Submission{tenant: t, model: model, policy: workers[0].admission.PolicyHash, mode: schemas.ModePin}
	for _, w := range workers {
		if !slices.Contains(w.admission.Models, model) {
			return nil, schemas.FieldError("workers", "one of them does not serve the model")
		}
		s.targets = append(s.targets, target{kidOf(w.public.Bytes()), w.public})
		if s.sealUntil.IsZero() || w.admission.NotAfter.Before(s.sealUntil) {
			s.sealUntil = w.admission.NotAfter
		}
	}
	slices.SortFunc(s.targets, func(a, b target) int { return bytes.Compare(a.kid[:], b.kid[:]) })
	kids := make([][16]byte, len(s.targets))
	for i := range s.targets {
		kids[i] = s.targets[i].kid
		if i > 0 && kids[i] == kids[i-1] {
			return nil, schemas.FieldError("workers", "one of them is named twice")
		}
	}
	s.keyID, s.openUntil = schemas.PoolKeyID(kids), s.sealUntil
	return s, nil
}

// Key is the key id that the jobs carry.
func (s *Submission) Key() schemas.KeyID { return s.keyID }

// GoodUntil is when the submission stops sealing, because its keys must be verified again.
func (s *Submission) GoodUntil() time.Time { return s.sealUntil }

// SpendLimit says what a job may cost beyond its attributes' Budget.
type SpendLimit struct {
	// Multiplier is the highest price multiplier the tenant pays. Required; the class's multiplier in the catalogue is
	// what most callers want.
	Multiplier schemas.BasisPoints
}

// Seal seals one job. Of the attributes only Budget is required; the zero values of the others mean: a random ID, now,
// class standard, DefaultLifetime, DefaultAttempts; Tenant, Model, Key and Policy are the submission's and must be zero
// or equal. It fails with KindKeyLost when the keys must be verified again first.
func (s *Submission) Seal(a schemas.Attributes, r schemas.Request, limit SpendLimit) (SealedJob, error) {
	if err := s.complete(&a); err != nil {
		return SealedJob{}, err
	}
	r.Version, r.ReplyKey, r.ReplySecret = schemas.EnvelopeVersion, s.tenant.public, s.tenant.replySecret(a.ID)
	r.Method, r.ContentType = orDefault(r.Method, "POST"), orDefault(r.ContentType, "application/json")
	if err := r.Check(); err != nil {
		return SealedJob{}, err
	}
	shared, index, err := s.take()
	if err != nil {
		return SealedJob{}, err
	}
	digest := a.Digest()
	wrap := schemas.Wrap{Spend: schemas.Spend{
		Tenant: a.Tenant, Job: a.ID, Ceiling: a.Budget, Multiplier: limit.Multiplier, Signature: shared.proof,
	}}
	if err := wrap.Spend.Check(&a); err != nil {
		return SealedJob{}, err
	}
	rand.Read(wrap.Content[:])
	defer clear(wrap.Content[:])
	e := schemas.Envelope{Version: schemas.EnvelopeVersion, Mode: s.mode, Commit: expand(wrap.Content[:], labelCommit, digest[:])}
	if s.mode == schemas.ModePin {
		wrap.Spend.Signature = [64]byte(ed25519.Sign(s.tenant.sign, schemas.SpendJob(&wrap.Spend, digest, e.Commit)))
	}
	plain := wrap.Encode()
	for i := range s.targets {
		key := wrapKey(shared.secrets[i], s.mode, s.targets[i].kid, index, digest)
		e.Recipients = append(e.Recipients, schemas.Recipient{
			Key: s.targets[i].kid, Enc: shared.encs[i], Index: index, Wrapped: sealOnce(key, plain),
		})
	}
	recipients := e.RecipientsHash()
	e.Payload = sealFrames(payloadKey(wrap.Content, s.mode, digest, recipients), pad(r.Encode(), requestFloor))
	hash := schemas.EnvelopeHash(digest, e.Mode, recipients, e.Commit, e.PayloadHash())
	return SealedJob{Attributes: a, Envelope: e.Encode(), Hash: hash}, nil
}

// complete fills and checks attributes.
func (s *Submission) complete(a *schemas.Attributes) error {
	now := time.Now().UTC()
	if !now.Before(s.sealUntil) {
		return &schemas.Error{Kind: schemas.KindKeyLost, Field: "key", Message: "must be verified again before more is sealed to it"}
	}
	fill := func(field string, have *string, want string) error {
		if *have == "" {
			*have = want
		}
		if *have != want {
			return schemas.FieldError(field, "is not that of the submission")
		}
		return nil
	}
	for _, err := range []error{
		fill("ce-source", (*string)(&a.Tenant), string(s.tenant.id)),
		fill("ce-subject", (*string)(&a.Model), string(s.model)),
		fill("ce-cocoonkid", (*string)(&a.Key), string(s.keyID)),
	} {
		if err != nil {
			return err
		}
	}
	if a.ID == "" {
		a.ID = schemas.NewJobID()
	}
	if a.Class == "" {
		a.Class = schemas.Standard
	}
	if a.Attempts == 0 {
		a.Attempts = DefaultAttempts
	}
	if a.Policy.IsZero() {
		a.Policy = s.policy
	}
	if a.Time.IsZero() {
		a.Time = now.Truncate(time.Second)
	}
	if a.Expiry.IsZero() {
		a.Expiry = a.Time.Add(DefaultLifetime)
		if a.Expiry.After(s.openUntil) {
			a.Expiry = s.openUntil.UTC().Truncate(time.Second)
		}
	}
	if a.Expiry.After(s.openUntil) {
		return schemas.FieldError("ce-cocoonexpiry", "lies after the last moment that the key can open the job")
	}
	return a.Check()
}

// take hands out the next number under the current encapsulation, making a new one when there is none or it is used up.
func (s *Submission) take() (*encapsulations, uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.current.next == schemas.MaxPerEncapsulation {
		fresh := &encapsulations{}
		for _, t := range s.targets {
			enc, secret, err := encapsulate(t.public, t.kid, purposeJob)
			if err != nil {
				return nil, 0, schemas.Errorf(schemas.KindInternal, "%w", err)
			}
			fresh.encs, fresh.secrets = append(fresh.encs, enc), append(fresh.secrets, secret)
		}
		if s.mode == schemas.ModeBroker {
			fresh.proof = [64]byte(ed25519.Sign(s.tenant.sign, schemas.SpendSubmission(s.tenant.id, s.keyID, fresh.encs[0])))
		}
		s.current = fresh
	}
	index := s.current.next
	s.current.next++
	return s.current, index, nil
}

// orDefault replaces an empty string.
func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// wrapKey is the key that one job's content key is wrapped with for one recipient. Everything the wrap is bound to is in
// its derivation; the index makes it the key of this wrap alone.
func wrapKey(secret [secretSize]byte, mode schemas.Mode, kid [16]byte, index uint32, attributes schemas.Hash) [secretSize]byte {
	return expand(secret[:], labelWrap, []byte{byte(mode)}, kid[:], be32(index), attributes[:])
}

// payloadKey is the key of the payload's frames.
func payloadKey(content [secretSize]byte, mode schemas.Mode, attributes, recipients schemas.Hash) [secretSize]byte {
	return expand(content[:], labelPayload, []byte{schemas.EnvelopeVersion, byte(mode)}, attributes[:], recipients[:])
}

// sealOnce seals under a key that seals nothing else, with a zero nonce.
func sealOnce(key [secretSize]byte, plaintext []byte) []byte {
	var nonce [12]byte
	return gcm(key).Seal(nil, nonce[:], plaintext, nil)
}

// openOnce is the inverse of sealOnce.
func openOnce(key [secretSize]byte, sealed []byte) ([]byte, error) {
	var nonce [12]byte
	plaintext, err := gcm(key).Open(nil, nonce[:], sealed, nil)
	if err != nil {
		return nil, errSealed()
	}
	return plaintext, nil
}
