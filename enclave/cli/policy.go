//go:build !worker

package cli

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// PolicyCommand is `cocoon policy`: the signed allow-list of a network.
func PolicyCommand(open OpenBoard) *cobra.Command {
	n := policyNoun(open)
	cmd := &cobra.Command{
		Use: "policy", Short: "The signed allow-list: images, TCB, GPUs, models",
		Long: `A policy says which measured images may hold which role, on what hardware, with which models. k of n root keys sign
it; its version only grows; a list that is empty admits nothing.

The way of a policy: init writes a draft that admits nothing, add fills it, sign wraps and signs it, verify checks it as
every process will, publish puts it into force. Root keys and trust files are made by "cocoon keys".`,
	}
	cmd.AddCommand(append([]*cobra.Command{policyInit(n), policyAdd(n)}, n.verbs()...)...)
	return cmd
}

// policyNoun is what a policy is for the shared verbs.
func policyNoun(open OpenBoard) *noun[schemas.Policy, *schemas.Policy] {
	return &noun[schemas.Policy, *schemas.Policy]{
		name: "policy", parse: schemas.ParsePolicy, open: open, lines: policyLines, notes: policyNotes,
		renew: func(p *schemas.Policy, version uint64, issued, expires time.Time) {
			p.Version, p.Issued, p.Expires = version, issued, expires
		},
	}
}

// policyInit is `policy init`.
func policyInit(n *noun[schemas.Policy, *schemas.Policy]) *cobra.Command {
	var environment, term, simulated, registry string
	var candidates registryCandidates
	var force bool
	cmd := &cobra.Command{
		Use: "init FILE", Short: "Write a draft that admits nothing", Args: cobra.ExactArgs(1),
		Long: `The draft has strict rules and empty lists: it admits nothing until images, TDX modules, GPUs and models are added.

--simulated DIR names the development root kept in DIR and admits its simulated hardware, so that only images and
models are missing.

--registry BOC reads the data cell of Cocoon's on-chain root contract. The contract holds hashes of images and of model
names, which cannot be turned back: show it quotes of running guests (--quote) and full model names (--model), and those
whose hashes it lists go into the draft.`,
	}
	format := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&environment, "environment", string(schemas.Production), "production or simulated")
	cmd.Flags().StringVar(&term, "term", "90d", "how long it runs")
	cmd.Flags().StringVar(&simulated, "simulated", "", "folder with a development root; implies --environment simulated")
	cmd.Flags().StringVar(&registry, "registry", "", "bag of cells with the data of Cocoon's root contract")
	cmd.Flags().StringSliceVar(&candidates.quotes, "quote", nil, "raw TDX quote of a guest that the registry may admit")
	cmd.Flags().StringSliceVar(&candidates.models, "model", nil, "full model name that the registry may admit: name@commit:hash")
	cmd.Flags().BoolVar(&force, "force", false, "replace an existing file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := refuseOverwrite(args[0], force); err != nil {
			return err
		}
		d, err := parseTerm(term)
		if err != nil {
			return err
		}
		p, err := draftPolicy(schemas.Environment(environment), d, simulated)
		if err != nil {
			return err
		}
		draft := policyDraft{Policy: p, File: args[0]}
		if registry != "" {
			b, err := readLimited(cmd.InOrStdin(), registry, maxRegistry)
			if err != nil {
				return err
			}
			if draft.Registry, err = ParseRegistry(b); err != nil {
				return err
			}
			if draft.Notes, err = draft.Registry.admit(p, candidates); err != nil {
				return err
			}
		}
		draft.Notes = append(policyNotes(p), draft.Notes...)
		if err := n.keep(p, args[0]); err != nil {
			return err
		}
		return cli.One(format, draft, policyDraft.lines)
	}
	return cmd
}

// policyDraft is what init prints.
type policyDraft struct {
	File     string          `json:"file"`
	Policy   *schemas.Policy `json:"policy"`
	Registry *Registry       `json:"registry,omitempty"`
	Notes    []string        `json:"notes"`
}

// lines is a draft for people.
func (d policyDraft) lines() [][2]string {
	rows := append(policyLines(d.Policy), [2]string{"written to", d.File})
	if d.Registry != nil {
		rows = append(rows, d.Registry.lines()...)
	}
	for _, note := range d.Notes {
		rows = append(rows, [2]string{"note", note})
	}
	return rows
}

