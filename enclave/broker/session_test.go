package broker_test

import (
	"context"
	"crypto/ed25519"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/schemas"
)

// challenge gets a token.
func challenge(t testing.TB, b *broker.Broker) []byte {
	t.Helper()
	reply, err := b.Handle(t.Context(), enclave.VerbChallenge, schemas.EncodeCall(&schemas.ChallengeRequest{Version: 1}))
	noError(t, err)
	var c schemas.ChallengeReply
	noError(t, schemas.ParseCall(reply, &c))
	return c.Token
}

// request is a session request of a worker for a token.
func request(t testing.TB, s *enclave.Session, token []byte) []byte {
	t.Helper()
	evidence, err := s.Evidence(t.Context(), schemas.ChallengeNonce(token))
	noError(t, err)
	return schemas.EncodeCall(&schemas.SessionRequest{Version: 1, Token: token, Evidence: evidence})
}

func TestChallenges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		token := challenge(t, b.Broker)
		r := request(t, b.worker, token)
		_, err := b.Broker.Handle(t.Context(), enclave.VerbSession, r)
		noError(t, err)
		_, err = b.Broker.Handle(t.Context(), enclave.VerbSession, r)
		wantKind(t, err, schemas.KindReplayed)

		// A challenge of another group, a changed one, and one that is too old.
		other := b.NewBroker(t, func(c *broker.Config) { c.Found = true })
		_, err = b.Broker.Handle(t.Context(), enclave.VerbSession, request(t, b.worker, challenge(t, other)))
		wantKind(t, err, schemas.KindReplayed)
		token = challenge(t, b.Broker)
		token[20] ^= 1
		_, err = b.Broker.Handle(t.Context(), enclave.VerbSession, request(t, b.worker, token))
		wantKind(t, err, schemas.KindReplayed)
		token = challenge(t, b.Broker)
		time.Sleep(2 * time.Minute)
		_, err = b.Broker.Handle(t.Context(), enclave.VerbSession, request(t, b.worker, token))
		wantKind(t, err, schemas.KindReplayed)

		// Evidence for one challenge does not answer another, and published evidence answers none.
		mine, yours := challenge(t, b.Broker), challenge(t, b.Broker)
		evidence, err := b.worker.Evidence(t.Context(), schemas.ChallengeNonce(yours))
		noError(t, err)
		_, err = b.Broker.Handle(t.Context(), enclave.VerbSession, schemas.EncodeCall(&schemas.SessionRequest{Version: 1, Token: mine, Evidence: evidence}))
		wantKind(t, err, schemas.KindAttestation)
		introduced, err := b.worker.Introduce(t.Context())
		noError(t, err)
		_, err = b.Broker.Handle(t.Context(), enclave.VerbSession, schemas.EncodeCall(&schemas.SessionRequest{Version: 1, Token: challenge(t, b.Broker), Evidence: introduced}))
		wantKind(t, err, schemas.KindAttestation)
	})
}

// TestEveryRefusal runs everything that a verifier must refuse against a broker's door.
func TestEveryRefusal(t *testing.T) {
	t.Parallel()
	attesttest.RunRefusals(t, func(ctx context.Context, w *attesttest.World, e schemas.Evidence, nonce [32]byte) error {
		encoded, err := e.Encode()
		if err != nil {
			return err
		}
		catalogue := &enclavetest.Catalogue{}
		b, err := broker.New(ctx, broker.Config{
			Attester: noQuotes{}, Verifier: w.Verifier, Policies: w.Keeper, Catalogues: catalogue, Credit: &enclavetest.Credit{}, Found: true,
		})
		if err != nil {
			return err
		}
		_, err = b.Admit(ctx, encoded, nonce)
		return err
	})
}

// noQuotes is an attester that is never asked.
type noQuotes struct{}

// Attest implements attest.Attester.
func (noQuotes) Attest(context.Context, schemas.Claims, [32]byte) (schemas.Evidence, error) {
	return schemas.Evidence{}, &schemas.Error{Kind: schemas.KindInternal}
}

