package broker_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
)

// bundle is a network with what most tests need.
type bundle struct {
	*enclavetest.Net
	tenant     *enclave.Tenant
	submission *enclave.Submission
	worker     *enclave.Session
}

// setup makes a network, a funded tenant and an attested worker.
func setup(t testing.TB, adjust ...func(*broker.Config)) *bundle {
	t.Helper()
	b := &bundle{Net: enclavetest.New(t, adjust...)}
	b.tenant = b.Tenant(t)
	b.submission = enclave.NewSubmission(b.tenant, b.Key(t))
	b.worker = b.Session(t)
	return b
}

// try asks for one job and returns the refusal, nil when it was granted.
func (b *bundle) try(t testing.TB, s *enclave.Session, call enclave.Call, j enclave.Candidate) (*enclave.OpenJob, error) {
	t.Helper()
	granted, err := s.Grant(t.Context(), call, []enclave.Candidate{j})
	if err != nil {
		return nil, err
	}
	return granted[0].Job, granted[0].Err
}

// credit sets what settlement says about the tenant now.
func (b *bundle) credit(available schemas.NanoTON) {
	b.Credit.Set(b.tenant.ID(), schemas.Credit{V: 1, Available: available, Key: b.tenant.Public(), Updated: time.Now().UTC().Truncate(time.Second)})
}

// wantKind fails the test unless err carries the kind.
func wantKind(t testing.TB, err error, kind schemas.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got %v, want %s", err, kind)
	}
}

