//go:build !worker

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	consumerscli "github.com/cocoon-network/cocoon/consumers/cli"
	enclavecli "github.com/cocoon-network/cocoon/enclave/cli"
	producerscli "github.com/cocoon-network/cocoon/producers/cli"
	"github.com/cocoon-network/cocoon/schemas/cli"
	settlementcli "github.com/cocoon-network/cocoon/settlement/cli"
)

// benchmark measures one part of the system beside its physical floor, in one interleaved run. quick ends within about
// ten seconds.
type benchmark func(ctx context.Context, quick bool) (cli.BenchResult, error)

// benchmarks are all of them, in the order in which "all" runs them. llamaServer is the path of one to compare the engine with.
func benchmarks(llamaServer *string) ([]string, map[string]benchmark) {
	return []string{"seal", "broker", "pipeline", "queue", "engine", "settle", "gateway", "batch", "dashboard"}, map[string]benchmark{
		"seal":     enclavecli.BenchSeal,
		"broker":   enclavecli.BenchBroker,
		"pipeline": consumerscli.BenchPipeline,
		"queue":    consumerscli.BenchQueue,
		"engine": func(ctx context.Context, quick bool) (cli.BenchResult, error) {
			return consumerscli.BenchEngine(ctx, quick, *llamaServer)
		},
		"settle":    settlementcli.BenchSettle,
		"gateway":   producerscli.BenchGateway,
		"batch":     producerscli.BenchBatch,
		"dashboard": consumerscli.BenchDashboard,
	}
}

// benchCommand measures.
func benchCommand() *cobra.Command {
	var quick bool
	var llamaServer string
	names, all := benchmarks(&llamaServer)
	var profile string
	cmd := &cobra.Command{
		Use:   "bench " + strings.Join(names, "|") + "|all",
		Short: "Measure the system beside its physical floors",
		Long: `Measure parts of the system side by side with what the machine could do at best.

Figures are ratios where they can be, because machines are shared and noisy: both sides of
a ratio come from one interleaved run. Exit code 3 when a goal is not reached.`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: append(slices.Clone(names), "all"),
	}
	out := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&llamaServer, "llama-server", "", "with engine: path of a llama-server to compare it with")
	cmd.Flags().BoolVar(&quick, "quick", false, "shorter runs, rougher figures; all of them end within a minute")
	cmd.Flags().StringVar(&profile, "cpuprofile", "", "write a processor profile of the run to `file`, for go tool pprof")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		stop, err := startProfile(profile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		chosen := args
		if args[0] == "all" {
			chosen = names
		}
		var results []cli.BenchResult
		done, missed := 0, 0
		for _, name := range chosen {
			fmt.Fprintf(cmd.ErrOrStderr(), "measuring %s\n", name)
			r, err := all[name](cmd.Context(), quick)
			if err != nil {
				return fmt.Errorf("bench %s: %w", name, err)
			}
			for _, f := range r.Figures {
				if f.OK {
					done++
				} else {
					missed++
				}
			}
			results = append(results, r)
		}
		if err := printResults(out, results, args[0] != "all"); err != nil {
			return err
		}
		if missed > 0 {
			return &cli.PartialError{Done: done, Failed: missed, Reason: "goals were not reached"}
		}
		return nil
	}
	return cmd
}

// startProfile writes a processor profile until stop is called; an empty name means none.
func startProfile(name string) (stop func() error, err error) {
	if name == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// printResults prints one result as an object and several as a list.
func printResults(out *cli.Output, results []cli.BenchResult, single bool) error {
	format, err := out.Format()
	if err != nil {
		return err
	}
	if single && format != "table" {
		return cli.One(out, results[0], nil)
	}
	return cli.List(out, results, cli.FigureTable)
}
