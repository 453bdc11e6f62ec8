package nvidia_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/schemas"
)

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// simulated makes evidence of a simulated GPU, with what the knobs say about it.
func simulated(t *testing.T, knobs func(*sim.Knobs)) (*sim.Platform, schemas.GPUEvidence) {
	t.Helper()
	p, err := sim.New([sim.SeedSize]byte{2}, sim.Options{Now: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	p.Turn(knobs)
	gpus, err := p.GPUs("host", 1)
	if err != nil {
		t.Fatal(err)
	}
	evidence, err := (&nvidia.Collector{Library: gpus, Stapler: p}).Collect(context.Background(), [32]byte{5})
	if err != nil {
		t.Fatal(err)
	}
	return p, evidence[0]
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		knobs   func(*sim.Knobs)
		at      time.Time
		ok      bool
		checked bool
	}{
		"good":       {func(*sim.Knobs) {}, start, true, true},
		"no answers": {func(k *sim.Knobs) { k.NoOCSP = true }, start, true, false},
		"revoked":    {func(k *sim.Knobs) { k.RevokeGPU = true }, start, false, false},
		"delegate":   {func(k *sim.Knobs) { k.Responder = sim.DelegateAnswers }, start, true, true},
		"sibling":    {func(k *sim.Knobs) { k.Responder = sim.SiblingAnswers }, start, false, false},
		"outdated":   {func(k *sim.Knobs) { k.Valid = time.Minute }, start.Add(time.Hour), false, false},
		"future":     {func(k *sim.Knobs) { k.Issued = time.Hour }, start, false, false},
	} {
		p, e := simulated(t, c.knobs)
		r, err := nvidia.NewVerifier().Verify(e, [32]byte{5}, p.Roots().GPU, c.at)
		if (err == nil) != c.ok || c.ok && r.Revocation.Checked != c.checked {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if !c.ok && schemas.KindOf(err) != schemas.KindAttestation {
			t.Errorf("%s: untyped error %v", name, err)
		}
	}
}

// TestAnswersAboutAKnownChain: a chain that was verified saves nobody from newer answers.
func TestAnswersAboutAKnownChain(t *testing.T) {
	t.Parallel()
	v := nvidia.NewVerifier()
	p, e := simulated(t, func(*sim.Knobs) {})
	verify := func(e schemas.GPUEvidence, at time.Time) error {
		_, err := v.Verify(e, [32]byte{5}, p.Roots().GPU, at)
		return err
	}
	staple := func(knobs func(*sim.Knobs)) schemas.GPUEvidence {
		p.Turn(knobs)
		other := e
		var err error
		if other.OCSP, err = p.Staple(context.Background(), e.Chain); err != nil {
			t.Fatal(err)
		}
		return other
	}
	if err := verify(e, start); err != nil {
		t.Fatal(err)
	}
	if err := verify(staple(func(k *sim.Knobs) { k.RevokeGPU = true }), start); schemas.KindOf(err) != schemas.KindAttestation {
		t.Errorf("revoked since: %v", err)
	}
	if err := verify(staple(func(k *sim.Knobs) { *k = sim.Knobs{}; k.Valid = time.Minute }), start.Add(time.Hour)); schemas.KindOf(err) != schemas.KindAttestation {
		t.Errorf("outdated: %v", err)
	}
	if err := verify(e, start.Add(10*365*24*time.Hour)); schemas.KindOf(err) != schemas.KindAttestation {
		t.Errorf("the answers it was verified with have ended: %v", err)
	}
	if err := verify(e, start); err != nil {
		t.Errorf("the first answers again: %v", err)
	}
}

// TestAnswersOfAnotherGPU staples the good answers of one GPU to another one.
func TestAnswersOfAnotherGPU(t *testing.T) {
	t.Parallel()
	p, e := simulated(t, func(*sim.Knobs) {})
	gpu, err := p.GPU("other", 0)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := gpu.Chain()
	if err != nil {
		t.Fatal(err)
	}
	if e.OCSP, err = p.Staple(context.Background(), chain); err != nil {
		t.Fatal(err)
	}
	if _, err := nvidia.NewVerifier().Verify(e, [32]byte{5}, p.Roots().GPU, start); schemas.KindOf(err) != schemas.KindAttestation {
		t.Errorf("answers about another GPU: %v", err)
	}
}

// TestResponder runs the vendor's protocol against the simulated service over HTTP.
func TestResponder(t *testing.T) {
	t.Parallel()
	p, e := simulated(t, func(*sim.Knobs) {})
	asked, down := 0, false
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		body, err := io.ReadAll(r.Body)
		if err != nil || down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		request, err := ocsp.ParseRequest(body)
		if err != nil {
			t.Error(err)
			return
		}
		staples, err := p.Staple(r.Context(), e.Chain)
		if err != nil {
			t.Error(err)
			return
		}
		for _, staple := range staples {
			if answer, err := ocsp.ParseResponse(staple, nil); err == nil && answer.SerialNumber.Cmp(request.SerialNumber) == 0 {
				w.Write(staple)
			}
		}
	}))
	defer service.Close()
	now := start
	responder := &nvidia.Responder{URL: service.URL, Client: service.Client(), Now: func() time.Time { return now }}
	var err error
	if e.OCSP, err = responder.Staple(context.Background(), e.Chain); err != nil {
		t.Fatal(err)
	}
	if r, err := nvidia.NewVerifier().Verify(e, [32]byte{5}, p.Roots().GPU, start); err != nil || !r.Revocation.Checked {
		t.Errorf("stapled evidence: %+v, %v", r, err)
	}
	if _, err := responder.Staple(context.Background(), e.Chain); err != nil || asked != 3 {
		t.Errorf("second time: asked %d times, %v", asked, err)
	}
	now, down = start.Add(20*24*time.Hour), true
	if _, err := responder.Staple(context.Background(), e.Chain); schemas.KindOf(err) != schemas.KindUnavailable {
		t.Errorf("service down: %v", err)
	}
}