// draftPolicy is a policy that admits nothing, or only the simulated hardware of a development root.
func draftPolicy(environment schemas.Environment, term time.Duration, simulated string) (*schemas.Policy, error) {
	if simulated != "" {
		platform, err := sim.Open(simulated, sim.Options{})
		if err != nil {
			return nil, err
		}
		return platform.Policy(sim.PolicySpec{Term: term}), nil
	}
	now := time.Now().UTC().Truncate(time.Second)
	p := &schemas.Policy{
		V: 1, Version: 1, Issued: now, Expires: now.Add(term), Environment: environment, EvidenceMinutes: schemas.MaxEvidenceMinutes,
		TDX: schemas.TDXRules{
			AcceptStatus: []schemas.TCBStatus{schemas.UpToDate}, MinEvaluation: 17, MaxTCBAgeDays: 365, DenyAdvisories: []string{},
			Modules: []schemas.Measure{}, Attributes: 1 << 28, XFAM: 0x6dbe7,
			Platforms: schemas.PlatformRules{Mode: schemas.PlatformsListed, Listed: []schemas.PPID{}, Blocked: []schemas.PPID{}},
		},
		GPU:          schemas.GPURules{Architectures: []string{}, OCSPMaxAgeHours: 24, Golden: []schemas.Golden{}, Blocked: []schemas.Hash{}},
		Measurements: []schemas.Measurement{}, Models: []schemas.ModelID{},
		Reputation: schemas.Reputation{MinSuccess: 9_000, MinJobs: 20, WindowMinutes: 60},
	}
	if environment == schemas.Simulated {
		return nil, cli.Usagef("a simulated policy names a development root: give --simulated DIR")
	}
	return p, nil
}

// policyLines is a policy for people.
func policyLines(p *schemas.Policy) [][2]string {
	rows := [][2]string{
		{"version", strconv.FormatUint(p.Version, 10)},
		{"environment", shout(p.Environment)},
		{"issued", p.Issued.Format(time.RFC3339)},
		{"expires", p.Expires.Format(time.RFC3339)},
		{"evidence lives", fmt.Sprintf("%d min", p.EvidenceMinutes)},
		{"TCB accepted", joined(p.TDX.AcceptStatus)},
		{"TCB rules", fmt.Sprintf("evaluation ≥ %d, level at most %d days old", p.TDX.MinEvaluation, p.TDX.MaxTCBAgeDays)},
		{"machines", machines(p.TDX.Platforms)},
		{"TDX modules", counted(len(p.TDX.Modules))},
		{"GPU architectures", joined(p.GPU.Architectures)},
		{"GPU firmware states", counted(len(p.GPU.Golden))},
		{"GPU revocation", revocationRule(p.GPU)},
		{"models", counted(len(p.Models))},
	}
	for _, m := range p.Measurements {
		rows = append(rows, [2]string{"image", fmt.Sprintf("%s as %s, %d configurations, %d to %d GPUs, MRTD %s…", m.Name, m.Role, len(m.Configs), m.MinGPUs, m.MaxGPUs, m.MRTD.String()[:16])})
	}
	return rows
}

// counted is a number of admitted things.
func counted(n int) string {
	if n == 0 {
		return "none admitted"
	}
	return strconv.Itoa(n)
}

// machines says on which machines images may run.
func machines(r schemas.PlatformRules) string {
	if r.Mode == schemas.PlatformsAny {
		return fmt.Sprintf("any but %d blocked", len(r.Blocked))
	}
	return fmt.Sprintf("%d listed, %d blocked", len(r.Listed), len(r.Blocked))
}

// revocationRule says whether the vendor's answers are demanded.
func revocationRule(r schemas.GPURules) string {
	if r.OCSPMaxAgeHours == 0 {
		return "not demanded"
	}
	return fmt.Sprintf("answers of at most %d h", r.OCSPMaxAgeHours)
}

// policyNotes lists what somebody should know before putting a policy into force.
func policyNotes(p *schemas.Policy) (notes []string) {
	note := func(when bool, text string) {
		if when {
			notes = append(notes, text)
		}
	}
	gpus := slices.ContainsFunc(p.Measurements, func(m schemas.Measurement) bool { return m.MaxGPUs > 0 })
	note(p.Environment == schemas.Simulated, "SIMULATED: the hardware it admits protects nothing")
	note(len(p.TDX.AcceptStatus) == 0, "admits nothing: no TCB status is accepted")
	note(len(p.TDX.Modules) == 0, "admits nothing: no TDX module is listed")
	note(p.TDX.Platforms.Mode == schemas.PlatformsListed && len(p.TDX.Platforms.Listed) == 0, "admits nothing: only listed machines may run, and none is listed")
	note(len(p.Measurements) == 0, "admits nothing: no image is listed")
	note(len(p.Models) == 0, "no model may be served: none is listed")
	note(gpus && len(p.GPU.Golden) == 0, "no GPU is admitted: no firmware state is listed")
	note(gpus && len(p.GPU.Architectures) == 0, "no GPU is admitted: no architecture is listed")
	note(gpus && p.GPU.OCSPMaxAgeHours == 0, "revoked GPUs are not noticed: no revocation answers are demanded")
	note(slices.Contains(p.TDX.AcceptStatus, schemas.OutOfDate), "machines with known holes are admitted: OutOfDate is accepted")
	return notes
}
