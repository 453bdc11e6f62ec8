//go:build !worker

package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// AttestCommand is `cocoon attest`: look at evidence, and judge it offline.
func AttestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "attest", Short: "Verify and show evidence, measure images",
		Long: `Evidence is what an enclave proves about itself: a TDX quote, GPU reports, the log of what was measured, and the claims
that all of it binds. A file may hold evidence itself or a published key (a value of the KEYS bucket) with the evidence
of its broker.`,
	}
	cmd.AddCommand(attestVerify(), attestShow(), attestCollateral(), attestMeasure())
	return cmd
}

// readEvidence reads evidence, or a published key with the evidence of its broker.
func readEvidence(cmd *cobra.Command, path string) (schemas.Evidence, error) {
	b, err := readLimited(cmd.InOrStdin(), path, schemas.MaxPublishedKey)
	if err != nil {
		return schemas.Evidence{}, err
	}
	if strings.HasPrefix(strings.TrimSpace(string(b)), "{") {
		_, evidence, err := schemas.ParsePublishedKey([]byte(strings.TrimSpace(string(b))))
		return evidence, err
	}
	return schemas.ParseEvidence(b)
}

// attestVerify is `attest verify`.
func attestVerify() *cobra.Command {
	var policyPath, trustPath, nonce, at string
	var documents collateralFlags
	cmd := &cobra.Command{
		Use: "verify EVIDENCE", Short: "Judge evidence under a signed policy, and say what was proven and what was not", Args: cobra.ExactArgs(1),
		Long: `Runs the one production verifier on files. With --collateral nothing is fetched; without it Intel's documents come from
Intel's service, or those of simulated hardware from --simulated. Exit code 0: admitted. 5: refused, with the reason.
Evidence that answers a challenge needs its --nonce.`,
	}
	format := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&policyPath, "policy", "", "signed policy (required)")
	cmd.Flags().StringVar(&trustPath, "trust", "", "file with root keys and environment (required)")
	cmd.Flags().StringVar(&documents.file, "collateral", "", "file with Intel's documents, as 'attest collateral' writes it")
	documents.add(cmd)
	cmd.Flags().StringVar(&nonce, "nonce", "", "the challenge in 64 hex digits (default: none, published evidence)")
	cmd.Flags().StringVar(&at, "at", "", "judge as of this time (default now)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		now, err := parseMoment(at)
		if err != nil {
			return err
		}
		challenge, err := parseNonce(nonce)
		if err != nil {
			return err
		}
		evidence, err := readEvidence(cmd, args[0])
		if err != nil {
			return refusedEvidence(err)
		}
		verifier, err := offlineVerifier(cmd, policyPath, trustPath, documents, now)
		if err != nil {
			return err
		}
		x := verifier.Examine(cmd.Context(), evidence, challenge)
		v := newVerdict(x)
		if err := cli.One(format, v, verdict.lines); err != nil {
			return err
		}
		_, err = x.Result()
		return err
	}
	return cmd
}

// refusedEvidence makes malformed evidence a refusal: a verifier that cannot read it does not admit it.
func refusedEvidence(err error) error {
	var e *schemas.Error
	if !errors.As(err, &e) || e.Kind != schemas.KindInvalid && e.Kind != schemas.KindTooLarge {
		return err
	}
	c := *e
	c.Kind = schemas.KindAttestation
	return &c
}

