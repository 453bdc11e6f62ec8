package schemas

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Limits of a policy.
const (
	MaxMeasurements       = 1024
	MaxConfigs            = 64
	MaxModules            = 256
	MaxGolden             = 256
	MaxGoldenValues       = 64
	MaxGoldenAlternatives = 16
	MaxPlatforms          = 20_000
	MaxAdvisories         = 1024
	MaxPolicyTerm         = 400 * 24 * time.Hour
	// MaxEvidenceMinutes is the longest life of evidence that a policy can allow.
	MaxEvidenceMinutes = 60
	// MaxTCBAgeDays is the largest age of a TCB level that a policy can allow.
	MaxTCBAgeDays = 3650
	// MaxOCSPHours is the largest age of a GPU revocation answer that a policy can allow.
	MaxOCSPHours = 14 * 24
)

// Policy is the signed allow-list of the network: which measured images may hold which role, on what hardware, with
// which models. Every list is explicit: a missing list is refused, an empty one admits nothing.
type Policy struct {
	// V is the version of the form, 1.
	V int `json:"v"`
	// Version counts up with every publication; nobody goes back.
	Version uint64 `json:"version"`
	// Issued and Expires bound it; after Expires nothing is admitted.
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	// Environment is production or simulated. It decides which roots evidence must chain to.
	Environment Environment `json:"environment"`
	// Simulated names the development roots. A production policy must not have it, a simulated one must.
	Simulated *SimulatedRoots `json:"simulated,omitempty"`
	// EvidenceMinutes is how long admitted evidence lives, 1 to 60.
	EvidenceMinutes int `json:"evidence_minutes"`
	// TDX judges the CPU side, GPU the GPU side.
	TDX TDXRules `json:"tdx"`
	GPU GPURules `json:"gpu"`
	// Measurements are the admitted images.
	Measurements []Measurement `json:"measurements"`
	// Models are the admitted models, sorted.
	Models []ModelID `json:"models"`
	// Reputation is the floor below which control puts a worker on probation.
	Reputation Reputation `json:"reputation"`
}

// SimulatedRoots are the SHA-256 fingerprints of the development root certificates that stand in for Intel's and
// NVIDIA's. A verifier refuses a list that has one of the real roots in it.
type SimulatedRoots struct {
	TDX []Hash `json:"tdx"`
	GPU []Hash `json:"gpu"`
}

// TCBStatus is Intel's judgement of a part of the platform.
type TCBStatus string

// The statuses of Intel's TCB levels.
const (
	UpToDate                          TCBStatus = "UpToDate"
	SWHardeningNeeded                 TCBStatus = "SWHardeningNeeded"
	ConfigurationNeeded               TCBStatus = "ConfigurationNeeded"
	ConfigurationAndSWHardeningNeeded TCBStatus = "ConfigurationAndSWHardeningNeeded"
	OutOfDate                         TCBStatus = "OutOfDate"
	OutOfDateConfigurationNeeded      TCBStatus = "OutOfDateConfigurationNeeded"
	// Revoked can never be accepted.
	Revoked TCBStatus = "Revoked"
)

// acceptable are the statuses that a policy may accept.
var acceptable = map[TCBStatus]bool{
	UpToDate: true, SWHardeningNeeded: true, ConfigurationNeeded: true, ConfigurationAndSWHardeningNeeded: true,
	OutOfDate: true, OutOfDateConfigurationNeeded: true,
}

// Bits64 is a 64-bit mask, spelled "0x" and 16 lower-case hex digits.
type Bits64 uint64

// MarshalText spells the mask.
func (b Bits64) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "0x%016x", uint64(b)), nil }

// UnmarshalText refuses everything but the canonical spelling.
func (b *Bits64) UnmarshalText(text []byte) error {
	if len(text) != 18 || string(text[:2]) != "0x" || !lowerHex(string(text[2:])) {
		return invalid("mask", `must be "0x" and 16 lower-case hex digits`)
	}
	v, err := strconv.ParseUint(string(text[2:]), 16, 64)
	*b = Bits64(v)
	return err
}

// PPID names one physical platform: 128 bits that Intel derives from its fuses, spelled as 32 hex digits.
type PPID [16]byte

// String spells the id as in JSON.
func (p PPID) String() string { return hex.EncodeToString(p[:]) }

// MarshalText spells the id.
func (p PPID) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText refuses everything but the canonical spelling.
func (p *PPID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(p) || !lowerHex(string(b)) {
		return invalid("ppid", "must be 32 lower-case hex digits")
	}
	_, err := hex.Decode(p[:], b)
	return err
}

