package attest_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// healthy is a world with evidence of a worker.
func healthy(t testing.TB) (*attesttest.World, schemas.Evidence, [32]byte) {
	t.Helper()
	w, nonce := attesttest.New(t), [32]byte{1}
	return w, w.Attest(t, w.Boot(t, w.Spec()), w.Claims(t, schemas.RoleWorker), nonce), nonce
}

func TestAdmissionEnds(t *testing.T) {
	t.Parallel()
	start := attesttest.Start
	for name, c := range map[string]struct {
		policy func(*schemas.Policy)
		knobs  func(*sim.Knobs)
		want   time.Duration
	}{
		"with the claims":       {func(*schemas.Policy) {}, func(*sim.Knobs) {}, 30 * time.Minute},
		"with the evidence":     {func(p *schemas.Policy) { p.EvidenceMinutes = 10 }, func(*sim.Knobs) {}, 10 * time.Minute},
		"with the policy":       {func(p *schemas.Policy) { p.Expires = start.Add(5 * time.Minute) }, func(*sim.Knobs) {}, 5 * time.Minute},
		"with the image":        {func(p *schemas.Policy) { p.Measurements[0].NotAfter = start.Add(4 * time.Minute) }, func(*sim.Knobs) {}, 4 * time.Minute},
		"with the collateral":   {func(*schemas.Policy) {}, func(k *sim.Knobs) { k.Valid = 3 * time.Minute }, 3 * time.Minute},
		"with the TCB level":    {func(p *schemas.Policy) { p.TDX.MaxTCBAgeDays = 1 }, func(k *sim.Knobs) { k.TCBAge = 24*time.Hour - 2*time.Minute }, 2 * time.Minute},
		"with the GPU's answer": {func(p *schemas.Policy) { p.GPU.OCSPMaxAgeHours = 1 }, func(k *sim.Knobs) { k.Issued = -59 * time.Minute }, time.Minute},
	} {
		w := attesttest.New(t)
		w.Platform.Turn(c.knobs)
		policy := w.Policy()
		c.policy(policy)
		_, v := w.NewVerifier(t, w.Platform.Collateral(), policy)
		nonce := [32]byte{1}
		a, err := v.Verify(context.Background(), w.Attest(t, w.Boot(t, w.Spec()), w.Claims(t, schemas.RoleWorker), nonce), nonce)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := a.NotAfter.Sub(start); got != c.want {
			t.Errorf("%s: after %s, want %s", name, got, c.want)
		}
	}
}

func TestAdmissionSaysWhatWasFound(t *testing.T) {
	t.Parallel()
	w := attesttest.New(t)
	w.Platform.Turn(func(k *sim.Knobs) { k.Platform, k.Advisories = schemas.SWHardeningNeeded, []string{"INTEL-SA-1"} })
	policy := w.Policy()
	policy.GPU.OCSPMaxAgeHours = 0
	w.Platform.Turn(func(k *sim.Knobs) { k.NoOCSP = true })
	_, v := w.NewVerifier(t, w.Platform.Collateral(), policy)
	nonce := [32]byte{1}
	e := w.Attest(t, w.Boot(t, w.Spec()), w.Claims(t, schemas.RoleWorker), nonce)
	a, err := v.Verify(context.Background(), e, nonce)
	if err != nil {
		t.Fatal(err)
	}
	if a.Platform.TCB != schemas.SWHardeningNeeded || a.Platform.QE != schemas.UpToDate || !slices.Equal(a.Platform.Advisories, []string{"INTEL-SA-1"}) || a.Platform.PPID != w.Platform.PPID("host-1") {
		t.Errorf("platform: %+v", a.Platform)
	}
	if g := a.GPUs[0]; g.RevocationChecked || g.Matched != 64 || g.Architecture != sim.GPUArchitecture || g.Driver != sim.GPUDriver || g.VBIOS != sim.GPUVBIOS {
		t.Errorf("GPU: %+v", a.GPUs[0])
	}
	if digest, err := e.Hash(); err != nil || a.Digest != digest {
		t.Errorf("digest %s, want %s", a.Digest, digest)
	}
	if !strings.Contains(strings.Join(v.Examine(context.Background(), e, nonce).NotProven(), "\n"), "gpus[0] not revoked") {
		t.Error("unchecked revocation is not said")
	}
}

