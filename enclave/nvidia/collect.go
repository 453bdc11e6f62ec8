package nvidia

import (
	"context"
	"fmt"

	"github.com/cocoon-network/cocoon/schemas"
)

// Library is the part of NVIDIA's management library that attestation needs. Its errors are plain; [Collector] says
// what they mean.
type Library interface {
	// State reports the confidential computing settings of the machine.
	State() (State, error)
	// Devices lists the GPUs in their fixed order.
	Devices() ([]Device, error)
}

// State is how the machine's GPUs are set.
type State struct {
	// Capable is false when the driver knows no confidential computing at all.
	Capable bool
	// Enabled is the confidential computing feature (CC=on).
	Enabled bool
	// DevTools is the development mode, in which the host can read GPU memory.
	DevTools bool
	// Simulated is the vendor's simulation environment (not ours): keys that prove nothing.
	Simulated bool
}

// Device is one GPU.
type Device interface {
	// Name is the product name.
	Name() (string, error)
	// Report has the GPU sign its measurements and a nonce.
	Report(nonce [32]byte) ([]byte, error)
	// Chain is the GPU's PEM certificate chain.
	Chain() ([]byte, error)
}

// Stapler fetches the vendor's revocation answers about a chain.
type Stapler interface {
	// Staple returns the answers in the order of GPUEvidence.OCSP. Failures are KindUnavailable.
	Staple(ctx context.Context, chain []byte) ([][]byte, error)
}

// Collector has the GPUs of this machine attest themselves.
type Collector struct {
	// Library is required.
	Library Library
	// Stapler may be nil: evidence then has no revocation answers, and policies that demand them refuse it.
	Stapler Stapler
}

// Collect implements the GPU side of package attest. A machine whose GPUs cannot keep a secret is refused with the
// reason, as KindAttestation, before anything is signed.
func (c *Collector) Collect(ctx context.Context, nonce [32]byte) ([]schemas.GPUEvidence, error) {
	devices, err := c.Library.Devices()
	if err != nil {
		return nil, unavailable("gpus", err)
	}
	if len(devices) > schemas.MaxGPUs {
		return nil, refuse("gpus", "are %d, at most %d can attest", len(devices), schemas.MaxGPUs)
	}
	if err := c.ready(devices); err != nil {
		return nil, err
	}
	evidence := make([]schemas.GPUEvidence, 0, len(devices))
	for i, device := range devices {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e, err := c.collect(ctx, device, nonce)
		if err != nil {
			return nil, unavailable(fmt.Sprintf("gpus[%d]", i), err)
		}
		evidence = append(evidence, e)
	}
	return evidence, nil
}

// ready refuses machines whose settings let the host look into the GPUs.
func (c *Collector) ready(devices []Device) error {
	if len(devices) == 0 {
		return nil
	}
	state, err := c.Library.State()
	if err != nil {
		return unavailable("gpus", err)
	}
	name, err := devices[0].Name()
	if err != nil {
		return unavailable("gpus[0]", err)
	}
	switch {
	case !state.Capable:
		return refuse("gpus[0].capable", "GPU %s: no confidential computing", name)
	case !state.Enabled:
		return refuse("gpus[0].cc", "GPU %s: confidential computing is off (CC=off)", name)
	case state.DevTools:
		return refuse("gpus[0].devtools", "GPU %s: development tools are on (CC=devtools), the host can read its memory", name)
	case state.Simulated:
		return refuse("gpus[0].simulated", "GPU %s: the vendor's simulation environment is on", name)
	}
	return nil
}

// collect takes the evidence of one GPU.
func (c *Collector) collect(ctx context.Context, device Device, nonce [32]byte) (e schemas.GPUEvidence, err error) {
	if e.Report, err = device.Report(nonce); err != nil {
		return e, err
	}
	if e.Chain, err = device.Chain(); err != nil {
		return e, err
	}
	if c.Stapler != nil {
		e.OCSP, err = c.Stapler.Staple(ctx, e.Chain)
	}
	return e, err
}

// unavailable says that the GPUs could not be asked.
func unavailable(field string, err error) error {
	return &schemas.Error{Kind: schemas.KindUnavailable, Field: field, Message: "cannot be asked: " + err.Error(), Err: err}
}
