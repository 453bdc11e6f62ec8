package attest

import (
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Admission is the outcome of a verification that succeeded: who was admitted, as what, until when, and every status
// that led to it as data.
type Admission struct {
	// Claims are what the process says, now believed.
	Claims schemas.Claims
	// Digest is the hash of the evidence bytes, for audit records.
	Digest schemas.Hash
	// Measurement is the name of the policy's entry that matched, Role its role.
	Measurement string
	Role        schemas.Role
	// Environment says whether the hardware is real.
	Environment schemas.Environment
	// PolicyVersion and PolicyHash name the policy that admitted it.
	PolicyVersion uint64
	PolicyHash    schemas.Hash
	// Challenged is false for evidence with a zero nonce: it introduces, and must not be given any secret.
	Challenged bool
	// Config is the measured configuration bundle.
	Config schemas.Hash
	// Models are all models that the process may serve: measured at boot, or claimed and admitted.
	Models []schemas.ModelID
	// Platform is the CPU side, GPUs the GPU side.
	Platform Platform
	GPUs     []GPU
	// NotAfter is when this admission ends: the earliest of the claims' expiry, the policy's evidence life and expiry,
	// the image's end, and the collateral's next update.
	NotAfter time.Time
}

// Platform is what Intel's collateral says about the machine.
type Platform struct {
	// TCB, Module and QE are the statuses of the platform, the TDX module and the quoting enclave.
	TCB, Module, QE schemas.TCBStatus
	// TCBDate is the oldest of the three levels' dates.
	TCBDate time.Time
	// Advisories are Intel's advisories that apply.
	Advisories []string
	// Evaluation is the tcbEvaluationDataNumber of the collateral.
	Evaluation int
	// FMSPC names the processor family, PPID the machine.
	FMSPC string
	PPID  schemas.PPID
}

// GPU is one verified GPU.
type GPU struct {
	// ID names the die: a hash of its identity key.
	ID schemas.Hash
	// Architecture is the chip, such as GH100.
	Architecture string
	// Driver and VBIOS are the measured versions.
	Driver, VBIOS string
	// Matched is the number of measurements that were compared with golden values.
	Matched int
	// Revocation says whether the vendor's revocation answers were checked.
	RevocationChecked bool
}
