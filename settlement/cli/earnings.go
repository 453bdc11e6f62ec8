package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/settlement"
)

// payoutsEarnings prints what workers earned over time.
func payoutsEarnings() *cobra.Command {
	q := settlement.EarningsQuery{}
	var back time.Duration
	cmd := &cobra.Command{
		Use: "earnings [WORKER]", Short: "Show what workers earned over time, as it is booked", Args: cobra.MaximumNArgs(1),
		Long: `Shows what workers earned in each hour (or longer step), from the receipts that are booked: the workers that earned most
first, each in order of time. Steps in which nothing was earned are left out.

Owners without access to the ledger see the sums of their workers with 'cocoon workers earnings'.`,
	}
	out := cli.OutputFlags(cmd)
	cmd.Flags().DurationVar(&q.Step, "step", time.Hour, "length of one line, in whole hours; 24h are days of UTC")
	cmd.Flags().DurationVar(&back, "since", 7*24*time.Hour, "how far back to begin; at most 1,000 steps")
	cmd.Flags().IntVar(&q.Workers, "workers", settlement.MaxEarningsWorkers, "at most this many workers, those that earned most")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			worker, err := schemas.ParseWorkerID(args[0])
			if err != nil {
				return &cli.UsageError{Err: err}
			}
			q.Worker = worker
		}
		q.Since = time.Now().Add(-back)
		return withLedger(cmd, func(ctx context.Context, l *settlement.Ledger) error {
			all, err := l.Earnings(ctx, q)
			if err != nil {
				return err
			}
			return cli.List(out, all, earningsTable)
		})
	}
	return cmd
}

// earningsTable is the view for people.
func earningsTable(all []settlement.Earned) cli.Table {
	t := cli.Table{Header: []string{"WORKER", "FROM", "RECEIPTS", "TOKENS", "CHARGED", "EARNED"}}
	for _, e := range all {
		t.Rows = append(t.Rows, []string{
			string(e.Worker), e.At.Format(time.RFC3339), number(e.Receipts), number(e.Usage.Total()), e.Charged.String(), e.Earned.String(),
		})
	}
	return t
}