// parseNonce reads a challenge.
func parseNonce(s string) (nonce [32]byte, err error) {
	if s == "" {
		return nonce, nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(nonce) {
		return nonce, cli.Usagef("--nonce must be 64 hex digits")
	}
	return [32]byte(b), nil
}

// offlineVerifier is the production verifier over files, at a fixed time.
func offlineVerifier(cmd *cobra.Command, policyPath, trustPath string, documents collateralFlags, now time.Time) (*attest.Verifier, error) {
	if policyPath == "" {
		return nil, cli.Usagef("--policy is required: the signed policy")
	}
	trust, err := readTrust(trustPath)
	if err != nil {
		return nil, err
	}
	clock := func() time.Time { return now }
	keeper, err := attest.NewKeeper(trust, attest.KeeperOptions{Now: clock})
	if err != nil {
		return nil, err
	}
	signed, err := readLimited(cmd.InOrStdin(), policyPath, 2*schemas.MaxDocumentSize)
	if err != nil {
		return nil, err
	}
	if _, err := keeper.Offer([]byte(strings.TrimSpace(string(signed)))); err != nil {
		return nil, fmt.Errorf("%s: %w", policyPath, err)
	}
	o := tdx.CollateralOptions{Now: clock, Log: logger(cmd)}
	if documents.file != "" {
		b, err := readLimited(cmd.InOrStdin(), documents.file, 8*tdx.MaxDocument)
		if err != nil {
			return nil, err
		}
		if o.Store, err = tdx.ParseBundle(b); err != nil {
			return nil, fmt.Errorf("%s: %w", documents.file, err)
		}
	} else if o.Source, err = documents.source(clock); err != nil {
		return nil, err
	}
	return attest.NewVerifier(attest.Options{Policy: keeper, Collateral: tdx.NewCollateral(o), Now: clock})
}

// verdict is what `attest verify` prints.
type verdict struct {
	Admitted    bool                `json:"admitted"`
	Environment schemas.Environment `json:"environment,omitempty"`
	Steps       []stepVerdict       `json:"steps"`
	NotProven   []string            `json:"not_proven"`
	Admission   *admissionView      `json:"admission,omitempty"`
	Reason      *reasonView         `json:"reason,omitempty"`
}

// stepVerdict is one step of a verification.
type stepVerdict struct {
	Step   attest.StepName `json:"step"`
	Proven bool            `json:"proven"`
	// What says what the step shows.
	What string `json:"what"`
}

// reasonView is a refusal in its parts.
type reasonView struct {
	Kind    string `json:"kind"`
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
	// Advice says what the operator of the refused machine can do.
	Advice string `json:"advice,omitempty"`
}

// admissionView is an admission in JSON.
type admissionView struct {
	Image         string            `json:"image"`
	Role          schemas.Role      `json:"role"`
	Owner         schemas.Owner     `json:"owner,omitempty"`
	Boot          schemas.BootID    `json:"boot"`
	SignKey       schemas.KeyID     `json:"sign_key"`
	Models        []schemas.ModelID `json:"models"`
	PolicyVersion uint64            `json:"policy_version"`
	PolicyHash    schemas.Hash      `json:"policy_hash"`
	Challenged    bool              `json:"challenged"`
	TCB           string            `json:"tcb"`
	TDXModule     string            `json:"tdx_module"`
	QE            string            `json:"quoting_enclave"`
	Advisories    []string          `json:"advisories"`
	Machine       schemas.PPID      `json:"machine"`
	FMSPC         string            `json:"fmspc"`
	// GPUAttested is the number of GPUs whose reports verified. It is not co-location: see not_proven.
	GPUAttested int          `json:"gpu_attested"`
	GPUs        []gpuView    `json:"gpus"`
	NotAfter    time.Time    `json:"not_after"`
	Evidence    schemas.Hash `json:"evidence"`
}

// gpuView is one GPU of an admission.
type gpuView struct {
	ID                schemas.Hash `json:"id"`
	Architecture      string       `json:"architecture"`
	Driver            string       `json:"driver"`
	VBIOS             string       `json:"vbios"`
	Matched           int          `json:"golden_values_matched"`
	RevocationChecked bool         `json:"revocation_checked"`
}

// newVerdict sums an examination up.
func newVerdict(x *attest.Examination) verdict {
	v := verdict{Steps: []stepVerdict{}, NotProven: x.NotProven()}
	if x.Policy != nil {
		v.Environment = x.Policy.Environment
	}
	taken := map[attest.StepName]error{}
	for _, s := range x.Steps {
		taken[s.Name] = s.Err
	}
	for _, name := range attest.Steps() {
		err, ok := taken[name]
		v.Steps = append(v.Steps, stepVerdict{name, ok && err == nil, name.Proves()})
	}
	a, err := x.Result()
	if err != nil {
		v.Reason = newReason(err)
		return v
	}
	v.Admitted, v.Admission = true, newAdmissionView(a, x)
	return v
}

// newReason takes a refusal apart.
func newReason(err error) *reasonView {
	var e *schemas.Error
	if !errors.As(err, &e) {
		return &reasonView{Kind: schemas.KindUnknown.String(), Message: err.Error()}
	}
	return &reasonView{e.Kind.String(), e.Field, e.Message, attest.Advice(err)}
}

// newAdmissionView copies what an admission says.
func newAdmissionView(a *attest.Admission, x *attest.Examination) *admissionView {
	v := &admissionView{
		Image: a.Measurement, Role: a.Role, Owner: a.Claims.Owner, Boot: a.Claims.Boot, SignKey: schemas.KeyIDOf(a.Claims.Sign), Models: a.Models,
		PolicyVersion: a.PolicyVersion, PolicyHash: a.PolicyHash, Challenged: a.Challenged,
		TCB: x.TDX.Platform.String(), TDXModule: x.TDX.TDXModule.String(), QE: x.TDX.QE.String(), Advisories: a.Platform.Advisories,
		Machine: a.Platform.PPID, FMSPC: a.Platform.FMSPC, GPUAttested: len(a.GPUs), GPUs: []gpuView{}, NotAfter: a.NotAfter, Evidence: a.Digest,
	}
	for _, g := range a.GPUs {
		v.GPUs = append(v.GPUs, gpuView{g.ID, g.Architecture, g.Driver, g.VBIOS, g.Matched, g.RevocationChecked})
	}
	if v.Models == nil {
		v.Models = []schemas.ModelID{}
	}
	if v.Advisories == nil {
		v.Advisories = []string{}
	}
	return v
}

// lines is a verdict for people: every step, then what it means and what it does not.
func (v verdict) lines() [][2]string {
	var rows [][2]string
	for _, s := range v.Steps {
		mark := "not proven  "
		if s.Proven {
			mark = "proven      "
		}
		rows = append(rows, [2]string{string(s.Step), mark + s.What})
	}
	if v.Reason != nil {
		rows = append(rows, [2]string{"REFUSED", fmt.Sprintf("%s: %s: %s", v.Reason.Kind, v.Reason.Field, v.Reason.Message)})
		if v.Reason.Advice != "" {
			rows = append(rows, [2]string{"WHAT TO DO", v.Reason.Advice})
		}
	}
	if a := v.Admission; a != nil {
		rows = append(rows,
			[2]string{"ADMITTED", fmt.Sprintf("image %s as %s until %s, policy version %d, %s hardware", a.Image, a.Role, a.NotAfter.Format(time.RFC3339), a.PolicyVersion, shout(v.Environment))},
			[2]string{"TCB", fmt.Sprintf("platform %s, TDX module %s, quoting enclave %s", a.TCB, a.TDXModule, a.QE)},
			[2]string{"machine", fmt.Sprintf("%s (family %s)", a.Machine, a.FMSPC)},
			[2]string{"GPUs attested", strconv.Itoa(a.GPUAttested)},
		)
		for _, g := range a.GPUs {
			rows = append(rows, [2]string{"GPU", fmt.Sprintf("%s, driver %s, VBIOS %s, %d golden values, id %s", g.Architecture, g.Driver, g.VBIOS, g.Matched, g.ID)})
		}
		if a.Owner != "" {
			rows = append(rows, [2]string{"earns for", string(a.Owner)})
		}
		rows = append(rows, [2]string{"models", joined(a.Models)})
	}
	for _, note := range v.NotProven {
		rows = append(rows, [2]string{"NOT PROVEN", note})
	}
	return rows
}

// shout makes sure that nobody overlooks a simulated environment.
func shout(e schemas.Environment) string {
	if e == schemas.Simulated {
		return "SIMULATED"
	}
	return string(e)
}

// joined lists names, or says that there are none.
func joined[S ~string](list []S) string {
	if len(list) == 0 {
		return "none"
	}
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// attestShow is `attest show`.
func attestShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show EVIDENCE", Short: "Show what evidence says, without verifying any of it", Args: cobra.ExactArgs(1),
		Long: "Nothing that this prints is proven: see verify.",
	}
	format := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		evidence, err := readEvidence(cmd, args[0])
		if err != nil {
			return err
		}
		s, err := newStatement(&evidence)
		if err != nil {
			return err
		}
		return cli.One(format, s, statement.lines)
	}
	return cmd
}

