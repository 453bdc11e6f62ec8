package attest

import (
	"context"
	"fmt"
	"slices"

	"github.com/cocoon-network/cocoon/schemas"
)

// Attester makes evidence for the process it runs in. [Machine] is the only one; tests may wrap it.
type Attester interface {
	// Attest quotes claims and a verifier's challenge. The digests of the GPU evidence are filled into the claims; the
	// bytes that were quoted are in the evidence. A zero nonce makes evidence that only introduces.
	Attest(ctx context.Context, claims schemas.Claims, nonce [32]byte) (schemas.Evidence, error)
}

// TD is the trust domain that this process runs in.
type TD interface {
	// Quote has the hardware sign the registers and 64 bytes of the caller.
	Quote(ctx context.Context, data [64]byte) ([]byte, error)
	// Extend extends RTMR[index]; only RTMR3 is ours. It cannot be undone.
	Extend(ctx context.Context, index int, digest schemas.Measure) error
}

// GPUs are the confidential GPUs of the machine.
type GPUs interface {
	// Collect has every GPU sign the nonce. It fails with the reason when a GPU cannot be confidential.
	Collect(ctx context.Context, nonce [32]byte) ([]schemas.GPUEvidence, error)
}

// MachineOptions say what is measured into RTMR3 before the machine attests anything.
type MachineOptions struct {
	// TD is required.
	TD TD
	// GPUs may be nil: a machine without GPUs.
	GPUs GPUs
	// Config is the SHA-256 of the configuration bundle; required.
	Config schemas.Hash
	// PolicyRoot is the hash of the root keys that this process obeys; required.
	PolicyRoot schemas.Hash
	// Models are those whose weights were verified before.
	Models []schemas.ModelID
}

// Machine is a booted TD that attests itself. It is safe for concurrent use.
type Machine struct {
	td   TD
	gpus GPUs
	log  schemas.EventLog
}

// Boot extends RTMR3 with the boot log in its fixed order and closes it. It must be called once in the life of a TD: a
// second boot log, or one that was cut short, leaves a register that no log explains, and the TD must start again.
func Boot(ctx context.Context, o MachineOptions) (*Machine, error) {
	if o.TD == nil {
		return nil, schemas.FieldError("td", "is required")
	}
	log := schemas.EventLog{schemas.ConfigEvent(o.Config), schemas.PolicyRootEvent(o.PolicyRoot)}
	for _, id := range o.Models {
		log = append(log, schemas.ModelEvent(id))
	}
	log = append(log, schemas.BootDoneEvent())
	if _, _, err := log.Replay(); err != nil {
		return nil, err
	}
	for _, event := range log {
		if err := o.TD.Extend(ctx, 3, event.Digest()); err != nil {
			return nil, fmt.Errorf("measure %s: %w", event.Type, err)
		}
	}
	return &Machine{td: o.TD, gpus: o.GPUs, log: log}, nil
}

// Log returns the boot log.
func (m *Machine) Log() schemas.EventLog { return slices.Clone(m.log) }

// Attest implements [Attester].
func (m *Machine) Attest(ctx context.Context, claims schemas.Claims, nonce [32]byte) (schemas.Evidence, error) {
	evidence := schemas.Evidence{Log: m.Log()}
	claims.GPUs = []schemas.Hash{}
	if m.gpus != nil {
		collected, err := m.gpus.Collect(ctx, schemas.GPUNonce(nonce, claims.HPKE, claims.Sign))
		if err != nil {
			return schemas.Evidence{}, err
		}
		evidence.GPUs = collected
		for _, gpu := range collected {
			claims.GPUs = append(claims.GPUs, gpu.Digest())
		}
	}
	var err error
	if evidence.Claims, err = claims.Encode(); err != nil {
		return schemas.Evidence{}, err
	}
	if evidence.Quote, err = m.td.Quote(ctx, schemas.ReportData(evidence.Claims, nonce)); err != nil {
		return schemas.Evidence{}, err
	}
	return evidence, evidence.Check()
}
