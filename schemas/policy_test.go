package schemas_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// image is a well-formed entry.
func image() schemas.Measurement {
	return schemas.Measurement{Name: "worker", Role: schemas.RoleWorker, MRTD: schemas.Measure{1}, Configs: []schemas.Hash{{1}}, MinGPUs: 1, MaxGPUs: 2}
}

// golden is a well-formed firmware state.
func golden() schemas.Golden {
	return schemas.Golden{Driver: "570.124.06", VBIOS: "96.00.5E.00.01", Values: map[int][]schemas.Measure{3: {{1}}}}
}

func TestPolicyCheck(t *testing.T) {
	t.Parallel()
	if err := newPolicy().Check(); err != nil {
		t.Fatal(err)
	}
	long := make([]schemas.Measure, schemas.MaxModules+1)
	for _, c := range []struct {
		field  string
		change func(*schemas.Policy)
	}{
		{"v", func(p *schemas.Policy) { p.V = 2 }},
		{"version", func(p *schemas.Policy) { p.Version = 0 }},
		{"issued", func(p *schemas.Policy) { p.Issued = p.Issued.Add(time.Nanosecond) }},
		{"issued", func(p *schemas.Policy) { p.Issued = p.Issued.In(time.FixedZone("", 3600)) }},
		{"expires", func(p *schemas.Policy) { p.Expires = p.Issued }},
		{"expires", func(p *schemas.Policy) { p.Expires = p.Issued.Add(schemas.MaxPolicyTerm + time.Second) }},
		{"environment", func(p *schemas.Policy) { p.Environment = "staging" }},
		{"simulated", func(p *schemas.Policy) { p.Simulated = &schemas.SimulatedRoots{} }},
		{"simulated", func(p *schemas.Policy) { p.Environment = schemas.Simulated }},
		{"simulated.tdx", func(p *schemas.Policy) { p.Environment, p.Simulated = schemas.Simulated, &schemas.SimulatedRoots{} }},
		{"evidence_minutes", func(p *schemas.Policy) { p.EvidenceMinutes = 61 }},
		{"evidence_minutes", func(p *schemas.Policy) { p.EvidenceMinutes = 0 }},
		{"tdx.accept_status", func(p *schemas.Policy) { p.TDX.AcceptStatus = nil }},
		{"tdx.accept_status[0]", func(p *schemas.Policy) { p.TDX.AcceptStatus = []schemas.TCBStatus{schemas.Revoked} }},
		{"tdx.min_tcb_eval", func(p *schemas.Policy) { p.TDX.MinEvaluation = -1 }},
		{"tdx.max_tcb_age_days", func(p *schemas.Policy) { p.TDX.MaxTCBAgeDays = 0 }},
		{"tdx.deny_advisories", func(p *schemas.Policy) { p.TDX.DenyAdvisories = nil }},
		{"tdx.modules", func(p *schemas.Policy) { p.TDX.Modules = nil }},
		{"tdx.modules", func(p *schemas.Policy) { p.TDX.Modules = long }},
		{"tdx.td_attributes", func(p *schemas.Policy) { p.TDX.Attributes = 1 }},
		{"tdx.platforms.mode", func(p *schemas.Policy) { p.TDX.Platforms.Mode = "" }},
		{"tdx.platforms.listed", func(p *schemas.Policy) { p.TDX.Platforms.Listed = nil }},
		{"tdx.platforms.blocked[1]", func(p *schemas.Policy) { p.TDX.Platforms.Blocked = []schemas.PPID{{2}, {1}} }},
		{"gpu.architectures", func(p *schemas.Policy) { p.GPU.Architectures = nil }},
		{"gpu.architectures[0]", func(p *schemas.Policy) { p.GPU.Architectures = []string{"GH 100"} }},
		{"gpu.ocsp_max_age_hours", func(p *schemas.Policy) { p.GPU.OCSPMaxAgeHours = -1 }},
		{"gpu.golden", func(p *schemas.Policy) { p.GPU.Golden = nil }},
		{"gpu.golden[0].driver", func(p *schemas.Policy) { p.GPU.Golden = []schemas.Golden{{}} }},
		{"gpu.golden[0].values", func(p *schemas.Policy) { g := golden(); g.Values = nil; p.GPU.Golden = []schemas.Golden{g} }},
		{"gpu.golden[0].values.3", func(p *schemas.Policy) { g := golden(); g.Values[3] = nil; p.GPU.Golden = []schemas.Golden{g} }},
		{"gpu.blocked", func(p *schemas.Policy) { p.GPU.Blocked = nil }},
		{"measurements", func(p *schemas.Policy) { p.Measurements = nil }},
		{"measurements[0].name", func(p *schemas.Policy) { m := image(); m.Name = "Worker 1"; p.Measurements = []schemas.Measurement{m} }},
		{"measurements[0].role", func(p *schemas.Policy) { m := image(); m.Role = "admin"; p.Measurements = []schemas.Measurement{m} }},
		{"measurements[0].mrtd", func(p *schemas.Policy) {
			m := image()
			m.MRTD = schemas.Measure{}
			p.Measurements = []schemas.Measurement{m}
		}},
		{"measurements[0].configs", func(p *schemas.Policy) { m := image(); m.Configs = nil; p.Measurements = []schemas.Measurement{m} }},
		{"measurements[0].max_gpus", func(p *schemas.Policy) { m := image(); m.MaxGPUs = 0; p.Measurements = []schemas.Measurement{m} }},
		{"measurements[0].max_gpus", func(p *schemas.Policy) {
			m := image()
			m.Role = schemas.RoleBroker
			p.Measurements = []schemas.Measurement{m}
		}},
		{"models", func(p *schemas.Policy) { p.Models = nil }},
		{"models[0]", func(p *schemas.Policy) { p.Models = []schemas.ModelID{"tiny"} }},
		{"reputation.min_success_bp", func(p *schemas.Policy) { p.Reputation.MinSuccess = 10_001 }},
		{"reputation.window_minutes", func(p *schemas.Policy) { p.Reputation.WindowMinutes = 0 }},
	} {
		p := newPolicy()
		c.change(p)
		err := p.Check()
		kind := schemas.KindInvalid
		if len(p.TDX.Modules) > schemas.MaxModules {
			kind = schemas.KindTooLarge
		}
		fieldError(t, c.field, err, kind, c.field)
	}
}