// statement is what evidence says.
type statement struct {
	Verified  bool           `json:"verified"` // always false
	Evidence  schemas.Hash   `json:"evidence"`
	Claims    schemas.Claims `json:"claims"`
	Root      string         `json:"root"`
	RootHash  schemas.Hash   `json:"root_hash"`
	Registers registersView  `json:"registers"`
	Log       []eventView    `json:"log"`
	GPUs      []schemas.Hash `json:"gpus"`
}

// registersView spells a quote's registers.
type registersView struct {
	MRTD          schemas.Measure    `json:"mrtd"`
	RTMR          [4]schemas.Measure `json:"rtmr"`
	MRConfigID    schemas.Measure    `json:"mrconfigid"`
	MROwner       schemas.Measure    `json:"mrowner"`
	MROwnerConfig schemas.Measure    `json:"mrownerconfig"`
	Module        schemas.Measure    `json:"mrseam"`
	Attributes    schemas.Bits64     `json:"td_attributes"`
	XFAM          schemas.Bits64     `json:"xfam"`
	Debug         bool               `json:"debug"`
	ReportData    string             `json:"report_data"`
}

// eventView is one event of the boot log.
type eventView struct {
	Type    schemas.EventType `json:"type"`
	Payload string            `json:"payload"`
}

// newStatement reads evidence without judging it.
func newStatement(e *schemas.Evidence) (statement, error) {
	s := statement{Log: []eventView{}, GPUs: []schemas.Hash{}}
	var err error
	if s.Evidence, err = e.Hash(); err != nil {
		return s, err
	}
	if s.Claims, err = schemas.ParseClaims(e.Claims); err != nil {
		return s, err
	}
	r, err := tdx.ReadRegisters(e.Quote)
	if err != nil {
		return s, err
	}
	s.Registers = registersView{
		r.MRTD, r.RTMR, r.MRConfigID, r.MROwner, r.MROwnerConfig, r.Module, r.Attributes, r.XFAM, r.Debug(), hex.EncodeToString(r.Data[:]),
	}
	if s.Root, s.RootHash, err = tdx.ParseRoot(e.Quote); err != nil {
		return s, err
	}
	for _, event := range e.Log {
		payload := hex.EncodeToString(event.Payload)
		if event.Type == schemas.EventModel {
			payload = string(event.Payload)
		}
		s.Log = append(s.Log, eventView{event.Type, payload})
	}
	for _, g := range e.GPUs {
		s.GPUs = append(s.GPUs, g.Digest())
	}
	return s, nil
}

