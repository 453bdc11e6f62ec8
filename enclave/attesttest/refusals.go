package attesttest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"slices"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// Refusal is one thing that a verifier must refuse.
type Refusal struct {
	// Name says what is wrong.
	Name string
	// Kind and Field are those of the error.
	Kind  schemas.Kind
	Field string
	// Make prepares a fresh world and makes the evidence to verify in it.
	Make func(t testing.TB, w *World) (schemas.Evidence, [32]byte)
}

// challenge is the nonce of all cases.
var challenge = [32]byte{0xc4}

// Refusals lists everything a verifier must refuse.
func Refusals() []Refusal {
	return slices.Concat(quoteRefusals(), tcbRefusals(), tdRefusals(), claimRefusals(), logRefusals(), gpuRefusals(), policyRefusals())
}

// The ways to make a case, from the outside in.

// tampered changes healthy evidence after it was made.
func tampered(change func(*schemas.Evidence)) func(testing.TB, *World) (schemas.Evidence, [32]byte) {
	return func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
		e := w.Attest(t, w.Boot(t, w.Spec()), w.Claims(t, schemas.RoleWorker), challenge)
		change(&e)
		return e, challenge
	}
}

// turned makes healthy evidence while the collateral says otherwise.
func turned(knobs func(*sim.Knobs)) func(testing.TB, *World) (schemas.Evidence, [32]byte) {
	return func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
		w.Platform.Turn(knobs)
		return tampered(func(*schemas.Evidence) {})(t, w)
	}
}

// ruled makes healthy evidence for a verifier under another policy.
func ruled(change func(*World, *schemas.Policy)) func(testing.TB, *World) (schemas.Evidence, [32]byte) {
	return func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
		policy := w.Policy()
		change(w, policy)
		w.Keeper, w.Verifier = w.NewVerifier(t, w.Platform.Collateral(), policy)
		return tampered(func(*schemas.Evidence) {})(t, w)
	}
}

// booted makes evidence of another machine.
func booted(change func(*sim.MachineSpec)) func(testing.TB, *World) (schemas.Evidence, [32]byte) {
	return func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
		spec := w.Spec()
		change(&spec)
		return w.Attest(t, w.Boot(t, spec), w.Claims(t, schemas.RoleWorker), challenge), challenge
	}
}

// claimed makes evidence with other claims.
func claimed(change func(*World, *schemas.Claims)) func(testing.TB, *World) (schemas.Evidence, [32]byte) {
	return func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
		claims := w.Claims(t, schemas.RoleWorker)
		change(w, &claims)
		return w.Attest(t, w.Boot(t, w.Spec()), claims, challenge), challenge
	}
}

// launched boots the worker's log on a TD whose launch or GPUs were meddled with.
func launched(registers func(*sim.Registers), gpus func(*sim.GPUs), after func(testing.TB, *sim.TD)) func(testing.TB, *World) (schemas.Evidence, [32]byte) {
	return func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
		r := sim.ImageRegisters(WorkerImage)
		if registers != nil {
			registers(&r)
		}
		td, err := w.Platform.Launch("host-1", r)
		if err != nil {
			t.Fatal(err)
		}
		lib, err := w.Platform.GPUs("host-1", 1)
		if err != nil {
			t.Fatal(err)
		}
		if gpus != nil {
			gpus(lib)
		}
		m, err := attest.Boot(context.Background(), attest.MachineOptions{
			TD: td, GPUs: &nvidia.Collector{Library: lib, Stapler: w.Platform}, Config: sim.ImageConfig(WorkerImage),
			PolicyRoot: w.Trust.Roots.Hash(), Models: []schemas.ModelID{Model},
		})
		if err != nil {
			t.Fatal(err)
		}
		if after != nil {
			after(t, td)
		}
		return w.Attest(t, m, w.Claims(t, schemas.RoleWorker), challenge), challenge
	}
}

