//go:build !worker

package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// policyAdd is `policy add`: what goes into the lists of a draft.
func policyAdd(n *noun[schemas.Policy, *schemas.Policy]) *cobra.Command {
	cmd := &cobra.Command{Use: "add", Short: "Add to a draft: image, config, module, machine, gpu, model"}
	cmd.AddCommand(addImage(n), addConfig(n), addModules(n), addMachines(n), addGPU(n), addModels(n))
	return cmd
}

// adding builds a verb that edits a draft and prints it.
func adding(n *noun[schemas.Policy, *schemas.Policy], use, short, long string, args cobra.PositionalArgs, change func(*cobra.Command, *schemas.Policy, []string) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: args}
	format := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var edited *schemas.Policy
		err := n.edit(cmd, args[0], func(p *schemas.Policy) error {
			edited = p
			return change(cmd, p, args[1:])
		})
		if err != nil {
			return err
		}
		return cli.One(format, edited, policyLines)
	}
	return cmd
}

// addImage is `policy add image`.
func addImage(n *noun[schemas.Policy, *schemas.Policy]) *cobra.Command {
	return adding(n, "image FILE MEASUREMENT.json", "Admit an image",
		"MEASUREMENT.json is what 'cocoon attest measure' writes. An entry with the same registers is replaced.", cobra.ExactArgs(2),
		func(cmd *cobra.Command, p *schemas.Policy, args []string) error {
			var m schemas.Measurement
			b, err := readLimited(cmd.InOrStdin(), args[0], schemas.MaxDocumentSize)
			if err != nil {
				return err
			}
			if err := schemas.DecodeJSON(b, &m, schemas.MaxDocumentSize); err != nil {
				return err
			}
			p.Measurements = slices.DeleteFunc(p.Measurements, func(have schemas.Measurement) bool { return sameImage(have, m) })
			p.Measurements = append(p.Measurements, m)
			return nil
		})
}

// sameImage reports whether two entries are about the same registers and role.
func sameImage(a, b schemas.Measurement) bool {
	return a.Role == b.Role && a.MRTD == b.MRTD && a.RTMR0 == b.RTMR0 && a.RTMR1 == b.RTMR1 && a.RTMR2 == b.RTMR2 &&
		a.MRConfigID == b.MRConfigID && a.MROwner == b.MROwner && a.MROwnerConfig == b.MROwnerConfig
}

// addConfig is `policy add config`.
func addConfig(n *noun[schemas.Policy, *schemas.Policy]) *cobra.Command {
	return adding(n, "config FILE IMAGE HASH...", "Admit configuration bundles for an image",
		"HASH is the SHA-256 of the bundle (sha256-…), the 'config' event of RTMR3.", cobra.MinimumNArgs(3),
		func(_ *cobra.Command, p *schemas.Policy, args []string) error {
			found := false
			for i := range p.Measurements {
				m := &p.Measurements[i]
				if m.Name != args[0] {
					continue
				}
				found = true
				for _, text := range args[1:] {
					h, err := schemas.ParseHash(text)
					if err != nil {
						return err
					}
					if !slices.Contains(m.Configs, h) {
						m.Configs = append(m.Configs, h)
					}
				}
			}
			if !found {
				return schemas.Errorf(schemas.KindNotFound, "the draft has no image %q", args[0])
			}
			return nil
		})
}

// addModules is `policy add module`.
func addModules(n *noun[schemas.Policy, *schemas.Policy]) *cobra.Command {
	return adding(n, "module FILE MRSEAM...", "Admit TDX modules by their measurement", "", cobra.MinimumNArgs(2),
		func(_ *cobra.Command, p *schemas.Policy, args []string) error {
			for _, text := range args {
				m, err := schemas.ParseMeasure(text)
				if err != nil {
					return err
				}
				if !slices.Contains(p.TDX.Modules, m) {
					p.TDX.Modules = append(p.TDX.Modules, m)
				}
			}
			return nil
		})
}

// addMachines is `policy add machine`.
func addMachines(n *noun[schemas.Policy, *schemas.Policy]) *cobra.Command {
	var blocked, unlisted bool
	cmd := adding(n, "machine FILE [PPID...]", "List or block physical machines by their PPID",
		`In a fresh draft only listed machines may run. --any turns that off: any machine that is not blocked may run then.
A quote from a machine whose key was stolen proves nothing, so list the machines of operators you know.`, cobra.MinimumNArgs(1),
		func(_ *cobra.Command, p *schemas.Policy, args []string) error {
			into := &p.TDX.Platforms.Listed
			if blocked {
				into = &p.TDX.Platforms.Blocked
			}
			if unlisted {
				p.TDX.Platforms.Mode = schemas.PlatformsAny
			} else if len(args) == 0 {
				return cli.Usagef("name machines, or give --any")
			}
			for _, text := range args {
				var id schemas.PPID
				if err := id.UnmarshalText([]byte(text)); err != nil {
					return err
				}
				*into = append(*into, id)
			}
			slices.SortFunc(*into, func(a, b schemas.PPID) int { return strings.Compare(a.String(), b.String()) })
			*into = slices.Compact(*into)
			return nil
		})
	cmd.Flags().BoolVar(&blocked, "blocked", false, "block the machines instead of listing them")
	cmd.Flags().BoolVar(&unlisted, "any", false, "let any machine run that is not blocked")
	return cmd
}

// addGPU is `policy add gpu`.
func addGPU(n *noun[schemas.Policy, *schemas.Policy]) *cobra.Command {
	return adding(n, "gpu FILE ARCHITECTURE GOLDEN.json", "Admit a firmware state of GPUs",
		`ARCHITECTURE is the chip as NVIDIA's certificates name it, such as GH100. GOLDEN.json is one object {driver, vbios,
values}: the golden values of NVIDIA's reference files for that driver and VBIOS, or of a machine known to be good
('cocoon attest measure --golden').`, cobra.ExactArgs(3),
		func(cmd *cobra.Command, p *schemas.Policy, args []string) error {
			b, err := readLimited(cmd.InOrStdin(), args[1], schemas.MaxDocumentSize)
			if err != nil {
				return err
			}
			var g schemas.Golden
			if err := schemas.DecodeJSON(b, &g, schemas.MaxDocumentSize); err != nil {
				return err
			}
			if !slices.Contains(p.GPU.Architectures, args[0]) {
				p.GPU.Architectures = append(p.GPU.Architectures, args[0])
			}
			p.GPU.Golden = slices.DeleteFunc(p.GPU.Golden, func(have schemas.Golden) bool { return have.Driver == g.Driver && have.VBIOS == g.VBIOS })
			p.GPU.Golden = append(p.GPU.Golden, g)
			return nil
		})
}

// addModels is `policy add model`.
func addModels(n *noun[schemas.Policy, *schemas.Policy]) *cobra.Command {
	return adding(n, "model FILE MODEL...", "Admit models by their full id, name@revision:sha256-…", "", cobra.MinimumNArgs(2),
		func(_ *cobra.Command, p *schemas.Policy, args []string) error {
			for _, id := range args {
				if _, err := schemas.ParseModelID(id); err != nil {
					return err
				}
				p.Models = append(p.Models, schemas.ModelID(id))
			}
			slices.Sort(p.Models)
			p.Models = slices.Compact(p.Models)
			return nil
		})
}