// TDXRules judge what the CPU proves.
type TDXRules struct {
	// AcceptStatus lists the admitted statuses; platform, TDX module and quoting enclave must each have one of them.
	AcceptStatus []TCBStatus `json:"accept_status"`
	// MinEvaluation is the lowest tcbEvaluationDataNumber of collateral: it stops old collateral from being replayed.
	MinEvaluation int `json:"min_tcb_eval"`
	// MaxTCBAgeDays is the largest age of the oldest of the three TCB levels, in days.
	MaxTCBAgeDays int `json:"max_tcb_age_days"`
	// DenyAdvisories lists Intel advisories that refuse a level which mentions them.
	DenyAdvisories []string `json:"deny_advisories"`
	// Modules lists the admitted TDX modules by MRSEAM.
	Modules []Measure `json:"modules"`
	// Attributes must equal the TD's exactly. The debug group (its low byte) cannot be allowed.
	Attributes Bits64 `json:"td_attributes"`
	// XFAM is the mask of extended features a TD may have.
	XFAM Bits64 `json:"xfam_allowed"`
	// Platforms says on which machines it may run.
	Platforms PlatformRules `json:"platforms"`
}

// PlatformRules admit physical machines: a quote from a machine whose key was stolen proves nothing, so operators can
// name the machines they know, or block those they no longer believe.
type PlatformRules struct {
	// Mode is "any" (all but Blocked) or "listed" (only Listed, less Blocked).
	Mode string `json:"mode"`
	// Listed and Blocked are sorted.
	Listed  []PPID `json:"listed"`
	Blocked []PPID `json:"blocked"`
}

// The modes of PlatformRules.
const (
	PlatformsAny    = "any"
	PlatformsListed = "listed"
)

// GPURules judge what GPUs prove.
type GPURules struct {
	// Architectures lists the admitted chips as NVIDIA's certificates name them: "GH100", "GB100".
	Architectures []string `json:"architectures"`
	// OCSPMaxAgeHours is the largest age of the vendor's answer that a GPU's certificates are not revoked. 0 demands
	// no answer, and admissions then say that revocation was not checked.
	OCSPMaxAgeHours int `json:"ocsp_max_age_hours"`
	// Golden lists the admitted firmware states.
	Golden []Golden `json:"golden"`
	// Blocked lists GPU ids that are no longer believed.
	Blocked []Hash `json:"blocked"`
}

// Golden is one admitted firmware state of a GPU.
type Golden struct {
	// Driver and VBIOS are the exact versions, such as "570.124.06" and "96.00.5E.00.01".
	Driver string `json:"driver"`
	VBIOS  string `json:"vbios"`
	// Values gives for measurement indexes (as NVIDIA's RIM files count, from 0) the admitted values. A report must
	// match at every index listed here.
	Values map[int][]Measure `json:"values"`
}

// Measurement is one admitted image on one machine shape. RTMR0 differs between shapes, so an image has one entry for
// each; entries with the same name share keys and history.
type Measurement struct {
	// Name groups the builds and shapes of one program: 1 to 48 characters [a-z0-9_-].
	Name string `json:"name"`
	// Role is what the image may be.
	Role Role `json:"role"`
	// MRTD is the firmware, RTMR0 its configuration, RTMR1 the kernel, RTMR2 initrd and command line.
	MRTD  Measure `json:"mrtd"`
	RTMR0 Measure `json:"rtmr0"`
	RTMR1 Measure `json:"rtmr1"`
	RTMR2 Measure `json:"rtmr2"`
	// MRConfigID, MROwner and MROwnerConfig are set by the host at launch and compared exactly.
	MRConfigID    Measure `json:"mrconfigid"`
	MROwner       Measure `json:"mrowner"`
	MROwnerConfig Measure `json:"mrownerconfig"`
	// Configs lists the admitted configuration bundles, the "config" event of RTMR3.
	Configs []Hash `json:"configs"`
	// MinGPUs and MaxGPUs bound the number of attested GPUs; a broker has 0 of both.
	MinGPUs int `json:"min_gpus"`
	MaxGPUs int `json:"max_gpus"`
	// NotAfter ends the admission of this image before the policy ends; zero: with the policy.
	NotAfter time.Time `json:"not_after,omitzero"`
}

// Reputation is the floor of good behaviour that control applies over a sliding window.
type Reputation struct {
	// MinSuccess is the lowest share of granted jobs that must end in an outcome of the worker, in basis points.
	MinSuccess BasisPoints `json:"min_success_bp"`
	// MinJobs is the number of granted jobs in the window below which nobody is judged.
	MinJobs int `json:"min_jobs"`
	// WindowMinutes is the length of the window.
	WindowMinutes int `json:"window_minutes"`
}

