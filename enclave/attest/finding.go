package attest

import (
	"slices"

	"github.com/cocoon-network/cocoon/schemas"
)

// Finding is the examination as data, for records and pages.
func (x *Examination) Finding() schemas.Finding {
	f := schemas.Finding{Time: x.now.UTC()}
	if x.evidence != nil {
		f.Evidence, _ = x.evidence.Hash() // zero for evidence that has no wire form
		if claims, err := schemas.ParseClaims(x.evidence.Claims); err == nil && claims.Role == schemas.RoleWorker {
			f.Worker = schemas.WorkerIDOf(claims.Sign)
		}
	}
	if x.Policy != nil {
		f.Policy, f.Environment = x.Policy.Version, x.Policy.Environment
	}
	if x.image != nil {
		f.Image = x.image.Name
	}
	for _, s := range x.Steps {
		if s.Err != nil {
			f.Step, f.Advice = string(s.Name), Advice(s.Err)
			f.Refuse(s.Err)
		}
	}
	if a := x.admission; a != nil {
		f.Image, f.NotAfter = a.Measurement, a.NotAfter
	}
	if r := x.TDX; r != nil {
		f.TDX = &schemas.TDXFinding{
			MRTD: r.MRTD, RTMR0: r.RTMR[0], RTMR1: r.RTMR[1], RTMR2: r.RTMR[2], RTMR3: r.RTMR[3], Module: r.Module, Machine: r.PPID,
			Platform: r.Platform.String(), TDXModule: r.TDXModule.String(), QE: r.QE.String(), TCBDate: tcbDate(r),
			Advisories: slices.Concat(r.Platform.Advisories, r.TDXModule.Advisories, r.QE.Advisories),
		}
	}
	for _, g := range x.GPUs {
		matched := 0
		if x.Policy != nil {
			matched = x.Policy.matched(g)
		}
		f.GPUs = append(f.GPUs, schemas.GPUFinding{
			ID: g.ID, Architecture: g.Architecture, Driver: g.Driver, VBIOS: g.VBIOS, Measurements: len(g.Measurements), Matched: matched,
			RevocationChecked: g.Revocation.Checked,
		})
	}
	return f
}