// TestStrangers: machines that the policy does not admit as workers get no session.
func TestStrangers(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	roots := n.World.Trust.Roots.Hash()
	for name, spec := range map[string]sim.MachineSpec{
		"unknown image": {Name: "host-1", Image: "stranger", GPUs: 1, PolicyRoot: roots},
		"no GPU":        {Name: "host-1", Image: attesttest.WorkerImage, PolicyRoot: roots},
		"other roots":   {Name: "host-1", Image: attesttest.WorkerImage, GPUs: 1, PolicyRoot: schemas.HashOf([]byte("other"))},
		"broker image":  {Name: "host-1", Image: attesttest.BrokerImage, PolicyRoot: roots},
	} {
		s := n.NewSession(t, func(c *enclave.SessionConfig) { c.Attester = n.World.Boot(t, spec) })
		if err := s.Attest(t.Context(), n.Call); schemas.KindOf(err) != schemas.KindPolicy && schemas.KindOf(err) != schemas.KindAttestation {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A broker's own evidence, which is good, buys no work.
	token := challenge(t, n.Broker)
	reply, err := n.Broker.Handle(t.Context(), enclave.VerbAttest, schemas.EncodeCall(&schemas.AttestRequest{Version: 1, Nonce: schemas.ChallengeNonce(token)}))
	noError(t, err)
	var r schemas.AttestReply
	noError(t, schemas.ParseCall(reply, &r))
	_, err = n.Broker.Handle(t.Context(), enclave.VerbSession, schemas.EncodeCall(&schemas.SessionRequest{Version: 1, Token: token, Evidence: r.Evidence}))
	wantKind(t, err, schemas.KindPolicy)
}

// TestTicketsEnd: the broker does not take a session beyond its evidence, whatever the worker does.
func TestTicketsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		calls := 0
		late := func(ctx context.Context, verb enclave.Verb, r []byte) ([]byte, error) {
			if calls++; calls > 1 {
				return nil, &schemas.Error{Kind: schemas.KindUnavailable}
			}
			time.Sleep(56 * time.Minute)
			_, err := b.Call(ctx, verb, r)
			wantKind(t, err, schemas.KindAttestation)
			return nil, &schemas.Error{Kind: schemas.KindUnavailable}
		}
		_, err := b.try(t, b.worker, late, enclavetest.Candidate(b.Seal(t, b.submission, "x")))
		wantKind(t, err, schemas.KindUnavailable)
	})
}

// stolen replaces the keys in claims before they are quoted, as a machine would that shows evidence for keys of another.
type stolen struct {
	attest.Attester
	hpke []byte
}

// Attest implements attest.Attester.
func (s stolen) Attest(ctx context.Context, c schemas.Claims, nonce [32]byte) (schemas.Evidence, error) {
	c.HPKE = s.hpke
	return s.Attester.Attest(ctx, c, nonce)
}

// TestSessionOpensForAttestedKeyOnly: a session bought with evidence for another's key is of no use to who shows it.
func TestSessionOpensForAttestedKeyOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	victim := b.World.Claims(t, schemas.RoleWorker)
	thief := b.NewSession(t, func(c *enclave.SessionConfig) { c.Attester = stolen{c.Attester, victim.HPKE} })
	err := thief.Attest(t.Context(), b.Call)
	if err != nil {
		wantKind(t, err, schemas.KindSealed)
		return
	}
	_, err = b.try(t, thief, b.Call, enclavetest.Candidate(b.Seal(t, b.submission, "x")))
	wantKind(t, err, schemas.KindSealed)
}

