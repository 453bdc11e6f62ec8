package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// verdict is the result of one check.
type verdict string

// The verdicts, from good to bad. A check that does not apply here says why and harms nobody.
const (
	verdictOK   verdict = "ok"
	verdictNA   verdict = "n/a"
	verdictWarn verdict = "warn"
	verdictFail verdict = "fail"
)

// finding is what one check found and what to do about it.
type finding struct {
	// Check names the check; Verdict is its result.
	Check   string  `json:"check"`
	Verdict verdict `json:"verdict"`
	// Detail says what was seen, with figures.
	Detail string `json:"detail"`
	// Fix says what to do, empty when nothing needs doing.
	Fix string `json:"fix,omitempty"`
}

// check looks at one thing.
type check struct {
	name string
	run  func(ctx context.Context) finding
}

// checkTimeout bounds one check.
const checkTimeout = 20 * time.Second

// diagnose runs the checks one after another, so that measurements do not disturb each other.
func diagnose(ctx context.Context, checks []check) []finding {
	findings := make([]finding, 0, len(checks))
	for _, c := range checks {
		f := func() finding {
			ctx, cancel := context.WithTimeout(ctx, checkTimeout)
			defer cancel()
			return c.run(ctx)
		}()
		f.Check = c.name
		findings = append(findings, f)
	}
	return findings
}

// ok, notApplicable, warn and fail build findings.
func ok(format string, args ...any) finding {
	return finding{Verdict: verdictOK, Detail: fmt.Sprintf(format, args...)}
}

func notApplicable(format string, args ...any) finding {
	return finding{Verdict: verdictNA, Detail: fmt.Sprintf(format, args...)}
}

func warn(fix, format string, args ...any) finding {
	return finding{Verdict: verdictWarn, Fix: fix, Detail: fmt.Sprintf(format, args...)}
}

func fail(fix, format string, args ...any) finding {
	return finding{Verdict: verdictFail, Fix: fix, Detail: fmt.Sprintf(format, args...)}
}

// doctorOptions says where to look.
type doctorOptions struct {
	// Data is the folder to test for speed and room.
	Data string
	// NATS is the server to look at, empty for none; Creds its credentials file.
	NATS, Creds string
	// TON is the path of a global config file, empty for none.
	TON string
}

// doctorCommand checks a machine and a network.
func doctorCommand() *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine and the network, and say what to do",
		Long: `Check this machine and, when told where they are, the message system and the chain.

Every line is a fact that was measured now. "n/a" means that the check does not apply
here and says why: a machine without TDX can run everything simulated.
Exit code 1 when a check fails; warnings do not fail.`,
		Example: `  cocoon doctor
  cocoon doctor --nats nats://127.0.0.1:4222 --json`,
		Args: cobra.NoArgs,
	}
	out := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&o.Data, "data", defaultDataDir(), "folder whose disk is measured")
	cmd.Flags().StringVar(&o.NATS, "nats", "", "NATS server to check (env NATS_URL)")
	cmd.Flags().StringVar(&o.Creds, "creds", "", "NATS credentials file (env NATS_CREDS)")
	cmd.Flags().StringVar(&o.TON, "ton-config", "", "TON global config file to check")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		findings := diagnose(cmd.Context(), append(machineChecks(o), networkChecks(o)...))
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		if err := cli.List(out, findings, findingTable); err != nil {
			return err
		}
		failed := 0
		for _, f := range findings {
			if f.Verdict == verdictFail {
				failed++
			}
		}
		if failed > 0 {
			return schemas.Errorf(schemas.KindUnavailable, "%d of %d checks failed", failed, len(findings))
		}
		return nil
	}
	return cmd
}

// findingTable shows findings with what to do below each.
func findingTable(findings []finding) cli.Table {
	t := cli.Table{Header: []string{"CHECK", "VERDICT", "SEEN"}}
	for _, f := range findings {
		name, verdict := f.Check, string(f.Verdict)
		for line := range strings.Lines(f.Detail) {
			t.Rows = append(t.Rows, []string{name, verdict, strings.TrimSpace(line)})
			name, verdict = "", ""
		}
		if f.Fix != "" {
			for line := range strings.Lines("→ " + f.Fix) {
				t.Rows = append(t.Rows, []string{"", "", strings.TrimSpace(line)})
			}
		}
	}
	return t
}
