package attest

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"time"

	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// StepName names one thing that is checked.
type StepName string

// The steps, in order. Each rests on those before it; the first that fails ends the examination.
const (
	// StepPolicy: a signed policy of our environment is in force.
	StepPolicy StepName = "policy"
	// StepQuote: genuine CPU; signatures, chain, revocation and collateral verify down to an admitted root.
	StepQuote StepName = "quote"
	// StepTCB: Intel's judgement of platform, TDX module and quoting enclave is acceptable.
	StepTCB StepName = "tcb"
	// StepTD: not debuggable, exactly the admitted attributes, an admitted TDX module, on an admitted machine.
	StepTD StepName = "td"
	// StepClaims: the quote binds these claims and this challenge; they are well formed and have not expired.
	StepClaims StepName = "claims"
	// StepImage: firmware, kernel and command line are admitted for the claimed role.
	StepImage StepName = "image"
	// StepLog: the event log replays to RTMR3; configuration, root keys and models are admitted.
	StepLog StepName = "log"
	// StepGPU: every GPU the image must have is genuine, in confidential mode and in an admitted state.
	StepGPU StepName = "gpu"
)

// Steps lists all steps in order.
func Steps() []StepName {
	return []StepName{StepPolicy, StepQuote, StepTCB, StepTD, StepClaims, StepImage, StepLog, StepGPU}
}

// Proves says, for people, what a step that holds has shown.
func (s StepName) Proves() string {
	switch s {
	case StepPolicy:
		return "the policy is signed by enough root keys, is of our environment and has not expired"
	case StepQuote:
		return "a genuine CPU of the named root signed these registers; neither it nor its signers are revoked"
	case StepTCB:
		return "its microcode, TDX module and quoting enclave are in a state the policy accepts"
	case StepTD:
		return "the trust domain cannot be debugged, has exactly the admitted features and runs on an admitted machine"
	case StepClaims:
		return "the keys, role and owner in the claims were stated inside it, together with the challenge, if there was one"
	case StepImage:
		return "firmware, kernel and command line are those of an admitted image with this role"
	case StepLog:
		return "it measured an admitted configuration, our root keys and only admitted models, and nothing after them"
	case StepGPU:
		return "every GPU it must have is genuine, in confidential mode, in an admitted state, and signed for these claims"
	}
	return ""
}

// Step is one step that was taken.
type Step struct {
	// Name says which.
	Name StepName
	// Err says why it failed; nil: it holds.
	Err error
}

// Examination is a verification with its steps.
type Examination struct {
	// Policy is the policy in force, nil when there was none.
	Policy *InForce
	// Steps are the steps taken; all but the last hold.
	Steps []Step
	// TDX is what the quote proves, nil when it does not verify. It is filled before the policy judges it.
	TDX *tdx.Report
	// GPUs are the reports of the GPUs that verified.
	GPUs []*nvidia.Report

	verifier  *Verifier
	evidence  *schemas.Evidence
	nonce     [32]byte
	now       time.Time
	claims    schemas.Claims
	facts     schemas.Facts
	image     *schemas.Measurement
	admission *Admission
}

// Result is the admission, or the reason why there is none.
func (x *Examination) Result() (*Admission, error) {
	if x.admission != nil {
		return x.admission.clone(), nil
	}
	for _, s := range x.Steps {
		if s.Err != nil {
			return nil, s.Err
		}
	}
	return nil, errors.New("attest: examination was not run")
}

// run takes the steps, or recalls that the very same bytes were admitted under this policy and collateral.
func (x *Examination) run(ctx context.Context) {
	digest, err := x.evidence.Hash()
	if err != nil {
		x.Steps = []Step{{Name: StepPolicy}, {Name: StepQuote, Err: asAttestation(err)}}
		return
	}
	key := x.key(digest)
	if known := x.verifier.recall(key, x.now); known != nil && x.verifier.tdx.Holds(ctx, known.tdx, x.now) {
		x.admission, x.TDX, x.GPUs = known.admission, known.tdx, known.gpus
		for _, name := range Steps() {
			x.Steps = append(x.Steps, Step{Name: name})
		}
		return
	}
	x.Steps = append(x.Steps, Step{Name: StepPolicy})
	for _, step := range []struct {
		name StepName
		take func(context.Context) error
	}{
		{StepQuote, x.quote}, {StepTCB, x.tcb}, {StepTD, x.td}, {StepClaims, x.bound}, {StepImage, x.measured}, {StepLog, x.log}, {StepGPU, x.gpus},
	} {
		err := step.take(ctx)
		x.Steps = append(x.Steps, Step{Name: step.name, Err: err})
		if err != nil {
			return
		}
	}
	x.admission = x.admit(digest)
	x.verifier.remember(key, remembered{x.admission, x.TDX, x.GPUs})
}

