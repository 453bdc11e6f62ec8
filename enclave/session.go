package enclave

import (
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of a session.
const (
	// claimsTerm is the life of one evidence; the policy may shorten it.
	claimsTerm = 55 * time.Minute
	// minSessionLeft: a session that ends sooner is renewed before it is used.
	minSessionLeft = time.Minute
	// maxPinned bounds the encapsulations of pinned submissions that a worker remembers.
	maxPinned = 256
)

// SessionConfig says who a worker is. All fields but Models and Ask are required.
type SessionConfig struct {
	// Attester quotes for this process.
	Attester attest.Attester
	// Verifier judges the broker.
	Verifier Verifier
	// Owner is the TON address the worker earns for.
	Owner schemas.Owner
	// Models are those loaded after boot; measured ones need no mention.
	Models []schemas.ModelID
	// Ask is the lowest price multiplier the worker serves at; 0 leaves it to the classes.
	Ask schemas.BasisPoints
}

// Session is a worker's standing with the brokers. Its keys are born in NewSession and never leave the process; a process
// that starts again is another worker. All methods are safe for concurrent use.
type Session struct {
	cfg        SessionConfig
	boot       schemas.BootID
	sign       ed25519.PrivateKey
	private    hpke.PrivateKey
	pinned     *Unwrapper
	replies    *replies
	signatures Signatures // of the brokers

	attesting sync.Mutex // held while evidence is made and judged, so that many callers cost one attestation

	mu       sync.Mutex // guards the fields below
	standing *standing
	ask      schemas.BasisPoints

	chain sync.Mutex // guards seq and prev: receipts are numbered and signed one after another
	seq   uint64
	prev  schemas.Hash
}

// standing is what one attestation bought.
type standing struct {
	channel *Channel
	ticket  []byte
	expires time.Time
	policy  uint64
	broker  ed25519.PublicKey
}

// NewSession makes a worker's keys. Nothing is sent before the first call.
func NewSession(cfg SessionConfig) (*Session, error) {
	if cfg.Attester == nil || cfg.Verifier == nil {
		return nil, schemas.FieldError("attester", "attester and verifier are required")
	}
	if _, err := schemas.ParseOwner(string(cfg.Owner)); err != nil {
		return nil, err
	}
	if cfg.Ask > schemas.MaxMultiplier {
		return nil, schemas.FieldError("ask", "is above 100x")
	}
	_, sign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "make the signing key: %w", err)
	}
	private, err := kem().GenerateKey()
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "make the HPKE key: %w", err)
	}
	cfg.Models = slices.Sorted(slices.Values(cfg.Models))
	return &Session{
		cfg: cfg, boot: schemas.NewBootID(), sign: sign, private: private, ask: cfg.Ask,
		pinned: NewUnwrapper(private, maxPinned), replies: newReplies(maxReplyKeys),
	}, nil
}

// ID is the worker's id.
func (s *Session) ID() schemas.WorkerID { return schemas.WorkerIDOf(s.Public()) }

// Public is the key that receipts are signed by.
func (s *Session) Public() ed25519.PublicKey { return s.sign.Public().(ed25519.PublicKey) }

// Expires is when fresh evidence is due; zero before the first attestation.
func (s *Session) Expires() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.standing == nil {
		return time.Time{}
	}
	return s.standing.expires
}

// Policy is the version of the policy under which the worker was last admitted, 0 before.
func (s *Session) Policy() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.standing == nil {
		return 0
	}
	return s.standing.policy
}

