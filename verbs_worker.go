//go:build worker

package main

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	consumerscli "github.com/cocoon-network/cocoon/consumers/cli"
	"github.com/cocoon-network/cocoon/schemas"
)

// buildKind is shown by version.
const buildKind = "worker"

// addVerbs hangs in what the measured worker image needs: the worker, its engine, and a look at the machine.
func addVerbs(root *cobra.Command) {
	root.AddCommand(
		grouped(groupRun, workerCommand()), grouped(groupRun, consumerscli.Engine(nil)), grouped(groupOperate, doctorCommand()),
	)
}

// networkChecks looks at nothing: the worker image has no clients for it.
func networkChecks(doctorOptions) []check { return nil }

// simulatedFlags adds none: this build knows no simulated hardware.
func simulatedFlags(*pflag.FlagSet) {}

// bootSimulated refuses: this build knows no simulated hardware.
func bootSimulated(context.Context, workerConfig, schemas.Trust) (hardware, error) {
	return hardware{}, &schemas.Error{Kind: schemas.KindUnsupported, Field: "simulated", Message: "this build runs on real hardware only"}
}
