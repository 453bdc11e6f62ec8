package sim

import (
	"context"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/schemas"
)

// MachineSpec says what to boot.
type MachineSpec struct {
	// Name is the physical machine: the same name has the same PPID and the same GPUs. Required.
	Name string
	// Image is what is launched on it; see ImageRegisters. Required.
	Image string
	// GPUs is the number of GPUs.
	GPUs int
	// Config is the measured configuration. Default ImageConfig(Image).
	Config schemas.Hash
	// PolicyRoot is the hash of the root keys that the machine obeys. Required.
	PolicyRoot schemas.Hash
	// Models are measured at boot.
	Models []schemas.ModelID
}

// ImageConfig is the configuration that a simulated image has when nothing else is said.
func ImageConfig(image string) schemas.Hash {
	return schemas.HashOf([]byte("SIMULATED configuration bundle of " + image))
}

// Boot launches and boots a machine. What comes back attests itself with the production code over simulated hardware.
func (p *Platform) Boot(ctx context.Context, spec MachineSpec) (*attest.Machine, error) {
	if spec.Name == "" || spec.Image == "" || spec.PolicyRoot.IsZero() {
		return nil, schemas.FieldError("machine", "name, image and policy root are required")
	}
	if spec.Config.IsZero() {
		spec.Config = ImageConfig(spec.Image)
	}
	td, err := p.Launch(spec.Name, ImageRegisters(spec.Image))
	if err != nil {
		return nil, err
	}
	o := attest.MachineOptions{TD: td, Config: spec.Config, PolicyRoot: spec.PolicyRoot, Models: spec.Models}
	if spec.GPUs > 0 {
		gpus, err := p.GPUs(spec.Name, spec.GPUs)
		if err != nil {
			return nil, err
		}
		o.GPUs = &nvidia.Collector{Library: gpus, Stapler: p}
	}
	return attest.Boot(ctx, o)
}

// ImageRule admits one image in a simulated policy.
type ImageRule struct {
	// Name is the image, also the name of the policy's entry: 1 to 48 characters [a-z0-9_-].
	Name string
	// Role is what it may be.
	Role schemas.Role
	// Config is its admitted configuration. Default ImageConfig(Name).
	Config schemas.Hash
	// MinGPUs and MaxGPUs bound its GPUs.
	MinGPUs, MaxGPUs int
}

// PolicySpec says what a simulated policy admits.
type PolicySpec struct {
	// Version defaults to 1, Issued to now, Term to 30 days.
	Version uint64
	Issued  time.Time
	Term    time.Duration
	// Images are the admitted images, Models the admitted models.
	Images []ImageRule
	Models []schemas.ModelID
	// EvidenceMinutes defaults to 60.
	EvidenceMinutes int
	// OCSPMaxAgeHours is how old the vendor's revocation answers may be. 0: none are demanded.
	OCSPMaxAgeHours int
}

// Policy writes a policy of the simulated environment that admits this platform's hardware and the given images.
func (p *Platform) Policy(spec PolicySpec) *schemas.Policy {
	if spec.Version == 0 {
		spec.Version = 1
	}
	if spec.Issued.IsZero() {
		spec.Issued = p.now()
	}
	if spec.Term == 0 {
		spec.Term = 30 * 24 * time.Hour
	}
	if spec.EvidenceMinutes == 0 {
		spec.EvidenceMinutes = schemas.MaxEvidenceMinutes
	}
	issued, roots := spec.Issued.UTC().Truncate(time.Second), p.Roots()
	policy := &schemas.Policy{
		V: 1, Version: spec.Version, Issued: issued, Expires: issued.Add(spec.Term), Environment: schemas.Simulated, Simulated: &roots,
		EvidenceMinutes: spec.EvidenceMinutes,
		TDX: schemas.TDXRules{
			AcceptStatus: []schemas.TCBStatus{schemas.UpToDate, schemas.SWHardeningNeeded}, MinEvaluation: DefaultKnobs().Evaluation, MaxTCBAgeDays: 365,
			DenyAdvisories: []string{}, Modules: []schemas.Measure{moduleSum}, Attributes: tdAttributes, XFAM: tdXFAM,
			Platforms: schemas.PlatformRules{Mode: schemas.PlatformsAny, Listed: []schemas.PPID{}, Blocked: []schemas.PPID{}},
		},
		GPU: schemas.GPURules{
			Architectures: []string{GPUArchitecture}, OCSPMaxAgeHours: spec.OCSPMaxAgeHours, Golden: []schemas.Golden{golden()}, Blocked: []schemas.Hash{},
		},
		Measurements: []schemas.Measurement{}, Models: sortedModels(spec.Models),
		Reputation: schemas.Reputation{MinSuccess: 9_000, MinJobs: 20, WindowMinutes: 60},
	}
	for _, image := range spec.Images {
		policy.Measurements = append(policy.Measurements, image.measurement())
	}
	return policy
}

// sortedModels is the list as a policy wants it.
func sortedModels(ids []schemas.ModelID) []schemas.ModelID {
	list := append([]schemas.ModelID{}, ids...)
	slices.Sort(list)
	return slices.Compact(list)
}

// measurement writes the policy's entry of an image.
func (r ImageRule) measurement() schemas.Measurement {
	if r.Config.IsZero() {
		r.Config = ImageConfig(r.Name)
	}
	at := ImageRegisters(r.Name)
	return schemas.Measurement{
		Name: r.Name, Role: r.Role, MRTD: at.MRTD, RTMR0: at.RTMR[0], RTMR1: at.RTMR[1], RTMR2: at.RTMR[2],
		Configs: []schemas.Hash{r.Config}, MinGPUs: r.MinGPUs, MaxGPUs: r.MaxGPUs,
	}
}

// golden is the state of every simulated GPU.
func golden() schemas.Golden {
	g := schemas.Golden{Driver: GPUDriver, VBIOS: GPUVBIOS, Values: map[int][]schemas.Measure{}}
	for i := range gpuIndexes {
		g.Values[i] = []schemas.Measure{gpuMeasurement(i)}
	}
	return g
}
