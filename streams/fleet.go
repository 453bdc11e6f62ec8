package streams

import (
	"encoding/hex"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// What stands in the buckets WORKERS and FLEET, as JSON. Control, workers, the dashboard and the commands share it.

// Keys of the buckets.
//
//	WORKERS  worker.<worker>        WorkerEntry, put by the worker every WorkerBeat
//	WORKERS  reputation.<worker>    Reputation, put by control every WorkerBeat
//	WORKERS  owner.<hash of owner>  Reputation of all workers of one owner, see KeyOwner
//	FLEET    model.<slug>           FleetModel, put by operators
//	FLEET    worker.<worker>        FleetWorker, put by operators
//	EVIDENCE admitted.<worker>      schemas.Finding, put by the broker that admitted it
//	EVIDENCE refused.<worker>       schemas.Finding, put by the broker that refused it; who it was is only stated
const (
	PrefixWorker     = "worker."
	PrefixReputation = "reputation."
	PrefixOwner      = "owner."
	PrefixModel      = "model."
	PrefixAdmitted   = "admitted."
	PrefixRefused    = "refused."
)

// KeyOwner is the key of an owner's reputation in WORKERS: addresses have characters that keys may not.
func KeyOwner(o schemas.Owner) string {
	sum := schemas.HashOf([]byte(o))
	return PrefixOwner + hex.EncodeToString(sum[:8])
}

// WorkerBeat is how often a worker renews its entry; the entry lapses after [WorkerTTL].
const (
	WorkerBeat = 5 * time.Second
	WorkerTTL  = 15 * time.Second
)

// EvidenceTTL is how long a finding is kept: longer than evidence lives, so that a worker that serves always has one.
const EvidenceTTL = 2 * time.Hour

// KeyFinding is the key of a finding in EVIDENCE. A refusal has a key of its own: who sent refused evidence is not proven, and
// must not be able to hide what is.
func KeyFinding(f *schemas.Finding) string {
	if f.Kind == schemas.KindUnknown {
		return PrefixAdmitted + string(f.Worker)
	}
	return PrefixRefused + string(f.Worker)
}

// WorkerState says what a worker does.
type WorkerState string

// The states of a worker.
const (
	WorkerStarting WorkerState = "starting"
	WorkerServing  WorkerState = "serving"
	WorkerDraining WorkerState = "draining"
	WorkerDisabled WorkerState = "disabled"
	// WorkerRefused: no broker admits it. WorkerPaused: it takes nothing new because of memory, its GPU or its engine.
	WorkerRefused WorkerState = "refused"
	WorkerPaused  WorkerState = "paused"
)

// WorkerEntry is what a worker says about itself. Nothing of it is attested; it is for people and for scaling.
type WorkerEntry struct {
	Worker      schemas.WorkerID    `json:"worker"`
	Owner       schemas.Owner       `json:"owner"`
	Host        string              `json:"host,omitempty"`
	Version     string              `json:"version,omitempty"`
	Environment schemas.Environment `json:"environment"`
	State       WorkerState         `json:"state"`
	// Reason explains a state other than serving.
	Reason string `json:"reason,omitempty"`
	// Ask is the lowest price multiplier it serves.
	Ask     schemas.BasisPoints `json:"ask"`
	Models  []WorkerModel       `json:"models"`
	GPUs    []WorkerGPU         `json:"gpus,omitempty"`
	Started time.Time           `json:"started"`
	// Evidence is the digest of its last admitted evidence and AttestedUntil when that ends.
	Evidence      schemas.Hash `json:"evidence,omitzero"`
	AttestedUntil time.Time    `json:"attested_until,omitzero"`
	// Done and Failed count outcomes of this life.
	Done   uint64 `json:"done"`
	Failed uint64 `json:"failed"`
}

// WorkerModel is a model that a worker serves.
type WorkerModel struct {
	Model schemas.ModelID `json:"model"`
	Route Route           `json:"route"`
	// Slots is the capacity, Busy how many run.
	Slots int `json:"slots"`
	Busy  int `json:"busy"`
	// TokensPerSecond is the recent output rate, 0 when unknown.
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"`
}

// WorkerGPU is a GPU as the worker's host reports it.
type WorkerGPU struct {
	Name        string `json:"name"`
	CC          string `json:"cc,omitempty"`
	Utilisation int    `json:"utilisation"`
	MemoryUsed  int64  `json:"memory_used"`
	MemoryTotal int64  `json:"memory_total"`
}

// Standing is what control thinks of a worker.
type Standing string

// The standings.
const (
	// StandingGood: grants without a limit.
	StandingGood Standing = "good"
	// StandingProbation: below the policy's floor; one job at a time.
	StandingProbation Standing = "probation"
	// StandingSuspended: far below; no grants until it recovers.
	StandingSuspended Standing = "suspended"
)

// Reputation sums up the recent work of a worker or of all workers of an owner.
type Reputation struct {
	Worker   schemas.WorkerID `json:"worker,omitempty"`
	Owner    schemas.Owner    `json:"owner,omitempty"`
	Standing Standing         `json:"standing"`
	// Windows go from the shortest to the longest.
	Windows []ReputationWindow `json:"windows"`
	Updated time.Time          `json:"updated"`
}

// ReputationWindow counts what happened in the last Span.
type ReputationWindow struct {
	Span time.Duration `json:"span"`
	// Succeeded and Failed are outcomes; Lost are grants whose job another worker had to finish.
	Succeeded uint64 `json:"succeeded"`
	Failed    uint64 `json:"failed"`
	Lost      uint64 `json:"lost"`
	// Median is the median time from grant to outcome.
	Median time.Duration `json:"median"`
}

// Rate is the share of success in basis points, 10,000 when nothing happened.
func (w ReputationWindow) Rate() schemas.BasisPoints {
	all := w.Succeeded + w.Failed + w.Lost
	if all == 0 {
		return 10_000
	}
	return schemas.BasisPoints(w.Succeeded * 10_000 / all)
}

// FleetModel is how many workers an operator wants for a model on each worker host.
type FleetModel struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

// FleetWorker is what an operator tells one worker.
type FleetWorker struct {
	// Drain asks it to finish what it holds and end. Disabled asks it to take nothing new but stay.
	Drain    bool `json:"drain,omitempty"`
	Disabled bool `json:"disabled,omitempty"`
	// Ask replaces the worker's own ask; 0 leaves it.
	Ask schemas.BasisPoints `json:"ask,omitempty"`
}
