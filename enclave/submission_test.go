package enclave_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
)

func TestSealDefaults(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	tenant, key := n.Tenant(t), n.Key(t)
	s := enclave.NewSubmission(tenant, key)
	a := n.Seal(t, s, "x").Attributes
	if a.Tenant != tenant.ID() || a.Model != enclavetest.Model || a.Key != s.Key() || a.Class != schemas.Standard ||
		a.Attempts != enclave.DefaultAttempts || a.Expiry.Sub(a.Time) != enclave.DefaultLifetime || a.Policy != key.Admission().PolicyHash {
		t.Errorf("%+v", a)
	}
	if s.GoodUntil().After(key.Bundle().ActiveUntil) || s.GoodUntil().After(key.Admission().NotAfter) {
		t.Error("the submission outlives its key")
	}
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	s := enclave.NewSubmission(n.Tenant(t), n.Key(t))
	good := schemas.Request{URL: "/v1/completions"}
	for name, c := range map[string]struct {
		a     schemas.Attributes
		r     schemas.Request
		limit schemas.BasisPoints
		kind  schemas.Kind
	}{
		"no budget":             {schemas.Attributes{}, good, schemas.One, schemas.KindInvalid},
		"another tenant":        {schemas.Attributes{Budget: 1, Tenant: schemas.NewTenantID()}, good, schemas.One, schemas.KindInvalid},
		"another model":         {schemas.Attributes{Budget: 1, Model: attesttest.OtherModel}, good, schemas.One, schemas.KindInvalid},
		"another key":           {schemas.Attributes{Budget: 1, Key: "000102030405060708090a0b0c0d0e0f"}, good, schemas.One, schemas.KindInvalid},
		"beyond the key's life": {schemas.Attributes{Budget: 1, Time: time.Now().UTC().Add(47 * time.Hour).Truncate(time.Second), Expiry: time.Now().UTC().Add(94 * time.Hour).Truncate(time.Second)}, good, schemas.One, schemas.KindInvalid},
		"no multiplier":         {schemas.Attributes{Budget: 1}, good, 0, schemas.KindInvalid},
		"no url":                {schemas.Attributes{Budget: 1}, schemas.Request{}, schemas.One, schemas.KindInvalid},
		"too large":             {schemas.Attributes{Budget: 1}, schemas.Request{URL: "/v1/completions", Body: make([]byte, schemas.MaxRequestBody+1)}, schemas.One, schemas.KindTooLarge},
	} {
		if _, err := s.Seal(c.a, c.r, enclave.SpendLimit{Multiplier: c.limit}); !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSealingEnds: nothing is sealed to a key whose verification is over.
func TestSealingEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := enclavetest.New(t)
		s := enclave.NewSubmission(n.Tenant(t), n.Key(t))
		time.Sleep(time.Until(s.GoodUntil()) - time.Second)
		n.Seal(t, s, "x")
		time.Sleep(time.Second)
		_, err := s.Seal(schemas.Attributes{Budget: 1}, schemas.Request{URL: "/v1/completions"}, n.Limit())
		wantKind(t, err, schemas.KindKeyLost)
	})
}

// TestTenantDerives: what follows from the root differs by purpose and tenant.
func TestTenantDerives(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	a, b := n.Tenant(t), n.Tenant(t)
	if a.Derive("journal") == a.Derive("salt") || a.Derive("journal") == b.Derive("journal") || a.JobID("x") == b.JobID("x") || a.JobID("x") == a.JobID("y") {
		t.Error("two purposes have one key")
	}
}

// TestSessionRefuses settings that no worker can have.
func TestSessionRefuses(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	good := enclave.SessionConfig{Attester: n.World.Boot(t, n.World.Spec()), Verifier: n, Owner: attesttest.Owner}
	for name, change := range map[string]func(*enclave.SessionConfig){
		"no attester": func(c *enclave.SessionConfig) { c.Attester = nil }, "no verifier": func(c *enclave.SessionConfig) { c.Verifier = nil },
		"no owner": func(c *enclave.SessionConfig) { c.Owner = "" }, "ask": func(c *enclave.SessionConfig) { c.Ask = schemas.MaxMultiplier + 1 },
	} {
		c := good
		change(&c)
		if _, err := enclave.NewSession(c); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := n.NewSession(t)
	if !s.Expires().IsZero() || s.Policy() != 0 {
		t.Error("a worker that has not attested has a standing")
	}
	if err := s.Attest(t.Context(), n.Call); err != nil || !s.Expires().After(time.Now()) {
		t.Errorf("expires %v, %v", s.Expires(), err)
	}
	wantKind(t, s.SetAsk(schemas.MaxMultiplier+1), schemas.KindInvalid)
}

// TestEnds: each way a job ends gives the outcome that its result asks for, and only what is owed has a receipt.
func TestEnds(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	tenant, worker := n.Tenant(t), n.Session(t)
	submission := enclave.NewSubmission(tenant, n.Key(t))
	for kind, want := range map[schemas.Kind]schemas.Status{
		schemas.KindUnknown: schemas.Succeeded, schemas.KindCancelled: schemas.Cancelled, schemas.KindExpired: schemas.Expired, schemas.KindEngine: schemas.Failed,
	} {
		job := n.Grant(t, worker, n.Seal(t, submission, "x"))
		result := enclavetest.Result([]byte("half"))
		result.Kind = kind
		outcome, err := job.Finish(result, time.Now(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		owed := want == schemas.Succeeded || want == schemas.Cancelled
		if outcome.Status != want || outcome.Kind != kind || (outcome.Receipt != "") != owed {
			t.Errorf("%s: %s, receipt %t", kind, outcome.Status, outcome.Receipt != "")
		}
		answer, err := tenant.OpenResult(outcome, enclave.Expect{Envelope: job.Envelope()})
		if err != nil || answer.Result.Kind != kind {
			t.Errorf("%s: %+v, %v", kind, answer.Result, err)
		}
	}
	job := n.Grant(t, worker, n.Seal(t, submission, "x"))
	free, err := job.Finish(schemas.Failure(schemas.KindCancelled), time.Now(), time.Now())
	if err != nil || free.Receipt != "" {
		t.Errorf("cancelled before a token: receipt %t, %v", free.Receipt != "", err)
	}
	refused := enclave.Refused(&job.Attributes, errors.New("no kind"))
	if refused.Kind != schemas.KindInternal || refused.Check() != nil {
		t.Errorf("%+v", refused)
	}
}
