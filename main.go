// Command cocoon is the whole of Cocoon in one binary: confidential AI inference over NATS JetStream, paid in TON.
//
// `cocoon demo` shows the entire network at work within a minute, on a temporary folder and with simulated hardware;
// `cocoon up` keeps one running on this machine. The other verbs run one role each, or look at and steer a running
// network. Every verb lives beside the folder whose nouns it is about; this package only hangs them into one tree and
// holds what spans all roles.
//
// Built with -tags worker it is the small program of the measured worker image: no NATS server, no chain, no gateway,
// no simulated hardware.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas/cli"
)

func main() {
	// The engine's native packages log through the default logger; what they say is no part of this program's output.
	slog.SetDefault(slog.New(slog.DiscardHandler))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(root.ErrOrStderr(), "cocoon: %v\n", err)
		var usage *cli.UsageError
		if errors.As(err, &usage) {
			fmt.Fprintf(root.ErrOrStderr(), "Try '%s --help'.\n", cmd.CommandPath())
		}
	}
	return cli.ExitCode(err)
}

// newRoot builds the tree of verbs.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "cocoon",
		Short: "Confidential AI inference over NATS JetStream, paid in TON",
		Long: `Cocoon runs AI inference on machines of strangers who can read nothing.

Tenants seal jobs; the sealed envelopes wait in JetStream; attested workers pull exactly
as many as their GPU batch has room for and publish sealed results with signed receipts;
settlement turns the receipts into TON transfers.

Start here:
  cocoon demo      see the whole network work, on a temporary folder (one minute)
  cocoon up        run the whole network on this machine and keep its state
  cocoon doctor    check this machine and explain every refusal`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().String(cli.ConfigFlag, "", "configuration file, YAML with one section per verb (env COCOON_CONFIG)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &cli.UsageError{Err: err} })
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run:"},
		&cobra.Group{ID: groupUse, Title: "Submit and read:"},
		&cobra.Group{ID: groupOperate, Title: "Operate:"},
		&cobra.Group{ID: groupTrust, Title: "Trust and money:"},
	)
	root.SetHelpCommandGroupID(groupOperate)
	root.SetCompletionCommandGroupID(groupOperate)
	addVerbs(root)
	root.AddCommand(grouped(groupOperate, versionCommand()))
	usageErrors(root)
	return root
}

// Groups of verbs in the help text.
const (
	groupRun     = "run"
	groupUse     = "use"
	groupOperate = "operate"
	groupTrust   = "trust"
)

// grouped puts a verb under a heading of the help text.
func grouped(group string, cmd *cobra.Command) *cobra.Command {
	cmd.GroupID = group
	return cmd
}

// usageErrors makes wrong arguments of every verb usage errors, which exit with 2, and makes a noun without a verb
// print its help.
func usageErrors(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &cli.UsageError{Err: err}
			}
			return nil
		}
	}
	if !cmd.Runnable() && cmd.HasSubCommands() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usagef("unknown verb %q for %q (known: %s)", args[0], cmd.CommandPath(), verbNames(cmd))
			}
			return cmd.Help()
		}
	}
	for _, sub := range cmd.Commands() {
		usageErrors(sub)
	}
}

// verbNames lists the verbs of a noun.
func verbNames(cmd *cobra.Command) string {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return strings.Join(names, ", ")
}