// flip alters one byte.
func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// quoteRefusals: the CPU's signature chain.
func quoteRefusals() []Refusal {
	const kind = schemas.KindAttestation
	foreign := func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
		other, err := sim.New([sim.SeedSize]byte{99}, sim.Options{Now: w.Now})
		if err != nil {
			t.Fatal(err)
		}
		mine := w.Platform
		w.Platform = other
		e, nonce := tampered(func(*schemas.Evidence) {})(t, w)
		w.Platform = mine
		return e, nonce
	}
	return []Refusal{
		{"quote of another root", kind, "quote.root", foreign},
		{"firmware register flipped", kind, "quote.signature", tampered(func(e *schemas.Evidence) { e.Quote = flip(e.Quote, 48+140) })},
		{"report data flipped", kind, "quote.signature", tampered(func(e *schemas.Evidence) { e.Quote = flip(e.Quote, 48+521) })},
		{"quoting enclave's report flipped", kind, "quote.qe", tampered(func(e *schemas.Evidence) { e.Quote = flip(e.Quote, 636+134+10) })},
		{"quote truncated", kind, "quote", tampered(func(e *schemas.Evidence) { e.Quote = e.Quote[:len(e.Quote)-1] })},
		{"bytes after the quote", kind, "quote", tampered(func(e *schemas.Evidence) { e.Quote = append(e.Quote, 0) })},
		{"version 5 quote", kind, "quote.header", tampered(func(e *schemas.Evidence) { e.Quote = flip(e.Quote, 0) })},
		{"machine revoked", kind, "quote", turned(func(k *sim.Knobs) { k.RevokedMachines = []string{"host-1"} })},
		{"intermediate certificate revoked", kind, "quote", turned(func(k *sim.Knobs) { k.RevokeIntermediate = true })},
		{"collateral's signer revoked", kind, "quote", turned(func(k *sim.Knobs) { k.RevokeSigner = true })},
		{"collateral ended", kind, "quote", turned(func(k *sim.Knobs) { k.Valid = -time.Minute })},
		{"collateral of the future", kind, "collateral", turned(func(k *sim.Knobs) { k.Issued = time.Hour })},
		{"collateral missing", schemas.KindUnavailable, "collateral", func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
			w.Keeper, w.Verifier = w.NewVerifier(t, tdx.NewCollateral(tdx.CollateralOptions{Store: tdx.Bundle{}, Now: w.Now}), w.Policy())
			return tampered(func(*schemas.Evidence) {})(t, w)
		}},
	}
}

// tcbRefusals: Intel's judgement and the policy's.
func tcbRefusals() []Refusal {
	const kind = schemas.KindPolicy
	return []Refusal{
		{"platform OutOfDate", kind, "tcb.platform", turned(func(k *sim.Knobs) { k.Platform = schemas.OutOfDate })},
		{"platform Revoked", kind, "tcb.platform", turned(func(k *sim.Knobs) { k.Platform = schemas.Revoked })},
		{"TDX module OutOfDate", kind, "tcb.module", turned(func(k *sim.Knobs) { k.Module = schemas.OutOfDate })},
		{"quoting enclave OutOfDate", kind, "tcb.qe", turned(func(k *sim.Knobs) { k.QE = schemas.OutOfDate })},
		{"hardening needed and quoting enclave Revoked", kind, "tcb.qe", turned(func(k *sim.Knobs) { k.Platform, k.QE = schemas.SWHardeningNeeded, schemas.Revoked })},
		{"collateral rolled back", kind, "tcb.evaluation", turned(func(k *sim.Knobs) { k.Evaluation = 18 })},
		{"TCB level too old", kind, "tcb.date", turned(func(k *sim.Knobs) { k.TCBAge = 366 * 24 * time.Hour })},
		{"advisory denied", kind, "tcb.platform", func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
			w.Platform.Turn(func(k *sim.Knobs) { k.Platform, k.Advisories = schemas.SWHardeningNeeded, []string{"INTEL-SA-00001"} })
			return ruled(func(_ *World, p *schemas.Policy) { p.TDX.DenyAdvisories = []string{"INTEL-SA-00001"} })(t, w)
		}},
		{"no status accepted", kind, "tcb.platform", ruled(func(_ *World, p *schemas.Policy) { p.TDX.AcceptStatus = []schemas.TCBStatus{} })},
	}
}