// lines is a statement for people.
func (s statement) lines() [][2]string {
	rows := [][2]string{
		{"verified", "no: this only shows what the evidence says"},
		{"evidence", s.Evidence.String()},
		{"role", string(s.Claims.Role)},
		{"owner", string(s.Claims.Owner)},
		{"boot", s.Claims.Boot.String()},
		{"expires", s.Claims.Expires.Format(time.RFC3339)},
		{"root", s.Root + " (" + s.RootHash.String() + ")"},
		{"MRTD", s.Registers.MRTD.String()},
	}
	for i, r := range s.Registers.RTMR {
		rows = append(rows, [2]string{fmt.Sprintf("RTMR%d", i), r.String()})
	}
	rows = append(rows, [2]string{"TDX module", s.Registers.Module.String()}, [2]string{"debug", strconv.FormatBool(s.Registers.Debug)})
	for _, e := range s.Log {
		rows = append(rows, [2]string{"log", string(e.Type) + " " + e.Payload})
	}
	for _, g := range s.GPUs {
		rows = append(rows, [2]string{"GPU evidence", g.String()})
	}
	return rows
}

// attestCollateral is `attest collateral`.
func attestCollateral() *cobra.Command {
	var documents collateralFlags
	cmd := &cobra.Command{
		Use: "collateral EVIDENCE", Short: "Fetch Intel's documents about the evidence's machine, for offline verification", Args: cobra.ExactArgs(1),
		Long: "Prints the JSON that 'attest verify --collateral' reads. The documents are signed and end after about a month.",
	}
	documents.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		evidence, err := readEvidence(cmd, args[0])
		if err != nil {
			return err
		}
		source, err := documents.source(time.Now)
		if err != nil {
			return err
		}
		bundle, err := gather(cmd.Context(), source, evidence.Quote)
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(bundle)
		return err
	}
	return cmd
}

// collateralFlags say where Intel's documents come from.
type collateralFlags struct {
	// file holds them; service is a caching service instead of Intel's; simulated is a folder with simulated hardware.
	file, service, simulated string
}

// add adds the flags of what is asked when there is no file.
func (f *collateralFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.service, "service", "", "url of a caching service (PCCS) instead of Intel's")
	cmd.Flags().StringVar(&f.simulated, "simulated", "", "folder of simulated hardware, which makes its own documents")
}

// source is what is asked for documents.
func (f *collateralFlags) source(now func() time.Time) (tdx.Source, error) {
	switch {
	case f.simulated != "" && f.service != "":
		return nil, cli.Usagef("give --service or --simulated, not both")
	case f.simulated != "":
		return sim.Load(f.simulated, sim.Options{Now: now})
	}
	return &tdx.Service{Base: f.service}, nil
}

// gather fetches and spells a bundle.
func gather(ctx context.Context, source tdx.Source, quote []byte) ([]byte, error) {
	bundle, err := tdx.Gather(ctx, source, quote)
	if err != nil {
		return nil, err
	}
	return indented(bundle)
}

// sortedHashes is a list of hashes in a fixed order without duplicates.
func sortedHashes(list []schemas.Hash) []schemas.Hash {
	slices.SortFunc(list, func(a, b schemas.Hash) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(list)
}