// TestDebugIsNamed: the most important refusal says what it is about.
func TestDebugIsNamed(t *testing.T) {
	t.Parallel()
	for _, r := range attesttest.Refusals() {
		if r.Name != "debug TD" {
			continue
		}
		w := attesttest.New(t)
		e, nonce := r.Make(t, w)
		if _, err := w.Verifier.Verify(context.Background(), e, nonce); err == nil || !strings.Contains(err.Error(), "debuggable: the host can read its memory") {
			t.Errorf("debug TD: %v", err)
		}
		return
	}
	t.Error("the list of refusals has no debug TD")
}

func TestBrokerNeedsNoGPU(t *testing.T) {
	t.Parallel()
	w, nonce := attesttest.New(t), [32]byte{1}
	m := w.Boot(t, sim.MachineSpec{Name: "host-9", Image: attesttest.BrokerImage, PolicyRoot: w.Trust.Roots.Hash()})
	a, err := w.Verifier.Verify(context.Background(), w.Attest(t, m, w.Claims(t, schemas.RoleBroker), nonce), nonce)
	if err != nil || a.Role != schemas.RoleBroker || a.Claims.Owner != "" {
		t.Errorf("broker: %+v, %v", a, err)
	}
}

// TestSameEvidence checks what a remembered admission must not outlive.
func TestSameEvidence(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	t.Run("its end", func(t *testing.T) {
		t.Parallel()
		w, e, nonce := healthy(t)
		first, err := w.Verifier.Verify(ctx, e, nonce)
		if err != nil {
			t.Fatal(err)
		}
		w.Sleep(10 * time.Minute)
		second, err := w.Verifier.Verify(ctx, e, nonce)
		if err != nil || !second.NotAfter.Equal(first.NotAfter) {
			t.Errorf("verified again: until %s instead of %s, %v", second.NotAfter, first.NotAfter, err)
		}
		w.Sleep(20 * time.Minute)
		if _, err := w.Verifier.Verify(ctx, e, nonce); schemas.KindOf(err) != schemas.KindAttestation {
			t.Errorf("after its end: %v", err)
		}
	})
	t.Run("the policy", func(t *testing.T) {
		t.Parallel()
		w, e, nonce := healthy(t)
		if _, err := w.Verifier.Verify(ctx, e, nonce); err != nil {
			t.Fatal(err)
		}
		policy := w.Policy()
		policy.Version, policy.Models = 2, []schemas.ModelID{}
		if _, err := w.Keeper.Offer(w.Sign(t, policy)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Verifier.Verify(ctx, e, nonce); schemas.KindOf(err) != schemas.KindPolicy {
			t.Errorf("under a newer policy: %v", err)
		}
	})
	t.Run("the collateral", func(t *testing.T) {
		t.Parallel()
		w, e, nonce := healthy(t)
		collateral := tdx.NewCollateral(tdx.CollateralOptions{Source: w.Platform, Refresh: 2 * time.Minute, Now: w.Now})
		_, v := w.NewVerifier(t, collateral, w.Policy())
		if _, err := v.Verify(ctx, e, nonce); err != nil {
			t.Fatal(err)
		}
		w.Platform.Turn(func(k *sim.Knobs) { k.RevokedMachines = []string{"host-1"} })
		w.Sleep(5 * time.Minute) // the collateral is fetched again, the admission has not ended
		if _, err := v.Verify(ctx, e, nonce); schemas.KindOf(err) != schemas.KindAttestation {
			t.Errorf("revoked machine: %v", err)
		}
	})
	t.Run("its caller's hands", func(t *testing.T) {
		t.Parallel()
		w, e, nonce := healthy(t)
		a, err := w.Verifier.Verify(ctx, e, nonce)
		if err != nil {
			t.Fatal(err)
		}
		a.Models[0], a.GPUs[0].Driver, a.Role = "changed", "changed", "changed"
		b, err := w.Verifier.Verify(ctx, e, nonce)
		if err != nil || b.Models[0] != attesttest.Model || b.GPUs[0].Driver == "changed" || b.Role != schemas.RoleWorker {
			t.Errorf("a caller changed what is remembered: %+v, %v", b, err)
		}
	})
	t.Run("another challenge", func(t *testing.T) {
		t.Parallel()
		w, e, nonce := healthy(t)
		if _, err := w.Verifier.Verify(ctx, e, nonce); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Verifier.Verify(ctx, e, [32]byte{2}); schemas.KindOf(err) != schemas.KindAttestation {
			t.Errorf("replayed: %v", err)
		}
	})
}

func TestExamination(t *testing.T) {
	t.Parallel()
	w, e, nonce := healthy(t)
	for range 2 { // verified, and remembered
		x := w.Verifier.Examine(context.Background(), e, nonce)
		var names []attest.StepName
		for _, s := range x.Steps {
			if s.Err != nil {
				t.Error(s.Name, s.Err)
			}
			names = append(names, s.Name)
		}
		if !slices.Equal(names, attest.Steps()) || x.TDX == nil || len(x.GPUs) != 1 {
			t.Errorf("steps %v, report %v", names, x.TDX)
		}
		notes := strings.Join(x.NotProven(), "\n")
		for _, want := range []string{"SIMULATED", "co-location", "physical integrity"} {
			if !strings.Contains(notes, want) {
				t.Errorf("not said: %s", want)
			}
		}
	}
	e.GPUs = nil
	x := w.Verifier.Examine(context.Background(), e, [32]byte{})
	if last := x.Steps[len(x.Steps)-1]; last.Name != attest.StepClaims || last.Err == nil {
		t.Errorf("last step %+v", last)
	}
	if notes := strings.Join(x.NotProven(), "\n"); !strings.Contains(notes, "fresh") || strings.Contains(notes, "co-location") {
		t.Errorf("not proven: %s", notes)
	}
}

// TestConcurrent verifies different evidence on many goroutines, for the race detector.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	w := attesttest.New(t)
	m := w.Boot(t, w.Spec())
	var wg sync.WaitGroup
	for i := range 8 {
		nonce := [32]byte{byte(i + 1)}
		e := w.Attest(t, m, w.Claims(t, schemas.RoleWorker), nonce)
		wg.Go(func() {
			for range 3 {
				if _, err := w.Verifier.Verify(context.Background(), e, nonce); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestNewVerifierNeedsEverything(t *testing.T) {
	t.Parallel()
	w := attesttest.New(t)
	for name, o := range map[string]attest.Options{
		"no policy": {Collateral: w.Platform.Collateral()}, "no collateral": {Policy: w.Keeper},
	} {
		if _, err := attest.NewVerifier(o); schemas.KindOf(err) != schemas.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBootRefuses(t *testing.T) {
	t.Parallel()
	w := attesttest.New(t)
	if _, err := attest.Boot(context.Background(), attest.MachineOptions{}); schemas.KindOf(err) != schemas.KindInvalid {
		t.Errorf("no TD: %v", err)
	}
	td, err := w.Platform.Launch("host-1", sim.ImageRegisters(attesttest.WorkerImage))
	if err != nil {
		t.Fatal(err)
	}
	_, err = attest.Boot(context.Background(), attest.MachineOptions{TD: td, Models: []schemas.ModelID{"no model id"}})
	if schemas.KindOf(err) != schemas.KindInvalid || td.Registers().RTMR[3] != (schemas.Measure{}) {
		t.Errorf("bad model: %v, register %s", err, td.Registers().RTMR[3])
	}
}