// tdRefusals: the TD and the machine.
func tdRefusals() []Refusal {
	const kind = schemas.KindPolicy
	return []Refusal{
		{"debug TD", kind, "td.attributes", launched(func(r *sim.Registers) { r.Attributes |= 1 }, nil, nil)},
		{"migratable TD", kind, "td.attributes", launched(func(r *sim.Registers) { r.Attributes |= 1 << 29 }, nil, nil)},
		{"unknown feature", kind, "td.xfam", launched(func(r *sim.Registers) { r.XFAM |= 1 << 40 }, nil, nil)},
		{"unknown TDX module", kind, "td.module", launched(func(r *sim.Registers) { r.Module[0] ^= 1 }, nil, nil)},
		{"no TDX module admitted", kind, "td.module", ruled(func(_ *World, p *schemas.Policy) { p.TDX.Modules = []schemas.Measure{} })},
		{"machine blocked", kind, "td.ppid", ruled(func(w *World, p *schemas.Policy) {
			p.TDX.Platforms.Blocked = []schemas.PPID{w.Platform.PPID("host-1")}
		})},
		{"machine not listed", kind, "td.ppid", ruled(func(w *World, p *schemas.Policy) {
			p.TDX.Platforms.Mode, p.TDX.Platforms.Listed = schemas.PlatformsListed, []schemas.PPID{w.Platform.PPID("host-2")}
		})},
		{"no machine listed", kind, "td.ppid", ruled(func(_ *World, p *schemas.Policy) { p.TDX.Platforms.Mode = schemas.PlatformsListed })},
		{"unknown firmware", kind, "image", launched(func(r *sim.Registers) { r.MRTD[0] ^= 1 }, nil, nil)},
		{"unknown kernel", kind, "image.rtmr1", launched(func(r *sim.Registers) { r.RTMR[1][0] ^= 1 }, nil, nil)},
		{"unknown command line", kind, "image.rtmr2", launched(func(r *sim.Registers) { r.RTMR[2][0] ^= 1 }, nil, nil)},
		{"host's configuration id set", kind, "image.mrconfigid", launched(func(r *sim.Registers) { r.MRConfigID[0] ^= 1 }, nil, nil)},
		{"host's owner set", kind, "image.mrowner", launched(func(r *sim.Registers) { r.MROwner[0] ^= 1 }, nil, nil)},
		{"no image admitted", kind, "image", ruled(func(_ *World, p *schemas.Policy) { p.Measurements = []schemas.Measurement{} })},
		{"image no longer admitted", kind, "claims.role", ruled(func(w *World, p *schemas.Policy) { p.Measurements[0].NotAfter = w.Now() })},
	}
}

// claimRefusals: what the process says about itself.
func claimRefusals() []Refusal {
	const kind = schemas.KindAttestation
	return []Refusal{
		{"claims altered", kind, "claims", tampered(func(e *schemas.Evidence) { e.Claims = append([]byte{' '}, e.Claims...) })},
		{"claims of another", kind, "claims", func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
			e, nonce := tampered(func(*schemas.Evidence) {})(t, w)
			other, _ := tampered(func(*schemas.Evidence) {})(t, w)
			e.Claims = other.Claims
			return e, nonce
		}},
		{"another challenge", kind, "nonce", func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
			e, _ := tampered(func(*schemas.Evidence) {})(t, w)
			return e, [32]byte{0xdd}
		}},
		{"unchallenged evidence for a challenge", kind, "nonce", func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
			return w.Attest(t, w.Boot(t, w.Spec()), w.Claims(t, schemas.RoleWorker), [32]byte{}), challenge
		}},
		{"claims expired", kind, "claims.expires", claimed(func(w *World, c *schemas.Claims) { c.Expires = w.Now() })},
		{"claims that live too long", kind, "claims.expires", claimed(func(w *World, c *schemas.Claims) { c.Expires = w.Now().Add(2 * time.Hour) })},
		{"worker's image as broker", schemas.KindPolicy, "claims.role", claimed(func(_ *World, c *schemas.Claims) { c.Role, c.Owner = schemas.RoleBroker, "" })},
		{"broker's image as worker", schemas.KindPolicy, "claims.role", booted(func(s *sim.MachineSpec) { s.Image, s.GPUs, s.Models = BrokerImage, 0, nil })},
		{"model claimed but not admitted", schemas.KindPolicy, "models", claimed(func(_ *World, c *schemas.Claims) { c.Models = []schemas.ModelID{OtherModel} })},
	}
}