// key identifies evidence bytes, challenge and policy.
func (x *Examination) key(digest schemas.Hash) schemas.Hash {
	b := append(digest[:], x.nonce[:]...)
	return sha256.Sum256(append(b, x.Policy.Hash[:]...))
}

// quote verifies the CPU's side down to the roots of the policy's environment.
func (x *Examination) quote(ctx context.Context) (err error) {
	roots := []schemas.Hash{tdx.IntelRoot}
	if x.Policy.Simulated != nil {
		roots = x.Policy.Simulated.TDX
	}
	if len(roots) == 0 {
		return refuse("simulated.tdx", "the policy's list of roots is empty: nothing is admitted")
	}
	x.TDX, err = x.verifier.tdx.Verify(ctx, x.evidence.Quote, roots, x.now)
	return err
}

// bound checks that the quote is about these claims and this challenge, and that the claims are in force.
func (x *Examination) bound(context.Context) error {
	want := schemas.ReportData(x.evidence.Claims, x.nonce)
	if subtle.ConstantTimeCompare(want[:32], x.TDX.Data[:32]) != 1 {
		return disprove("claims", "the quote does not bind these claims")
	}
	if subtle.ConstantTimeCompare(want[32:], x.TDX.Data[32:]) != 1 {
		return disprove("nonce", "the quote answers another challenge")
	}
	var err error
	if x.claims, err = schemas.ParseClaims(x.evidence.Claims); err != nil {
		return asAttestation(inside("claims.", err))
	}
	if !x.now.Before(x.claims.Expires) {
		return disprove("claims.expires", "expired at %s", x.claims.Expires.Format(time.RFC3339))
	}
	if x.claims.Expires.After(x.now.Add(schemas.MaxClaimsTerm + schemas.MaxClockSkew)) {
		return disprove("claims.expires", "is %s, more than an hour ahead", x.claims.Expires.Format(time.RFC3339))
	}
	return nil
}

// log checks what was measured into RTMR3.
func (x *Examination) log(context.Context) error {
	facts, register, err := x.evidence.Log.Replay()
	if err != nil {
		return asAttestation(err)
	}
	if register != x.TDX.RTMR[3] {
		return disprove("log", "does not replay to RTMR3: something else was measured")
	}
	if facts.PolicyRoot != x.Policy.Roots {
		return refuse("log.policy-root", "this enclave obeys other root keys: %s", facts.PolicyRoot)
	}
	if err := x.admitConfig(facts.Config); err != nil {
		return err
	}
	for _, id := range append(facts.Models, x.claims.Models...) {
		if !x.Policy.admitsModel(id) {
			return refuse("models", "%s is not an admitted model", id)
		}
	}
	x.facts = facts
	return nil
}

// gpus verifies every GPU and that they are those of the claims.
func (x *Examination) gpus(context.Context) error {
	if have := len(x.evidence.GPUs); have < x.image.MinGPUs || have > x.image.MaxGPUs {
		return refuse("gpus", "are %d, image %s must have %d to %d", have, x.image.Name, x.image.MinGPUs, x.image.MaxGPUs)
	}
	if len(x.claims.GPUs) != len(x.evidence.GPUs) {
		return disprove("gpus", "are %d, the quote binds %d", len(x.evidence.GPUs), len(x.claims.GPUs))
	}
	roots := []schemas.Hash{nvidia.Root}
	if x.Policy.Simulated != nil {
		roots = x.Policy.Simulated.GPU
	}
	nonce := schemas.GPUNonce(x.nonce, x.claims.HPKE, x.claims.Sign)
	seen := map[schemas.Hash]bool{}
	for i, evidence := range x.evidence.GPUs {
		if evidence.Digest() != x.claims.GPUs[i] {
			return disprove(gpuField(i, ""), "is not the evidence that the quote binds")
		}
		report, err := x.verifier.gpu.Verify(evidence, nonce, roots, x.now)
		if err != nil {
			return asAttestation(inside(gpuField(i, "."), err))
		}
		if seen[report.ID] {
			return disprove(gpuField(i, ".id"), "the same GPU is shown twice")
		}
		seen[report.ID] = true
		x.GPUs = append(x.GPUs, report)
		if err := x.Policy.admitsGPU(report, x.now); err != nil {
			return inside(gpuField(i, "."), err)
		}
	}
	return nil
}

// inside puts a prefix before the field of an error.
func inside(prefix string, err error) error {
	var e *schemas.Error
	if !errors.As(err, &e) {
		return err
	}
	c := *e
	c.Field = prefix + e.Field
	return &c
}

// asAttestation makes a refusal of malformed evidence out of a codec's error.
func asAttestation(err error) error {
	var e *schemas.Error
	if !errors.As(err, &e) || e.Kind == schemas.KindUnavailable {
		return err
	}
	c := *e
	c.Kind = schemas.KindAttestation
	return &c
}
