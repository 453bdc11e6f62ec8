package attest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// tcb asks whether Intel's judgements are acceptable. Revoked never is; the policy's form cannot even say so.
func (x *Examination) tcb(context.Context) error {
	r, rules := x.TDX, x.Policy.TDX
	for _, part := range []struct {
		field string
		level tdx.Level
	}{{"tcb.platform", r.Platform}, {"tcb.module", r.TDXModule}, {"tcb.qe", r.QE}} {
		if part.level.Status == schemas.Revoked || !slices.Contains(rules.AcceptStatus, part.level.Status) {
			return refuse(part.field, "TCB %s; the policy accepts %s", part.level, statuses(rules.AcceptStatus))
		}
		for _, advisory := range part.level.Advisories {
			if slices.Contains(rules.DenyAdvisories, advisory) {
				return refuse(part.field, "advisory %s applies, which the policy denies", advisory)
			}
		}
	}
	if r.Evaluation < rules.MinEvaluation {
		return refuse("tcb.evaluation", "collateral has evaluation number %d, the policy demands %d: it is too old or was rolled back",
			r.Evaluation, rules.MinEvaluation)
	}
	if end := tcbEnd(r, rules); !x.now.Before(end) {
		return refuse("tcb.date", "TCB level of %s is older than %d days", tcbDate(r).Format(time.DateOnly), rules.MaxTCBAgeDays)
	}
	return nil
}