// noError fails the test at once.
func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	sealWith := func(t *testing.T, b *bundle, change func(*schemas.Attributes)) enclave.Candidate {
		t.Helper()
		a := schemas.Attributes{Budget: enclavetest.Budget}
		change(&a)
		sealed, err := b.submission.Seal(a, schemas.Request{URL: "/v1/chat/completions"}, b.Limit())
		noError(t, err)
		return enclavetest.Candidate(sealed)
	}
	plain := func(t *testing.T, b *bundle) enclave.Candidate { return sealWith(t, b, func(*schemas.Attributes) {}) }
	for name, c := range map[string]struct {
		kind schemas.Kind
		make func(*testing.T, *bundle) enclave.Candidate
	}{
		"unknown policy": {schemas.KindPolicy, func(t *testing.T, b *bundle) enclave.Candidate {
			return sealWith(t, b, func(a *schemas.Attributes) { a.Policy = schemas.HashOf([]byte("none")) })
		}},
		"model that left the catalogue": {schemas.KindUnknownModel, func(t *testing.T, b *bundle) enclave.Candidate {
			catalogue := enclavetest.NewCatalogue()
			catalogue.Models = nil
			b.Catalogue.Set(catalogue)
			return plain(t, b)
		}},
		"no catalogue": {schemas.KindUnavailable, func(t *testing.T, b *bundle) enclave.Candidate {
			b.Catalogue.Set(nil)
			return plain(t, b)
		}},
		"model the worker is not admitted for": {schemas.KindDenied, func(t *testing.T, b *bundle) enclave.Candidate {
			catalogue := enclavetest.NewCatalogue()
			catalogue.Models = append(catalogue.Models, schemas.Model{ID: attesttest.OtherModel})
			b.Catalogue.Set(catalogue)
			published, err := b.Broker.Key(t.Context(), attesttest.OtherModel)
			noError(t, err)
			key, err := enclave.VerifyKey(t.Context(), b, attesttest.OtherModel, published)
			noError(t, err)
			b.submission = enclave.NewSubmission(b.tenant, key)
			return plain(t, b)
		}},
		"key of another group": {schemas.KindKeyLost, func(t *testing.T, b *bundle) enclave.Candidate {
			mine := b.Broker
			b.Broker = b.NewBroker(t, func(c *broker.Config) { c.Found = true })
			b.submission = enclave.NewSubmission(b.tenant, b.Key(t))
			b.Broker = mine
			return plain(t, b)
		}},
		"tampered wrap": {schemas.KindSealed, func(t *testing.T, b *bundle) enclave.Candidate {
			j := plain(t, b)
			e, err := schemas.ParseEnvelope(j.Envelope)
			noError(t, err)
			e.Recipients[0].Wrapped[3] ^= 1
			j.Envelope = e.Encode()
			return j
		}},
		"tampered encapsulation": {schemas.KindSealed, func(t *testing.T, b *bundle) enclave.Candidate {
			j := plain(t, b)
			e, err := schemas.ParseEnvelope(j.Envelope)
			noError(t, err)
			e.Recipients[0].Enc[1000] ^= 1
			j.Envelope = e.Encode()
			return j
		}},
		"wrap under another index": {schemas.KindSealed, func(t *testing.T, b *bundle) enclave.Candidate {
			j := plain(t, b)
			e, err := schemas.ParseEnvelope(j.Envelope)
			noError(t, err)
			e.Recipients[0].Index++
			j.Envelope = e.Encode()
			return j
		}},
		"raised budget": {schemas.KindSealed, func(t *testing.T, b *bundle) enclave.Candidate {
			j := plain(t, b)
			j.Attributes.Budget++
			return j
		}},
		"another class": {schemas.KindSealed, func(t *testing.T, b *bundle) enclave.Candidate {
			j := plain(t, b)
			j.Attributes.Class = schemas.Batch
			return j
		}},
		"another tenant": {schemas.KindSealed, func(t *testing.T, b *bundle) enclave.Candidate {
			j := plain(t, b)
			j.Attributes.Tenant = b.Tenant(t).ID()
			return j
		}},
		"no account": {schemas.KindCredit, func(t *testing.T, b *bundle) enclave.Candidate {
			stranger, err := enclave.NewTenant()
			noError(t, err)
			b.submission = enclave.NewSubmission(stranger, b.Key(t))
			return plain(t, b)
		}},
		"signed by another key than the account's": {schemas.KindInvalid, func(t *testing.T, b *bundle) enclave.Candidate {
			other, _, err := ed25519.GenerateKey(nil)
			noError(t, err)
			b.Credit.Set(b.tenant.ID(), schemas.Credit{V: 1, Available: enclavetest.Funds, Key: other})
			return plain(t, b)
		}},
		"poor account": {schemas.KindCredit, func(t *testing.T, b *bundle) enclave.Candidate {
			b.credit(enclavetest.Budget - 1)
			return plain(t, b)
		}},
		"ask above what the tenant pays": {schemas.KindPrice, func(t *testing.T, b *bundle) enclave.Candidate {
			b.worker = b.Session(t, func(c *enclave.SessionConfig) { c.Ask = schemas.One + 1 })
			return plain(t, b)
		}},
		"class above what the tenant pays": {schemas.KindPrice, func(t *testing.T, b *bundle) enclave.Candidate {
			return sealWith(t, b, func(a *schemas.Attributes) { a.Class = schemas.Priority })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			job := c.make(t, b)
			_, err := b.try(t, b.worker, b.Call, job)
			wantKind(t, err, c.kind)
			if schemas.KindOf(err) == schemas.KindUnavailable {
				return // the whole call was refused
			}
			decisions := b.Decisions.All()
			if last := decisions[len(decisions)-1]; last.Kind != c.kind || last.Verb != enclave.VerbGrant {
				t.Errorf("the audit record says %+v", last)
			}
		})
	}
}

// TestRefusalsTakeNothing: a refused job leaves neither lease nor reservation behind.
func TestRefusalsTakeNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.credit(enclavetest.Budget - 1)
	job := enclavetest.Candidate(b.Seal(t, b.submission, "x"))
	_, err := b.try(t, b.worker, b.Call, job)
	wantKind(t, err, schemas.KindCredit)
	b.credit(enclavetest.Budget)
	open, err := b.try(t, b.Session(t), b.Call, job)
	noError(t, err)
	if open.Grant().Attempt != 1 {
		t.Errorf("attempt %d after a refusal", open.Grant().Attempt)
	}
}

func TestLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(c *broker.Config) { c.LeaseTerm = 30 * time.Second })
		other := b.Session(t)
		sealed, err := b.submission.Seal(schemas.Attributes{Budget: enclavetest.Budget, Attempts: 2}, schemas.Request{URL: "/v1/completions"}, b.Limit())
		noError(t, err)
		job := enclavetest.Candidate(sealed)
		first, err := b.try(t, b.worker, b.Call, job)
		noError(t, err)

		_, err = b.try(t, other, b.Call, job)
		wantKind(t, err, schemas.KindLeased)
		var refusal *schemas.Error
		if !errors.As(err, &refusal) || refusal.RetryAfter <= 0 || refusal.RetryAfter > 30*time.Second {
			t.Errorf("retry after %v", refusal.RetryAfter)
		}
		again, err := b.try(t, b.worker, b.Call, job) // the reply was lost, say
		noError(t, err)
		if again.Grant().Attempt != 1 {
			t.Errorf("asking again made attempt %d", again.Grant().Attempt)
		}

		for range 5 { // renewed leases go on
			time.Sleep(20 * time.Second)
			errs, err := b.worker.Renew(t.Context(), b.Call, []*enclave.OpenJob{first})
			noError(t, err)
			noError(t, errs[0])
			_, err = b.try(t, other, b.Call, job)
			wantKind(t, err, schemas.KindLeased)
		}
		if left := time.Until(first.Lease()); left < 29*time.Second {
			t.Errorf("the renewed grant has %v left", left)
		}

		time.Sleep(31 * time.Second) // the first worker is gone
		second, err := b.try(t, other, b.Call, job)
		noError(t, err)
		if second.Grant().Attempt != 2 {
			t.Errorf("attempt %d", second.Grant().Attempt)
		}
		errs, err := b.worker.Renew(t.Context(), b.Call, []*enclave.OpenJob{first}) // it was only slow
		noError(t, err)
		wantKind(t, errs[0], schemas.KindLeased)

		time.Sleep(31 * time.Second)
		_, err = b.try(t, b.worker, b.Call, job)
		wantKind(t, err, schemas.KindPoison)
	})
}

func TestReturn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.credit(enclavetest.Budget) // for one job
	first, second := enclavetest.Candidate(b.Seal(t, b.submission, "1")), enclavetest.Candidate(b.Seal(t, b.submission, "2"))
	open, err := b.try(t, b.worker, b.Call, first)
	noError(t, err)
	_, err = b.try(t, b.worker, b.Call, second)
	wantKind(t, err, schemas.KindBusy)
	errs, err := b.worker.Return(t.Context(), b.Call, []*enclave.OpenJob{open})
	noError(t, err)
	noError(t, errs[0])
	other := b.Session(t)
	again, err := b.try(t, other, b.Call, first) // at once, on another worker
	noError(t, err)
	if again.Grant().Attempt != 2 {
		t.Errorf("attempt %d", again.Grant().Attempt)
	}
	errs, err = b.worker.Renew(t.Context(), b.Call, []*enclave.OpenJob{again})
	noError(t, err)
	wantKind(t, errs[0], schemas.KindDenied) // another worker's grant
}

// TestReservations: what was granted stays reserved until settlement has had time to book it.
func TestReservations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.credit(enclavetest.Budget)
		job := func() enclave.Candidate { return enclavetest.Candidate(b.Seal(t, b.submission, "x")) }
		open, err := b.try(t, b.worker, b.Call, job())
		noError(t, err)
		errs, err := b.worker.Done(t.Context(), b.Call, []*enclave.OpenJob{open})
		noError(t, err)
		noError(t, errs[0])
		time.Sleep(30 * time.Second)
		b.credit(enclavetest.Budget) // settlement has looked, but the outcome may have been on its way
		_, err = b.try(t, b.worker, b.Call, job())
		wantKind(t, err, schemas.KindBusy)
		time.Sleep(31 * time.Second)
		_, err = b.try(t, b.worker, b.Call, job())
		wantKind(t, err, schemas.KindBusy)
		b.credit(enclavetest.Budget) // a minute after the end: it is booked
		_, err = b.try(t, b.worker, b.Call, job())
		noError(t, err)
		time.Sleep(16 * time.Minute) // settlement is away: reservations do not hold for ever
		_, err = b.try(t, b.worker, b.Call, job())
		noError(t, err)
	})
}

