//go:build !worker

package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	registers "github.com/cocoon-network/cocoon/enclave/tdx/measure"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// measureFlags are the flags of `attest measure`.
type measureFlags struct {
	name, role, gpus, notAfter      string
	evidence, firmware, ccel        string
	rtmr                            [3]string
	mrconfigid, mrowner, mrownerCfg string
	configs, configFiles            []string
	golden                          bool
	goldenIndexes                   []int
}

// attestMeasure is `attest measure`.
func attestMeasure() *cobra.Command {
	f := &measureFlags{}
	cmd := &cobra.Command{
		Use: "measure", Short: "Compute the registers of an image and print its policy entry", Args: cobra.NoArgs,
		Long: `Prints the JSON that 'policy add image' reads. The registers come from

  --firmware FILE   MRTD, computed from an OVMF image built for TDX
  --ccel FILE       RTMR0 to RTMR2, replayed from the boot log of a guest known to be good
                    (/sys/firmware/acpi/tables/data/CCEL)
  --rtmr0 … --rtmr2 computed elsewhere
  --evidence FILE   all of them and the configuration, from evidence of a guest known to be good

and the admitted configurations from --config HASH or --config-file BUNDLE. Nothing here verifies anything: an image is
admitted because its maker says so.

With --golden the GPU's golden values are printed instead, as 'policy add gpu' reads them: from --evidence, at the
indexes of --index (default all). NVIDIA's reference files are the better source where they can be had.`,
	}
	cmd.Flags().StringVar(&f.name, "name", "", "name of the image: builds and machine shapes of one program share it (required)")
	cmd.Flags().StringVar(&f.role, "role", string(schemas.RoleWorker), "worker or broker")
	cmd.Flags().StringVar(&f.gpus, "gpus", "", `number of GPUs it must have, as "1" or "1-8" (default 1-8 for workers, 0 for brokers)`)
	cmd.Flags().StringVar(&f.notAfter, "not-after", "", "end of its admission, such as 2027-01-01T00:00:00Z")
	cmd.Flags().StringVar(&f.evidence, "evidence", "", "evidence of a guest known to be good")
	cmd.Flags().StringVar(&f.firmware, "firmware", "", "OVMF image built for TDX")
	cmd.Flags().StringVar(&f.ccel, "ccel", "", "boot log of a guest known to be good")
	for i := range f.rtmr {
		cmd.Flags().StringVar(&f.rtmr[i], "rtmr"+strconv.Itoa(i), "", "the register in 96 hex digits")
	}
	cmd.Flags().StringVar(&f.mrconfigid, "mrconfigid", "", "set by the host at launch, 96 hex digits (default zero)")
	cmd.Flags().StringVar(&f.mrowner, "mrowner", "", "set by the host at launch, 96 hex digits (default zero)")
	cmd.Flags().StringVar(&f.mrownerCfg, "mrownerconfig", "", "set by the host at launch, 96 hex digits (default zero)")
	cmd.Flags().StringSliceVar(&f.configs, "config", nil, "admitted configuration bundle as sha256-…")
	cmd.Flags().StringSliceVar(&f.configFiles, "config-file", nil, "admitted configuration bundle as a file")
	cmd.Flags().BoolVar(&f.golden, "golden", false, "print golden values of the GPU in --evidence instead")
	cmd.Flags().IntSliceVar(&f.goldenIndexes, "index", nil, "with --golden: measurement indexes to admit (default all)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var result any
		var err error
		if f.golden {
			result, err = f.goldenValues(cmd)
		} else {
			result, err = f.measurement(cmd)
		}
		if err != nil {
			return err
		}
		b, err := indented(result)
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(b)
		return err
	}
	return cmd
}

// measurement puts a policy entry together.
func (f *measureFlags) measurement(cmd *cobra.Command) (*schemas.Measurement, error) {
	if f.name == "" {
		return nil, cli.Usagef("--name is required")
	}
	m := &schemas.Measurement{Name: f.name, Role: schemas.Role(f.role), Configs: []schemas.Hash{}}
	if err := f.counts(m); err != nil {
		return nil, err
	}
	for _, step := range []func(*cobra.Command, *schemas.Measurement) error{f.fromEvidence, f.fromFirmware, f.fromLog, f.fromFlags, f.fromConfigs} {
		if err := step(cmd, m); err != nil {
			return nil, err
		}
	}
	if m.MRTD.IsZero() {
		return nil, cli.Usagef("give --firmware or --evidence: without MRTD nothing is known about the image")
	}
	m.Configs = sortedHashes(m.Configs)
	return m, nil
}

// counts reads the number of GPUs and the end.
func (f *measureFlags) counts(m *schemas.Measurement) error {
	text := f.gpus
	if text == "" {
		text = "1-8"
		if m.Role == schemas.RoleBroker {
			text = "0"
		}
	}
	low, high, ranged := strings.Cut(text, "-")
	if !ranged {
		high = low
	}
	var err1, err2 error
	m.MinGPUs, err1 = strconv.Atoi(low)
	m.MaxGPUs, err2 = strconv.Atoi(high)
	if err1 != nil || err2 != nil {
		return cli.Usagef("--gpus must be a number or a range such as 1-8")
	}
	if f.notAfter != "" {
		t, err := parseMoment(f.notAfter)
		if err != nil {
			return err
		}
		m.NotAfter = t.Truncate(time.Second)
	}
	return nil
}