// MaxReputationWindow is the longest window of Reputation in minutes: 30 days.
const MaxReputationWindow = 30 * 24 * 60

// ParsePolicy reads a policy, signed or still a draft, strictly; white space is free. See VerifyDocument for one that
// binds anybody.
func ParsePolicy(b []byte) (*Policy, error) {
	var p Policy
	if err := DecodeJSON(b, &p, MaxDocumentSize); err != nil {
		return nil, err
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	return &p, nil
}

// Head is what signing looks at.
func (p *Policy) Head() Head { return Head{p.Version, p.Issued, p.Expires, p.Environment} }

// MediaType names the form.
func (p *Policy) MediaType() string { return PolicyMediaType }

// Head is what signing looks at.
func (c *Catalogue) Head() Head { return Head{c.Version, c.Issued, c.Expires, c.Environment} }

// MediaType names the form.
func (c *Catalogue) MediaType() string { return CatalogueMediaType }

// Check refuses policies that nobody may publish. It does not look at the clock.
func (p *Policy) Check() error {
	if err := p.checkHead(); err != nil {
		return err
	}
	if err := p.checkRoots(); err != nil {
		return err
	}
	if p.EvidenceMinutes < 1 || p.EvidenceMinutes > MaxEvidenceMinutes {
		return invalid("evidence_minutes", "must lie between 1 and 60")
	}
	if err := p.TDX.check(); err != nil {
		return rename(err, "tdx."+err.(*Error).Field)
	}
	if err := p.GPU.check(); err != nil {
		return rename(err, "gpu."+err.(*Error).Field)
	}
	if err := listed("measurements", p.Measurements, MaxMeasurements); err != nil {
		return err
	}
	for i := range p.Measurements {
		if err := p.Measurements[i].check(); err != nil {
			return rename(err, fmt.Sprintf("measurements[%d].%s", i, err.(*Error).Field))
		}
	}
	if err := listed("models", p.Models, MaxModels); err != nil {
		return err
	}
	if err := checkModels(p.Models, MaxModels); err != nil {
		return err
	}
	return p.Reputation.check()
}

// checkHead checks what every document has.
func (p *Policy) checkHead() error {
	if p.V != 1 {
		return invalid("v", "must be 1")
	}
	if p.Version == 0 {
		return invalid("version", "must be at least 1")
	}
	if !utcSecond(p.Issued) {
		return invalid("issued", "must be UTC with whole seconds")
	}
	if !utcSecond(p.Expires) || !p.Expires.After(p.Issued) || p.Expires.Sub(p.Issued) > MaxPolicyTerm {
		return invalid("expires", "must lie after issued, by at most 400 days")
	}
	return p.Environment.check()
}

// checkRoots keeps the two environments apart.
func (p *Policy) checkRoots() error {
	if p.Environment == Production {
		if p.Simulated != nil {
			return invalid("simulated", "a production policy has no development roots")
		}
		return nil
	}
	if p.Simulated == nil {
		return invalid("simulated", "a simulated policy must name its development roots")
	}
	if err := listed("simulated.tdx", p.Simulated.TDX, MaxRootKeys); err != nil {
		return err
	}
	return listed("simulated.gpu", p.Simulated.GPU, MaxRootKeys)
}

// check refuses rules that would admit debug TDs, revoked platforms or a status nobody knows.
func (r *TDXRules) check() error {
	if err := listed("accept_status", r.AcceptStatus, len(acceptable)); err != nil {
		return err
	}
	for i, status := range r.AcceptStatus {
		if !acceptable[status] {
			return invalid(fmt.Sprintf("accept_status[%d]", i), "is not a TCB status that can be accepted")
		}
	}
	if r.MinEvaluation < 0 {
		return invalid("min_tcb_eval", "must not be negative")
	}
	if r.MaxTCBAgeDays < 1 || r.MaxTCBAgeDays > MaxTCBAgeDays {
		return invalid("max_tcb_age_days", "must lie between 1 and 3,650")
	}
	if err := listed("deny_advisories", r.DenyAdvisories, MaxAdvisories); err != nil {
		return err
	}
	if err := listed("modules", r.Modules, MaxModules); err != nil {
		return err
	}
	if r.Attributes&0xff != 0 {
		return invalid("td_attributes", "the low byte is the debug group and must be zero")
	}
	return r.Platforms.check()
}

// check demands a known mode and sorted lists.
func (r *PlatformRules) check() error {
	if r.Mode != PlatformsAny && r.Mode != PlatformsListed {
		return invalid("platforms.mode", "must be any or listed")
	}
	if err := sortedPPIDs("platforms.listed", r.Listed); err != nil {
		return err
	}
	return sortedPPIDs("platforms.blocked", r.Blocked)
}

// sortedPPIDs demands a list in ascending order.
func sortedPPIDs(field string, ids []PPID) error {
	if err := listed(field, ids, MaxPlatforms); err != nil {
		return err
	}
	for i := 1; i < len(ids); i++ {
		if ids[i-1].String() >= ids[i].String() {
			return invalid(fmt.Sprintf("%s[%d]", field, i), "must be sorted without duplicates")
		}
	}
	return nil
}

// check refuses golden sets that compare nothing.
func (r *GPURules) check() error {
	if err := listed("architectures", r.Architectures, 16); err != nil {
		return err
	}
	for i, name := range r.Architectures {
		if !nameChars(name, MaxToken, "") {
			return invalid(fmt.Sprintf("architectures[%d]", i), "must be a chip name such as GH100")
		}
	}
	if r.OCSPMaxAgeHours < 0 || r.OCSPMaxAgeHours > MaxOCSPHours {
		return invalid("ocsp_max_age_hours", "must lie between 0 and 336")
	}
	if err := listed("golden", r.Golden, MaxGolden); err != nil {
		return err
	}
	for i := range r.Golden {
		if err := r.Golden[i].check(); err != nil {
			return rename(err, fmt.Sprintf("golden[%d].%s", i, err.(*Error).Field))
		}
	}
	return listed("blocked", r.Blocked, MaxPlatforms)
}

// check refuses a state without versions or values.
func (g *Golden) check() error {
	if !nameChars(g.Driver, MaxToken, ".-_") {
		return invalid("driver", "must be a version such as 570.124.06")
	}
	if !nameChars(g.VBIOS, MaxToken, ".-_") {
		return invalid("vbios", "must be a version such as 96.00.5E.00.01")
	}
	if len(g.Values) == 0 || len(g.Values) > MaxGoldenValues {
		return invalid("values", "must have values at 1 to 64 indexes")
	}
	for _, index := range slices.Sorted(maps.Keys(g.Values)) { // the error named first must not depend on map order
		values := g.Values[index]
		if index < 0 || index > 254 {
			return invalid("values", "indexes lie between 0 and 254")
		}
		if len(values) == 0 || len(values) > MaxGoldenAlternatives {
			return invalid("values."+strconv.Itoa(index), "must have 1 to 16 admitted values")
		}
	}
	return nil
}

// check refuses an image that anything could pass for.
func (m *Measurement) check() error {
	if !ValidToken(m.Name) {
		return invalid("name", "must be 1 to 48 characters of a-z 0-9 _ -")
	}
	if err := m.Role.check(); err != nil {
		return err
	}
	if m.MRTD.IsZero() {
		return invalid("mrtd", "must not be zero: every TD has measured firmware")
	}
	if err := listed("configs", m.Configs, MaxConfigs); err != nil {
		return err
	}
	if m.MinGPUs < 0 || m.MaxGPUs < m.MinGPUs || m.MaxGPUs > MaxGPUs {
		return invalid("max_gpus", "must lie between min_gpus and 16")
	}
	if m.Role == RoleBroker && m.MaxGPUs != 0 {
		return invalid("max_gpus", "a broker has no GPU")
	}
	if !m.NotAfter.IsZero() && !utcSecond(m.NotAfter) {
		return invalid("not_after", "must be UTC with whole seconds")
	}
	return nil
}

// check refuses floors that cannot be computed.
func (r Reputation) check() error {
	if r.MinSuccess > One {
		return invalid("reputation.min_success_bp", "is above 10,000 basis points")
	}
	if r.MinJobs < 0 {
		return invalid("reputation.min_jobs", "must not be negative")
	}
	if r.WindowMinutes < 1 || r.WindowMinutes > MaxReputationWindow {
		return invalid("reputation.window_minutes", "must lie between 1 minute and 30 days")
	}
	return nil
}

// listed demands that a list is there, if only an empty one, and within its limit.
func listed[T any](field string, list []T, limit int) error {
	if list == nil {
		return invalid(field, "is missing; write [] to admit nothing")
	}
	if len(list) > limit {
		return &Error{Kind: KindTooLarge, Field: field, Message: fmt.Sprintf("has more than %d entries", limit)}
	}
	return nil
}
