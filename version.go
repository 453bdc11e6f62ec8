package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas/cli"
)

// buildInfo says exactly which program this is.
type buildInfo struct {
	// Version is the module's version, "(devel)" when built from a checkout.
	Version string `json:"version"`
	// Commit and Modified come from the version control system, empty outside a checkout.
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	// Go is the toolchain and Platform what it built for.
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Build is "full" or "worker", Engine how the embedded engine's kernels were compiled.
	Build  string `json:"build"`
	Engine string `json:"engine"`
}

// thisBuild reads what the linker recorded.
func thisBuild() buildInfo {
	b := buildInfo{
		Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Build: buildKind, Engine: engineBuild(),
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// versionCommand prints the build.
func versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say exactly which program this is",
		Args:  cobra.NoArgs,
	}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		return cli.One(out, thisBuild(), func(b buildInfo) [][2]string {
			commit := b.Commit
			if b.Modified {
				commit += " (modified)"
			}
			return [][2]string{
				{"version", b.Version},
				{"commit", commit},
				{"go", b.Go},
				{"platform", b.Platform},
				{"build", b.Build},
				{"engine", b.Engine},
			}
		})
	}
	return cmd
}