// logRefusals: what was measured at boot.
func logRefusals() []Refusal {
	const kind = schemas.KindAttestation
	rogue := schemas.Event{Type: "rogue", Payload: []byte("x")}
	return []Refusal{
		{"rogue event after boot-done", kind, "log", launched(nil, nil, func(t testing.TB, td *sim.TD) {
			if err := td.Extend(context.Background(), 3, rogue.Digest()); err != nil {
				t.Fatal(err)
			}
		})},
		{"rogue event in the log", kind, "log[4].type", tampered(func(e *schemas.Evidence) { e.Log = append(e.Log, rogue) })},
		{"log truncated", kind, "log", tampered(func(e *schemas.Evidence) { e.Log = e.Log[:len(e.Log)-1] })},
		{"log empty", kind, "log", tampered(func(e *schemas.Evidence) { e.Log = nil })},
		{"log reordered", kind, "log[1].type", tampered(func(e *schemas.Evidence) { e.Log[0], e.Log[1] = e.Log[1], e.Log[0] })},
		{"configuration twice", kind, "log[1].type", tampered(func(e *schemas.Evidence) { e.Log = slices.Insert(e.Log, 0, e.Log[0]) })},
		{"model hidden", kind, "log", tampered(func(e *schemas.Evidence) { e.Log = slices.Delete(e.Log, 2, 3) })},
		{"unknown configuration", schemas.KindPolicy, "log.config", booted(func(s *sim.MachineSpec) { s.Config = schemas.Hash{1} })},
		{"no configuration admitted", schemas.KindPolicy, "log.config", ruled(func(_ *World, p *schemas.Policy) { p.Measurements[0].Configs = []schemas.Hash{} })},
		{"obeys other root keys", schemas.KindPolicy, "log.policy-root", booted(func(s *sim.MachineSpec) { s.PolicyRoot = schemas.Hash{1} })},
		{"unknown model", schemas.KindPolicy, "models", booted(func(s *sim.MachineSpec) { s.Models = []schemas.ModelID{OtherModel} })},
		{"no model admitted", schemas.KindPolicy, "models", ruled(func(_ *World, p *schemas.Policy) { p.Models = []schemas.ModelID{} })},
	}
}

// gpuRefusals: the GPUs.
func gpuRefusals() []Refusal {
	const kind = schemas.KindAttestation
	// twice shows the evidence of one GPU as two, bound in the claims.
	twice := launched(nil, func(g *sim.GPUs) { g.All = append(g.All, g.All[0]) }, nil)
	return []Refusal{
		{"no GPU", schemas.KindPolicy, "gpus", booted(func(s *sim.MachineSpec) { s.GPUs = 0 })},
		{"too many GPUs", schemas.KindPolicy, "gpus", booted(func(s *sim.MachineSpec) { s.GPUs = 3 })},
		{"GPU dropped", kind, "gpus", func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
			e, nonce := booted(func(s *sim.MachineSpec) { s.GPUs = 2 })(t, w)
			e.GPUs = e.GPUs[:1]
			return e, nonce
		}},
		{"GPU added", kind, "gpus", func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
			e, nonce := tampered(func(*schemas.Evidence) {})(t, w)
			other, _ := booted(func(s *sim.MachineSpec) { s.Name = "host-2" })(t, w)
			e.GPUs = append(e.GPUs, other.GPUs[0])
			return e, nonce
		}},
		{"GPU replaced", kind, "gpus[0]", func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
			e, nonce := tampered(func(*schemas.Evidence) {})(t, w)
			other, _ := booted(func(s *sim.MachineSpec) { s.Name = "host-2" })(t, w)
			e.GPUs = other.GPUs
			return e, nonce
		}},
		{"GPU shown twice", kind, "gpus[1].id", twice},
		{"GPU report with another nonce", kind, "gpus[0].report.nonce", func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
			return staleGPU(t, w), challenge
		}},
		{"GPU of another root", kind, "gpus[0].chain.root", func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
			other, err := sim.New([sim.SeedSize]byte{99}, sim.Options{Now: w.Now})
			if err != nil {
				t.Fatal(err)
			}
			return launched(nil, func(g *sim.GPUs) {
				foreign, err := other.GPU("host-1", 0)
				if err != nil {
					t.Fatal(err)
				}
				g.All[0] = foreign
			}, nil)(t, w)
		}},
		{"GPU firmware altered", schemas.KindPolicy, "gpus[0].golden", launched(nil, func(g *sim.GPUs) { g.All[0].Measurements[7][0] ^= 1 }, nil)},
		{"GPU reports other firmware than its certificate", kind, "gpus[0].report.fwid", launched(nil, func(g *sim.GPUs) { g.All[0].Firmware[0] ^= 1 }, nil)},
		{"unknown GPU driver", schemas.KindPolicy, "gpus[0].golden", launched(nil, func(g *sim.GPUs) { g.All[0].Driver = "500.00" }, nil)},
		{"no GPU firmware admitted", schemas.KindPolicy, "gpus[0].golden", ruled(func(_ *World, p *schemas.Policy) { p.GPU.Golden = []schemas.Golden{} })},
		{"GPU architecture not admitted", schemas.KindPolicy, "gpus[0].architecture", ruled(func(_ *World, p *schemas.Policy) { p.GPU.Architectures = []string{"GB100"} })},
		{"no GPU architecture admitted", schemas.KindPolicy, "gpus[0].architecture", ruled(func(_ *World, p *schemas.Policy) { p.GPU.Architectures = []string{} })},
		{"GPU blocked", schemas.KindPolicy, "gpus[0].id", ruled(func(w *World, p *schemas.Policy) {
			gpu, err := w.Platform.GPU("host-1", 0)
			if err != nil {
				return // the case then fails for want of a refusal
			}
			p.GPU.Blocked = []schemas.Hash{gpu.ID()}
		})},
		{"GPU revoked", kind, "gpus[0].ocsp", turned(func(k *sim.Knobs) { k.RevokeGPU = true })},
		{"GPU revocation not known", schemas.KindPolicy, "gpus[0].ocsp", turned(func(k *sim.Knobs) { k.NoOCSP = true })},
		{"GPU revocation answer too old", schemas.KindPolicy, "gpus[0].ocsp", turned(func(k *sim.Knobs) { k.Issued = -49 * time.Hour })},
		{"GPU chain in another order", kind, "gpus[0]", tampered(func(e *schemas.Evidence) { e.GPUs[0].Chain = reversedPEM(e.GPUs[0].Chain) })},
	}
}