// fromEvidence takes everything from a guest known to be good.
func (f *measureFlags) fromEvidence(cmd *cobra.Command, m *schemas.Measurement) error {
	if f.evidence == "" {
		return nil
	}
	e, err := readEvidence(cmd, f.evidence)
	if err != nil {
		return err
	}
	r, err := tdx.ReadRegisters(e.Quote)
	if err != nil {
		return err
	}
	facts, register, err := e.Log.Replay()
	if err != nil {
		return err
	}
	if register != r.RTMR[3] {
		return schemas.FieldError("log", "does not replay to RTMR3: this guest measured something else")
	}
	m.MRTD, m.RTMR0, m.RTMR1, m.RTMR2 = r.MRTD, r.RTMR[0], r.RTMR[1], r.RTMR[2]
	m.MRConfigID, m.MROwner, m.MROwnerConfig = r.MRConfigID, r.MROwner, r.MROwnerConfig
	m.Configs = append(m.Configs, facts.Config)
	return nil
}

// fromFirmware computes MRTD.
func (f *measureFlags) fromFirmware(cmd *cobra.Command, m *schemas.Measurement) error {
	if f.firmware == "" {
		return nil
	}
	b, err := readLimited(cmd.InOrStdin(), f.firmware, registers.MaxFirmware)
	if err != nil {
		return err
	}
	m.MRTD, err = registers.MRTD(b)
	return err
}

// fromLog replays a boot log.
func (f *measureFlags) fromLog(cmd *cobra.Command, m *schemas.Measurement) error {
	if f.ccel == "" {
		return nil
	}
	b, err := readLimited(cmd.InOrStdin(), f.ccel, registers.MaxCCEL)
	if err != nil {
		return err
	}
	values, _, err := registers.ReplayCCEL(b)
	if err != nil {
		return err
	}
	m.RTMR0, m.RTMR1, m.RTMR2 = values[0], values[1], values[2]
	return nil
}

// fromFlags takes registers as they are given.
func (f *measureFlags) fromFlags(_ *cobra.Command, m *schemas.Measurement) error {
	for _, r := range []struct {
		flag, text string
		into       *schemas.Measure
	}{
		{"rtmr0", f.rtmr[0], &m.RTMR0},
		{"rtmr1", f.rtmr[1], &m.RTMR1},
		{"rtmr2", f.rtmr[2], &m.RTMR2},
		{"mrconfigid", f.mrconfigid, &m.MRConfigID},
		{"mrowner", f.mrowner, &m.MROwner},
		{"mrownerconfig", f.mrownerCfg, &m.MROwnerConfig},
	} {
		if r.text == "" {
			continue
		}
		if err := r.into.UnmarshalText([]byte(r.text)); err != nil {
			return cli.Usagef("--%s: %w", r.flag, err)
		}
	}
	return nil
}

// fromConfigs adds the admitted configurations.
func (f *measureFlags) fromConfigs(cmd *cobra.Command, m *schemas.Measurement) error {
	for _, text := range f.configs {
		h, err := schemas.ParseHash(text)
		if err != nil {
			return cli.Usagef("--config: %w", err)
		}
		m.Configs = append(m.Configs, h)
	}
	for _, path := range f.configFiles {
		b, err := readLimited(cmd.InOrStdin(), path, schemas.MaxDocumentSize)
		if err != nil {
			return err
		}
		m.Configs = append(m.Configs, schemas.HashOf(b))
	}
	return nil
}

// goldenValues takes the firmware state of the first GPU.
func (f *measureFlags) goldenValues(cmd *cobra.Command) (*schemas.Golden, error) {
	if f.evidence == "" {
		return nil, cli.Usagef("--golden needs --evidence")
	}
	e, err := readEvidence(cmd, f.evidence)
	if err != nil {
		return nil, err
	}
	if len(e.GPUs) == 0 {
		return nil, schemas.FieldError("gpus", "the evidence has none")
	}
	driver, vbios, values, err := nvidia.ReadReport(e.GPUs[0].Report)
	if err != nil {
		return nil, err
	}
	g := &schemas.Golden{Driver: driver, VBIOS: vbios, Values: map[int][]schemas.Measure{}}
	for index, value := range values {
		if len(f.goldenIndexes) == 0 {
			g.Values[index] = []schemas.Measure{value}
		}
	}
	for _, index := range f.goldenIndexes {
		value, ok := values[index]
		if !ok {
			return nil, schemas.FieldError("index", fmt.Sprintf("the report has no measurement %d", index))
		}
		g.Values[index] = []schemas.Measure{value}
	}
	return g, nil
}