// statuses lists accepted statuses for people.
func statuses(list []schemas.TCBStatus) string {
	if len(list) == 0 {
		return "none"
	}
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// tcbDate is the oldest date of the three levels.
func tcbDate(r *tdx.Report) (oldest time.Time) {
	for _, l := range []tdx.Level{r.Platform, r.TDXModule, r.QE} {
		if !l.Date.IsZero() && (oldest.IsZero() || l.Date.Before(oldest)) {
			oldest = l.Date
		}
	}
	return oldest
}

// tcbEnd is when the oldest level becomes too old.
func tcbEnd(r *tdx.Report, rules schemas.TDXRules) time.Time {
	return tcbDate(r).AddDate(0, 0, rules.MaxTCBAgeDays)
}

// td asks whether this trust domain may exist at all.
func (x *Examination) td(context.Context) error {
	r, rules := x.TDX, x.Policy.TDX
	if r.Debug() {
		return refuse("td.attributes", "the TD is debuggable: the host can read its memory")
	}
	if r.Attributes != rules.Attributes {
		return refuse("td.attributes", "are %s, the policy demands %s", bits(r.Attributes), bits(rules.Attributes))
	}
	if extra := r.XFAM &^ rules.XFAM; extra != 0 {
		return refuse("td.xfam", "has the features %s, which the policy does not allow", bits(extra))
	}
	if !slices.Contains(rules.Modules, r.Module) {
		return refuse("td.module", "TDX module %s is not admitted", r.Module)
	}
	if slices.Contains(rules.Platforms.Blocked, r.PPID) {
		return refuse("td.ppid", "machine %s is blocked", r.PPID)
	}
	if rules.Platforms.Mode != schemas.PlatformsAny && !slices.Contains(rules.Platforms.Listed, r.PPID) {
		return refuse("td.ppid", "machine %s is not listed", r.PPID)
	}
	return nil
}

// bits spells a mask.
func bits(b schemas.Bits64) string {
	text, _ := b.MarshalText() // never fails
	return string(text)
}

// measured finds the policy's entry for the image and asks whether it may have the claimed role.
func (x *Examination) measured(context.Context) error {
	var nearest *schemas.Measurement
	other := ""
	for i := range x.Policy.Measurements {
		m := &x.Policy.Measurements[i]
		switch {
		case differs(m, x.TDX) != "":
			if m.MRTD == x.TDX.MRTD {
				nearest = m
			}
		case m.Role != x.claims.Role:
			other = fmt.Sprintf("image %s is admitted as %s", m.Name, m.Role)
		case !m.NotAfter.IsZero() && !x.now.Before(m.NotAfter):
			other = fmt.Sprintf("image %s was admitted until %s", m.Name, m.NotAfter.Format(time.RFC3339))
		default:
			x.image = m
			if slices.Contains(m.Configs, x.configured()) {
				return nil
			}
		}
	}
	switch {
	case x.image != nil: // the image is admitted, its configuration is judged with the log
		return nil
	case other != "":
		return refuse("claims.role", "is %s; %s", x.claims.Role, other)
	case nearest != nil:
		return refuse("image."+differs(nearest, x.TDX), "is not that of image %s", nearest.Name)
	}
	return refuse("image", "MRTD %s is not an admitted firmware", x.TDX.MRTD)
}

// configured is the configuration that the log states, before the log has been checked.
func (x *Examination) configured() schemas.Hash {
	facts, _, err := x.evidence.Log.Replay()
	if err != nil {
		return schemas.Hash{}
	}
	return facts.Config
}

// differs names the first register in which a quote differs from a policy's entry, "" when none does.
func differs(m *schemas.Measurement, r *tdx.Report) string {
	for _, register := range []struct {
		name       string
		want, have schemas.Measure
	}{
		{"mrtd", m.MRTD, r.MRTD},
		{"rtmr0", m.RTMR0, r.RTMR[0]},
		{"rtmr1", m.RTMR1, r.RTMR[1]},
		{"rtmr2", m.RTMR2, r.RTMR[2]},
		{"mrconfigid", m.MRConfigID, r.MRConfigID},
		{"mrowner", m.MROwner, r.MROwner},
		{"mrownerconfig", m.MROwnerConfig, r.MROwnerConfig},
	} {
		if register.want != register.have {
			return register.name
		}
	}
	return ""
}

// admitConfig asks whether the image may run with a configuration.
func (x *Examination) admitConfig(config schemas.Hash) error {
	if !slices.Contains(x.image.Configs, config) {
		return refuse("log.config", "%s is not an admitted configuration of image %s", config, x.image.Name)
	}
	return nil
}

// admitsModel reports whether a model is admitted.
func (p *InForce) admitsModel(id schemas.ModelID) bool {
	_, found := slices.BinarySearch(p.Models, id)
	return found
}

// admitsGPU asks whether a GPU that verified is acceptable.
func (p *InForce) admitsGPU(r *nvidia.Report, now time.Time) error {
	rules := p.GPU
	if !slices.Contains(rules.Architectures, r.Architecture) {
		return refuse("architecture", "%q is not an admitted GPU architecture", r.Architecture)
	}
	if slices.Contains(rules.Blocked, r.ID) {
		return refuse("id", "GPU %s is blocked", r.ID)
	}
	if rules.OCSPMaxAgeHours > 0 {
		if !r.Revocation.Checked {
			return refuse("ocsp", "no answer of the vendor that the GPU's certificates are not revoked; the policy demands one")
		}
		if !now.Before(ocspEnd(r, rules)) {
			return refuse("ocsp", "answer of %s is older than %d hours", r.Revocation.ProducedAt.Format(time.RFC3339), rules.OCSPMaxAgeHours)
		}
	}
	return p.admitsFirmware(r)
}

// ocspEnd is when the oldest revocation answer becomes too old.
func ocspEnd(r *nvidia.Report, rules schemas.GPURules) time.Time {
	return r.Revocation.ProducedAt.Add(time.Duration(rules.OCSPMaxAgeHours) * time.Hour)
}

// admitsFirmware compares with every golden state; the reason is taken from the one with the same versions.
func (p *InForce) admitsFirmware(r *nvidia.Report) error {
	reason := fmt.Errorf("driver %s with VBIOS %s is not an admitted firmware state", r.Driver, r.VBIOS)
	for _, g := range p.GPU.Golden {
		_, err := r.Match(g)
		if err == nil {
			return nil
		}
		if g.Driver == r.Driver && g.VBIOS == r.VBIOS {
			reason = err
		}
	}
	return refuse("golden", "%v", reason)
}

// matched counts the values of the golden state that a report agrees with.
func (p *InForce) matched(r *nvidia.Report) int {
	for _, g := range p.GPU.Golden {
		if n, err := r.Match(g); err == nil {
			return n
		}
	}
	return 0
}

// admit writes down what was found, and until when it holds.
func (x *Examination) admit(digest schemas.Hash) *Admission {
	r := x.TDX
	a := &Admission{
		Claims: x.claims, Digest: digest, Measurement: x.image.Name, Role: x.image.Role, Environment: x.Policy.Environment,
		PolicyVersion: x.Policy.Version, PolicyHash: x.Policy.Hash, Challenged: x.nonce != [32]byte{}, Config: x.facts.Config,
		Platform: Platform{
			TCB: r.Platform.Status, Module: r.TDXModule.Status, QE: r.QE.Status, TCBDate: tcbDate(r), Evaluation: r.Evaluation, FMSPC: r.FMSPC, PPID: r.PPID,
			Advisories: slices.Concat(r.Platform.Advisories, r.TDXModule.Advisories, r.QE.Advisories),
		},
	}
	a.Models = slices.Concat(x.facts.Models, x.claims.Models)
	slices.Sort(a.Models)
	a.Models = slices.Compact(a.Models)
	ends := []time.Time{
		x.claims.Expires, x.now.Add(time.Duration(x.Policy.EvidenceMinutes) * time.Minute), x.Policy.Expires, x.image.NotAfter,
		r.NextUpdate, tcbEnd(r, x.Policy.TDX),
	}
	for _, g := range x.GPUs {
		a.GPUs = append(a.GPUs, GPU{
			ID: g.ID, Architecture: g.Architecture, Driver: g.Driver, VBIOS: g.VBIOS, Matched: x.Policy.matched(g), RevocationChecked: g.Revocation.Checked,
		})
		if g.Revocation.Checked {
			ends = append(ends, g.Revocation.NextUpdate)
		}
		if x.Policy.GPU.OCSPMaxAgeHours > 0 {
			ends = append(ends, ocspEnd(g, x.Policy.GPU))
		}
	}
	for _, end := range ends {
		if !end.IsZero() && (a.NotAfter.IsZero() || end.Before(a.NotAfter)) {
			a.NotAfter = end
		}
	}
	return a
}

// NotProven lists, for people, what this examination does not show even when every step holds.
func (x *Examination) NotProven() []string {
	var list []string
	if x.Policy != nil && x.Policy.Environment == schemas.Simulated {
		list = append(list, "SIMULATED: no real hardware protects anything here; the certificates are of a development root")
	}
	if x.nonce == [32]byte{} {
		list = append(list, "fresh: nobody challenged this evidence, it may have been copied")
	}
	if len(x.evidence.GPUs) > 0 {
		list = append(list, "co-location: that the attested GPUs sit in this machine rests on the measured image; a GPU report can be relayed")
		for i, g := range x.GPUs {
			if !g.Revocation.Checked {
				list = append(list, fmt.Sprintf("gpus[%d] not revoked: the vendor's answers are not stapled", i))
			}
		}
	}
	return append(list, "physical integrity: keys taken from a CPU by attacking its memory bus make perfect evidence (TEE.fail); "+
		"the policy can only list or block machines")
}

// gpuField names a field of a GPU.
func gpuField(i int, rest string) string { return fmt.Sprintf("gpus[%d]%s", i, rest) }