// TestFalseBrokers: who answers as a broker must be one, and must answer this very request.
func TestFalseBrokers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var replay []byte
	record := func(ctx context.Context, verb enclave.Verb, r []byte) ([]byte, error) {
		reply, err := b.Call(ctx, verb, r)
		if verb == enclave.VerbSession {
			replay = reply
		}
		return reply, err
	}
	noError(t, b.Session(t).Attest(t.Context(), record))
	edit := func(change func(*schemas.SessionReply)) enclave.Call {
		return func(ctx context.Context, verb enclave.Verb, r []byte) ([]byte, error) {
			reply, err := b.Call(ctx, verb, r)
			if verb != enclave.VerbSession || err != nil {
				return reply, err
			}
			var parsed schemas.SessionReply
			noError(t, schemas.ParseCall(reply, &parsed))
			change(&parsed)
			return schemas.EncodeCall(&parsed), nil
		}
	}
	impostor, err := b.worker.Introduce(t.Context())
	noError(t, err)
	_, forger, err := ed25519.GenerateKey(nil)
	noError(t, err)
	for name, c := range map[string]struct {
		kind schemas.Kind
		call enclave.Call
	}{
		"reply to another request": {schemas.KindAttestation, func(ctx context.Context, verb enclave.Verb, r []byte) ([]byte, error) {
			if verb == enclave.VerbSession {
				return replay, nil
			}
			return b.Call(ctx, verb, r)
		}},
		"longer session":       {schemas.KindAttestation, edit(func(r *schemas.SessionReply) { r.Expires += 3600 })},
		"another ticket":       {schemas.KindAttestation, edit(func(r *schemas.SessionReply) { r.Ticket[9] ^= 1 })},
		"a worker as a broker": {schemas.KindPolicy, edit(func(r *schemas.SessionReply) { r.Evidence = impostor })},
		"a key nobody attested, well signed": {schemas.KindAttestation, func(ctx context.Context, verb enclave.Verb, r []byte) ([]byte, error) {
			return edit(func(reply *schemas.SessionReply) {
				reply.Broker = [32]byte(forger.Public().(ed25519.PublicKey))
				reply.Signature = [64]byte(ed25519.Sign(forger, schemas.SessionSigned(schemas.HashOf(r), reply)))
			})(ctx, verb, r)
		}},
		"a worker as a broker, well signed": {schemas.KindPolicy, func(ctx context.Context, verb enclave.Verb, r []byte) ([]byte, error) {
			return edit(func(reply *schemas.SessionReply) { reply.Evidence = impostor })(ctx, verb, r)
		}},
		"a key nobody attested": {schemas.KindAttestation, edit(func(r *schemas.SessionReply) {
			r.Broker = [32]byte(forger.Public().(ed25519.PublicKey))
		})},
	} {
		wantKind(t, b.NewSession(t).Attest(t.Context(), c.call), c.kind)
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// TestSessionsRenew: the worker attests again by itself when its evidence is over, the policy has changed, or the brokers
// have started anew.
func TestSessionsRenew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		attested := 0
		count := func(ctx context.Context, verb enclave.Verb, r []byte) ([]byte, error) {
			if verb == enclave.VerbSession {
				attested++
			}
			return b.Call(ctx, verb, r)
		}
		run := func(want int) {
			t.Helper()
			b.submission = enclave.NewSubmission(b.tenant, b.Key(t))
			_, err := b.try(t, b.worker, count, enclavetest.Candidate(b.Seal(t, b.submission, "x")))
			noError(t, err)
			if attested != want {
				t.Errorf("attested %d times, want %d", attested, want)
			}
		}
		run(0)
		time.Sleep(56 * time.Minute)
		run(1)
		policy := b.World.Policy()
		policy.Version++
		_, err := b.World.Keeper.Offer(b.World.Sign(t, policy))
		noError(t, err)
		run(2)
		if b.worker.Policy() != policy.Version {
			t.Errorf("admitted under policy %d", b.worker.Policy())
		}
		b.Broker = b.NewBroker(t, func(c *broker.Config) { c.Found = true })
		run(3)
		noError(t, b.worker.SetAsk(schemas.One))
		run(4)

		// A policy that no longer admits the worker's image: it is refused, and stays refused.
		policy.Version++
		policy.Measurements = policy.Measurements[1:]
		_, err = b.World.Keeper.Offer(b.World.Sign(t, policy))
		noError(t, err)
		_, err = b.try(t, b.worker, count, enclavetest.Candidate(b.Seal(t, b.submission, "x")))
		wantKind(t, err, schemas.KindPolicy)
	})
}