// TestExpired: the broker looks at its own clock, whatever the worker thinks.
func TestExpired(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		now := time.Now().UTC().Truncate(time.Second)
		sealed, err := b.submission.Seal(schemas.Attributes{Budget: enclavetest.Budget, Expiry: now.Add(time.Minute)}, schemas.Request{URL: "/v1/completions"}, b.Limit())
		noError(t, err)
		slow := func(ctx context.Context, verb enclave.Verb, request []byte) ([]byte, error) {
			time.Sleep(61 * time.Second)
			return b.Call(ctx, verb, request)
		}
		_, err = b.try(t, b.worker, slow, enclavetest.Candidate(sealed))
		wantKind(t, err, schemas.KindExpired)
	})
}

// TestReplayedCalls: a call that was made before, or long ago, is refused, and so is one changed on the way.
func TestReplayedCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		var kept []byte
		keep := func(ctx context.Context, verb enclave.Verb, request []byte) ([]byte, error) {
			kept = request
			return b.Call(ctx, verb, request)
		}
		job := enclavetest.Candidate(b.Seal(t, b.submission, "x"))
		_, err := b.try(t, b.worker, keep, job)
		noError(t, err)
		_, err = b.Broker.Handle(t.Context(), enclave.VerbGrant, kept)
		wantKind(t, err, schemas.KindReplayed)
		_, err = b.Broker.Handle(t.Context(), enclave.VerbRenew, kept) // as another verb
		wantKind(t, err, schemas.KindSealed)
		changed := append([]byte(nil), kept...)
		changed[len(changed)-1] ^= 1
		_, err = b.Broker.Handle(t.Context(), enclave.VerbGrant, changed)
		wantKind(t, err, schemas.KindSealed)
		late := func(ctx context.Context, verb enclave.Verb, request []byte) ([]byte, error) {
			time.Sleep(3 * time.Minute)
			return b.Call(ctx, verb, request)
		}
		_, err = b.try(t, b.worker, late, job)
		wantKind(t, err, schemas.KindReplayed)
	})
}

// TestForgedReplies: whatever the transport does to a reply, the worker notices.
func TestForgedReplies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var earlier []byte
	first := enclavetest.Candidate(b.Seal(t, b.submission, "1"))
	_, err := b.try(t, b.worker, func(ctx context.Context, verb enclave.Verb, request []byte) ([]byte, error) {
		reply, err := b.Call(ctx, verb, request)
		earlier = reply
		return reply, err
	}, first)
	noError(t, err)
	second := enclavetest.Candidate(b.Seal(t, b.submission, "2"))
	_, err = b.try(t, b.worker, func(context.Context, enclave.Verb, []byte) ([]byte, error) { return earlier, nil }, second)
	wantKind(t, err, schemas.KindSealed)
	_, err = b.try(t, b.worker, func(ctx context.Context, verb enclave.Verb, request []byte) ([]byte, error) {
		reply, err := b.Call(ctx, verb, request)
		reply[len(reply)/2] ^= 1
		return reply, err
	}, second)
	if err == nil {
		t.Error("a changed reply was accepted")
	}
}

// TestEndingNeedsTheGrant: a lease that the broker does not know, or another worker's, is ended by a signed grant only.
func TestEndingNeedsTheGrant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	open, err := b.try(t, b.worker, b.Call, enclavetest.Candidate(b.Seal(t, b.submission, "x")))
	noError(t, err)
	second, err := b.joined(t, b.Call)
	noError(t, err)
	errs, err := b.worker.Done(t.Context(), second.Handle, []*enclave.OpenJob{open}) // it does not know the lease
	noError(t, err)
	noError(t, errs[0])
	stranger := b.NewBroker(t, func(c *broker.Config) { c.Found = true })
	errs, err = b.worker.Done(t.Context(), stranger.Handle, []*enclave.OpenJob{open}) // it neither knows it nor signed it
	noError(t, err)
	wantKind(t, errs[0], schemas.KindDenied)
}