// policyRefusals: the policy itself.
func policyRefusals() []Refusal {
	return []Refusal{
		{"policy expired", schemas.KindPolicy, "policy", func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
			w.Sleep(31 * 24 * time.Hour)
			return tampered(func(*schemas.Evidence) {})(t, w)
		}},
		{"no policy", schemas.KindUnavailable, "policy", func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
			keeper, err := attest.NewKeeper(w.Trust, attest.KeeperOptions{Now: w.Now})
			if err != nil {
				t.Fatal(err)
			}
			if w.Verifier, err = attest.NewVerifier(attest.Options{Policy: keeper, Collateral: w.Platform.Collateral(), Now: w.Now}); err != nil {
				t.Fatal(err)
			}
			w.Keeper = keeper
			return tampered(func(*schemas.Evidence) {})(t, w)
		}},
		{"no development root named", schemas.KindPolicy, "simulated.tdx", ruled(func(_ *World, p *schemas.Policy) { p.Simulated.TDX = []schemas.Hash{} })},
		{"no development GPU root named", schemas.KindAttestation, "gpus[0].chain.root", ruled(func(_ *World, p *schemas.Policy) { p.Simulated.GPU = []schemas.Hash{} })},
		{"simulated machine, production policy", schemas.KindAttestation, "quote.root", func(t testing.TB, w *World) (schemas.Evidence, [32]byte) {
			e, nonce := tampered(func(*schemas.Evidence) {})(t, w)
			policy := w.Policy()
			policy.Environment, policy.Simulated = schemas.Production, nil
			w.Trust.Environment = schemas.Production
			w.Keeper, w.Verifier = w.NewVerifier(t, w.Platform.Collateral(), policy)
			return e, nonce
		}},
	}
}

// replaying is a GPU side that answers every challenge with an old report.
type replaying struct{ old []schemas.GPUEvidence }

// Collect implements attest.GPUs.
func (r replaying) Collect(context.Context, [32]byte) ([]schemas.GPUEvidence, error) {
	return r.old, nil
}

// staleGPU makes evidence whose GPU report answers an earlier challenge, bound in the claims all the same.
func staleGPU(t testing.TB, w *World) schemas.Evidence {
	spec := w.Spec()
	old := w.Attest(t, w.Boot(t, spec), w.Claims(t, schemas.RoleWorker), [32]byte{0xee})
	td, err := w.Platform.Launch(spec.Name, sim.ImageRegisters(spec.Image))
	if err != nil {
		t.Fatal(err)
	}
	m, err := attest.Boot(context.Background(), attest.MachineOptions{
		TD: td, GPUs: replaying{old.GPUs}, Config: sim.ImageConfig(spec.Image), PolicyRoot: spec.PolicyRoot, Models: spec.Models,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w.Attest(t, m, w.Claims(t, schemas.RoleWorker), challenge)
}

// reversedPEM turns a chain around.
func reversedPEM(chain []byte) (out []byte) {
	for {
		var block *pem.Block
		if block, chain = pem.Decode(chain); block == nil {
			return out
		}
		out = append(pem.EncodeToMemory(block), out...)
	}
}

// Stranger is a root key set that nobody in a World believes.
func Stranger(t testing.TB) (schemas.RootKeys, ed25519.PrivateKey) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x77}, ed25519.SeedSize))
	roots, err := schemas.NewRootKeys(1, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return roots, key
}