// SetAsk changes the lowest multiplier the worker serves at; it holds from the next attestation, which it brings about.
func (s *Session) SetAsk(ask schemas.BasisPoints) error {
	if ask > schemas.MaxMultiplier {
		return schemas.FieldError("ask", "is above 100x")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ask != ask {
		s.ask, s.standing = ask, nil
	}
	return nil
}

// claims are what the worker says about itself now.
func (s *Session) claims() schemas.Claims {
	return schemas.Claims{
		V: 1, Role: schemas.RoleWorker, HPKE: s.pinned.Public(), Sign: s.Public(), Owner: s.cfg.Owner, Boot: s.boot,
		Models: s.cfg.Models, Expires: time.Now().UTC().Add(claimsTerm).Truncate(time.Second),
	}
}

// Introduce makes evidence that answers nobody's challenge, in its wire form: workers publish it, and producers pin jobs
// to its keys.
func (s *Session) Introduce(ctx context.Context) ([]byte, error) {
	evidence, err := s.cfg.Attester.Attest(ctx, s.claims(), [32]byte{})
	if err != nil {
		return nil, err
	}
	return evidence.Encode()
}

// Evidence answers a challenge of the caller's own, such as the NATS server's nonce at auth callout.
func (s *Session) Evidence(ctx context.Context, nonce [32]byte) ([]byte, error) {
	evidence, err := s.cfg.Attester.Attest(ctx, s.claims(), nonce)
	if err != nil {
		return nil, err
	}
	return evidence.Encode()
}

// Attest shows fresh evidence to a broker and begins a new session with it. KindPolicy and KindAttestation mean that the
// worker is not admitted.
func (s *Session) Attest(ctx context.Context, call Call) error {
	s.attesting.Lock()
	defer s.attesting.Unlock()
	return s.attest(ctx, call)
}

// attest is the handshake: challenge, evidence, session. The caller holds attesting.
func (s *Session) attest(ctx context.Context, call Call) error {
	reply, err := call(ctx, VerbChallenge, schemas.EncodeCall(&schemas.ChallengeRequest{Version: schemas.EnvelopeVersion}))
	if err != nil {
		return err
	}
	var challenge schemas.ChallengeReply
	if err := schemas.ParseCall(reply, &challenge); err != nil {
		return err
	}
	evidence, err := s.Evidence(ctx, schemas.ChallengeNonce(challenge.Token))
	if err != nil {
		return err
	}
	s.mu.Lock()
	ask := s.ask
	s.mu.Unlock()
	request := schemas.SessionRequest{Version: schemas.EnvelopeVersion, Token: challenge.Token, Ask: ask, Evidence: evidence}
	rand.Read(request.Nonce[:])
	encoded := schemas.EncodeCall(&request)
	if reply, err = call(ctx, VerbSession, encoded); err != nil {
		return err
	}
	st, err := s.accept(ctx, encoded, reply)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ask == ask {
		s.standing = st
	}
	return nil
}

// accept verifies that the reply comes from an admitted broker and answers our very request.
func (s *Session) accept(ctx context.Context, request, reply []byte) (*standing, error) {
	var r schemas.SessionReply
	if err := schemas.ParseCall(reply, &r); err != nil {
		return nil, err
	}
	evidence, err := schemas.ParseEvidence(r.Evidence)
	if err != nil {
		return nil, err
	}
	admission, err := s.cfg.Verifier.Verify(ctx, evidence, [32]byte{})
	if err != nil {
		return nil, err
	}
	broker := ed25519.PublicKey(r.Broker[:])
	switch {
	case admission.Role != schemas.RoleBroker:
		return nil, &schemas.Error{Kind: schemas.KindPolicy, Field: "role", Message: "who answered as a broker is not one"}
	case !broker.Equal(ed25519.PublicKey(admission.Claims.Sign)):
		return nil, &schemas.Error{Kind: schemas.KindAttestation, Field: "broker", Message: "is not the attested key"}
	case !ed25519.Verify(broker, schemas.SessionSigned(schemas.HashOf(request), &r), r.Signature[:]):
		return nil, &schemas.Error{Kind: schemas.KindAttestation, Field: "signature", Message: "does not answer this request"}
	}
	channel, err := acceptChannel(r.Enc, s.private)
	if err != nil {
		return nil, err
	}
	return &standing{channel: channel, ticket: r.Ticket, expires: time.Unix(r.Expires, 0).UTC(), policy: r.Policy, broker: broker}, nil
}

// ensure returns a standing that lasts a while, attesting when there is none. stale, if not nil, is one that a broker
// no longer accepts.
func (s *Session) ensure(ctx context.Context, call Call, stale *standing) (*standing, error) {
	good := func() *standing {
		s.mu.Lock()
		defer s.mu.Unlock()
		if st := s.standing; st != nil && st != stale && time.Until(st.expires) > minSessionLeft {
			return st
		}
		return nil
	}
	if st := good(); st != nil {
		return st, nil
	}
	s.attesting.Lock()
	defer s.attesting.Unlock()
	if st := good(); st != nil { // another caller attested while we waited
		return st, nil
	}
	if err := s.attest(ctx, call); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.standing == nil {
		return nil, &schemas.Error{Kind: schemas.KindUnavailable, Message: "the ask changed while attesting"}
	}
	return s.standing, nil
}

// sealedCall makes one call inside the session. When the broker no longer accepts the ticket (it expired, the policy
// changed, the brokers started anew) the worker attests once and tries again.
func (s *Session) sealedCall(ctx context.Context, call Call, verb Verb, content, answer any) (*standing, error) {
	var stale *standing
	for {
		st, err := s.ensure(ctx, call, stale)
		if err != nil {
			return nil, err
		}
		err = st.do(ctx, call, verb, schemas.EncodeCall(content), answer)
		if errors.Is(err, schemas.KindAttestation) && stale == nil {
			stale = st
			continue
		}
		return st, err
	}
}

// do makes one call under one standing.
func (st *standing) do(ctx context.Context, call Call, verb Verb, content []byte, answer any) error {
	sealed := st.channel.SealCall(verb, st.ticket, content)
	reply, err := call(ctx, verb, schemas.EncodeCall(&schemas.SealedCall{Version: schemas.EnvelopeVersion, Ticket: st.ticket, Sealed: sealed}))
	if err != nil {
		return err
	}
	var r schemas.SealedReply
	if err := schemas.ParseCall(reply, &r); err != nil {
		return err
	}
	plain, err := st.channel.OpenReply(sealed, r.Sealed)
	if err != nil {
		return err
	}
	defer clear(plain)
	return schemas.ParseCall(plain, answer)
}

// WeightKey asks for the key of a model's sealed weights; enc and wrapped stand in the sealed package. The worker must be
// admitted for the model.
func (s *Session) WeightKey(ctx context.Context, call Call, model schemas.ModelID, enc, wrapped []byte) ([32]byte, error) {
	var reply schemas.ReleaseReply
	request := schemas.ReleaseCall{Sent: time.Now().Unix(), Model: model, Enc: enc, Wrapped: wrapped}
	_, err := s.sealedCall(ctx, call, VerbRelease, &request, &reply)
	return reply.Key, err
}
