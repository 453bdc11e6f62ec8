package attest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// Options configure a Verifier.
type Options struct {
	// Policy gives the policy in force; required.
	Policy PolicySource
	// Collateral gives Intel's documents; required. It is untrusted: everything in it is signed.
	Collateral *tdx.Collateral
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Verifier judges evidence. It is safe for concurrent use; one serves a process.
type Verifier struct {
	policy PolicySource
	tdx    *tdx.Verifier
	gpu    *nvidia.Verifier
	now    func() time.Time

	mu sync.Mutex
	// admitted remembers verifications of the very same bytes under the same policy; guarded by mu.
	admitted map[schemas.Hash]remembered
}

// remembered is an admission and the reports it rests on.
type remembered struct {
	admission *Admission
	tdx       *tdx.Report
	gpus      []*nvidia.Report
}

// maxAdmitted bounds the remembered admissions: key bundles that are looked at again and again, mostly.
const maxAdmitted = 1024

// NewVerifier returns a verifier.
func NewVerifier(o Options) (*Verifier, error) {
	if o.Policy == nil || o.Collateral == nil {
		return nil, schemas.FieldError("verifier", "policy and collateral are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Verifier{
		policy: o.Policy, tdx: tdx.NewVerifier(o.Collateral), gpu: nvidia.NewVerifier(), now: o.Now, admitted: map[schemas.Hash]remembered{},
	}, nil
}

// Verify judges evidence that answers a challenge under the policy in force. A zero nonce judges evidence that nobody
// challenged: its Admission says so, and must not open anything.
func (v *Verifier) Verify(ctx context.Context, e schemas.Evidence, nonce [32]byte) (*Admission, error) {
	return v.Examine(ctx, e, nonce).Result()
}

// Examine is Verify that tells what was checked on the way, step by step, for people.
func (v *Verifier) Examine(ctx context.Context, e schemas.Evidence, nonce [32]byte) *Examination {
	policy, err := v.policy.Current()
	if err != nil {
		return &Examination{Steps: []Step{{Name: StepPolicy, Err: err}}}
	}
	x := &Examination{Policy: policy, verifier: v, evidence: &e, nonce: nonce, now: v.now()}
	x.run(ctx)
	return x
}

// recall finds an admission of the same bytes that has not ended.
func (v *Verifier) recall(key schemas.Hash, now time.Time) *remembered {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, ok := v.admitted[key]
	if !ok || !now.Before(r.admission.NotAfter) {
		delete(v.admitted, key)
		return nil
	}
	return &r
}

// remember keeps an admission, at the price of another one when there are too many.
func (v *Verifier) remember(key schemas.Hash, r remembered) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.admitted) >= maxAdmitted {
		for other := range v.admitted {
			delete(v.admitted, other)
			break
		}
	}
	v.admitted[key] = r
}

// clone keeps callers from changing what is remembered.
func (a *Admission) clone() *Admission {
	c := *a
	c.Models = slices.Clone(a.Models)
	c.GPUs = slices.Clone(a.GPUs)
	c.Platform.Advisories = slices.Clone(a.Platform.Advisories)
	return &c
}

// refuse is a KindPolicy error that names what the policy does not admit.
func refuse(field, format string, args ...any) error {
	return &schemas.Error{Kind: schemas.KindPolicy, Field: field, Message: fmt.Sprintf(format, args...)}
}

// disprove is a KindAttestation error that names what does not verify.
func disprove(field, format string, args ...any) error {
	return &schemas.Error{Kind: schemas.KindAttestation, Field: field, Message: fmt.Sprintf(format, args...)}
}