// TestVerificationsAreLimited: the expensive part is bounded before it begins.
func TestVerificationsAreLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(c *broker.Config) { c.Verifications = 1 })
		for range 2 {
			noError(t, b.NewSession(t).Attest(t.Context(), b.Call))
		}
		late := b.NewSession(t)
		wantKind(t, late.Attest(t.Context(), b.Call), schemas.KindBusy)
		time.Sleep(time.Second)
		noError(t, late.Attest(t.Context(), b.Call))
	})
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	nonce := schemas.HashOf([]byte("the server's nonce"))
	evidence, err := b.worker.Evidence(t.Context(), nonce)
	noError(t, err)
	entry, err := b.Broker.Admit(t.Context(), evidence, nonce)
	noError(t, err)
	if entry.Worker != b.worker.ID() || len(entry.Models) != 1 || entry.Models[0].ID != enclavetest.Model || !entry.NotAfter.After(time.Now()) {
		t.Errorf("entry %+v", entry)
	}
	_, err = b.Broker.Admit(t.Context(), evidence, schemas.HashOf([]byte("another nonce")))
	wantKind(t, err, schemas.KindAttestation)
	introduced, err := b.worker.Introduce(t.Context())
	noError(t, err)
	_, err = b.Broker.Admit(t.Context(), introduced, [32]byte{})
	wantKind(t, err, schemas.KindAttestation)
	catalogue := enclavetest.NewCatalogue()
	catalogue.Models = nil
	b.Catalogue.Set(catalogue)
	evidence, err = b.worker.Evidence(t.Context(), schemas.HashOf([]byte("third nonce")))
	noError(t, err)
	_, err = b.Broker.Admit(t.Context(), evidence, schemas.HashOf([]byte("third nonce")))
	wantKind(t, err, schemas.KindPolicy)
}

// TestAttest: the broker's evidence answers the caller's own nonce.
func TestAttest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	nonce := schemas.HashOf([]byte("mine"))
	reply, err := b.Broker.Handle(t.Context(), enclave.VerbAttest, schemas.EncodeCall(&schemas.AttestRequest{Version: 1, Nonce: nonce}))
	noError(t, err)
	var r schemas.AttestReply
	noError(t, schemas.ParseCall(reply, &r))
	evidence, err := schemas.ParseEvidence(r.Evidence)
	noError(t, err)
	a, err := b.Verify(t.Context(), evidence, nonce)
	noError(t, err)
	if a.Role != schemas.RoleBroker || !b.Broker.Public().Equal(ed25519.PublicKey(a.Claims.Sign)) {
		t.Errorf("admission %+v", a)
	}
}

// FuzzHandle: no bytes make a broker panic, and every refusal has a kind.
func FuzzHandle(f *testing.F) {
	b := setup(f)
	token := challenge(f, b.Broker)
	f.Add(uint8(0), schemas.EncodeCall(&schemas.ChallengeRequest{Version: 1}))
	f.Add(uint8(1), request(f, b.worker, token))
	f.Add(uint8(2), schemas.EncodeCall(&schemas.SealedCall{Version: 1, Ticket: make([]byte, 40), Sealed: make([]byte, 40)}))
	f.Add(uint8(5), schemas.EncodeCall(&schemas.AttestRequest{Version: 1}))
	f.Fuzz(func(t *testing.T, verb uint8, body []byte) {
		verbs := enclave.Verbs()
		_, err := b.Broker.Handle(t.Context(), verbs[int(verb)%len(verbs)], body)
		if err != nil && schemas.KindOf(err) == schemas.KindUnknown {
			t.Errorf("%v has no kind", err)
		}
	})
}
