package schemas

import (
	"errors"
	"time"
)

// Finding is what a verifier found in the evidence of one process, admitted or not, as data for records and pages: hashes,
// versions and verdicts, never a secret. What the quote does not prove is left zero: a finding whose quote does not verify
// has no registers.
type Finding struct {
	// Time is when it was judged, Broker who judged and Policy the version that it was judged under, 0 when none was in force.
	Time   time.Time `json:"time"`
	Broker KeyID     `json:"broker,omitempty"`
	Policy uint64    `json:"policy,omitempty"`
	// Worker is proven when Kind is KindUnknown; before that it is only what the evidence states.
	Worker WorkerID `json:"worker,omitempty"`
	// Evidence is the hash of the evidence bytes.
	Evidence Hash `json:"evidence,omitzero"`
	// Kind is KindUnknown for an admission. Otherwise Step is the step that failed, Field what it looked at and Message the
	// reason for people.
	Kind    Kind   `json:"kind"`
	Step    string `json:"step,omitempty"`
	Field   string `json:"field,omitempty"`
	Message string `json:"message,omitempty"`
	// Advice says what the operator of the refused machine can do.
	Advice string `json:"advice,omitempty"`
	// Image is the policy's entry that matched, Environment that of the policy, NotAfter when the admission ends.
	Image       string      `json:"image,omitempty"`
	Environment Environment `json:"environment,omitempty"`
	NotAfter    time.Time   `json:"not_after,omitzero"`
	// TDX is the processor's side, nil when the quote does not verify; GPUs are those that verified.
	TDX  *TDXFinding  `json:"tdx,omitempty"`
	GPUs []GPUFinding `json:"gpus,omitempty"`
}

// TDXFinding is what a genuine processor signed and what its maker says about its state.
type TDXFinding struct {
	MRTD  Measure `json:"mrtd"`
	RTMR0 Measure `json:"rtmr0"`
	RTMR1 Measure `json:"rtmr1"`
	RTMR2 Measure `json:"rtmr2"`
	RTMR3 Measure `json:"rtmr3"`
	// Module is the measurement of the TDX module, Machine the processor's id.
	Module  Measure `json:"module"`
	Machine PPID    `json:"machine"`
	// Platform, TDXModule and QE are the TCB verdicts, such as "UpToDate" or "OutOfDate since 2025-03-13", and TCBDate the
	// oldest date of the three.
	Platform  string    `json:"platform"`
	TDXModule string    `json:"tdx_module"`
	QE        string    `json:"qe"`
	TCBDate   time.Time `json:"tcb_date,omitzero"`
	// Advisories are those of the maker that apply.
	Advisories []string `json:"advisories,omitempty"`
}

// GPUFinding is one GPU whose report verified.
type GPUFinding struct {
	ID           Hash   `json:"id"`
	Architecture string `json:"architecture"`
	Driver       string `json:"driver"`
	VBIOS        string `json:"vbios"`
	// Measurements is their number, Matched how many agree with the policy's golden state, 0 when no state matches.
	Measurements int `json:"measurements"`
	Matched      int `json:"matched"`
	// RevocationChecked tells that the vendor's answers were stapled and are good.
	RevocationChecked bool `json:"revocation_checked"`
}

// Refuse writes a refusal into the finding: its kind, field and message.
func (f *Finding) Refuse(err error) {
	if f.Kind = KindOf(err); f.Kind == KindUnknown {
		f.Kind = KindInternal
	}
	f.Message = err.Error()
	var e *Error
	if errors.As(err, &e) {
		f.Field, f.Message = e.Field, e.Message
	}
}