// TestEmptyIsNotMissing: lists must be written out, and an empty list is kept empty.
func TestEmptyIsNotMissing(t *testing.T) {
	t.Parallel()
	b, err := schemas.EncodeJSON(newPolicy())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := schemas.ParsePolicy(b); err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{`"measurements":[],`, `"models":[],`, `"modules":[],`, `"golden":[],`} {
		text := strings.Replace(string(b), list, "", 1)
		if text == string(b) {
			t.Fatalf("%s is not in the policy", list)
		}
		if _, err := schemas.ParsePolicy([]byte(text)); schemas.KindOf(err) != schemas.KindInvalid || !strings.Contains(err.Error(), "write []") {
			t.Errorf("without %s: %v", list, err)
		}
	}
}

func TestSpellings(t *testing.T) {
	t.Parallel()
	var bits schemas.Bits64
	var ppid schemas.PPID
	var measure schemas.Measure
	var boot schemas.BootID
	for _, c := range []struct {
		into interface{ UnmarshalText([]byte) error }
		good string
		bad  []string
	}{
		{&bits, "0x00000000100000ff", []string{"", "0x10", "00000000100000ff00", "0x00000000100000FF", "0X00000000100000ff"}},
		{&ppid, strings.Repeat("0a", 16), []string{"", strings.Repeat("0A", 16), strings.Repeat("0a", 15), strings.Repeat("zz", 16)}},
		{&measure, strings.Repeat("0b", 48), []string{"", strings.Repeat("0B", 48), strings.Repeat("0b", 47)}},
		{&boot, strings.Repeat("0c", 16), []string{"", strings.Repeat("0C", 16), strings.Repeat("0c", 17)}},
	} {
		if err := c.into.UnmarshalText([]byte(c.good)); err != nil {
			t.Errorf("%s: %v", c.good, err)
		}
		text, err := c.into.(interface{ MarshalText() ([]byte, error) }).MarshalText()
		if err != nil || string(text) != c.good {
			t.Errorf("%s spelled again: %s, %v", c.good, text, err)
		}
		for _, bad := range c.bad {
			if err := c.into.UnmarshalText([]byte(bad)); schemas.KindOf(err) != schemas.KindInvalid {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
}
