package cli

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/settlement"
)

// Payouts is the noun "payouts": what worker owners are owed and paid.
func Payouts() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "payouts",
		Short: "Payouts to worker owners: list, show, earnings, run, pause, resume",
		Long: `Payouts to worker owners.

The settlement service makes them by itself, when an owner has earned enough or has waited long enough. These verbs
look at them and steer the service through the ledger; they need neither the chain nor the treasury's key.`,
	}
	addLedgerFlag(cmd)
	cmd.AddCommand(payoutsList(), payoutsShow(), payoutsStatus(), payoutsOwners(), payoutsEarnings(), payoutsRun(), payoutsPause(), payoutsResume(),
		payoutsMinimum(), payoutsClear(), payoutsFees(), payoutsProof(), payoutsAlerts())
	return cmd
}

// number prints an integer.
func number[T ~int | ~int64 | ~uint64](n T) string { return strconv.FormatInt(int64(n), 10) }

// payoutsList lists batches.
func payoutsList() *cobra.Command {
	var limit int
	cmd := &cobra.Command{Use: "ls", Short: "List payout batches, the newest first", Args: cobra.NoArgs}
	out := cli.OutputFlags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 50, "at most this many")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withLedger(cmd, func(ctx context.Context, l *settlement.Ledger) error {
			all, err := l.PayoutBatches(ctx, 0, limit)
			if err != nil {
				return err
			}
			return cli.List(out, all, func(all []settlement.PayoutBatch) cli.Table {
				t := cli.Table{Header: []string{"BATCH", "STATE", "CREATED", "ITEMS", "TOTAL", "PAID", "TRANSACTION"}}
				for _, b := range all {
					t.Rows = append(t.Rows, []string{
						number(b.Batch), b.State, b.Created.Format(time.RFC3339), number(b.Items), b.Total.String(), b.Paid.String(), b.Transaction,
					})
				}
				return t
			})
		})
	}
	return cmd
}

// batchDetail is one batch with its items and its published statement.
type batchDetail struct {
	settlement.PayoutBatch
	Transfers []settlement.PayoutItem `json:"transfers"`
	Statement *settlement.Statement   `json:"statement"`
}

// payoutsShow prints one batch.
func payoutsShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show BATCH", Short: "Show a payout batch: its transfers and its statement", Args: cobra.ExactArgs(1)}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n, err := strconv.ParseUint(args[0], 10, 63)
		if err != nil || n == 0 {
			return cli.Usagef("BATCH must be the number of a batch, not %q", args[0])
		}
		return withLedger(cmd, func(ctx context.Context, l *settlement.Ledger) error {
			d, err := detail(ctx, l, n)
			if err != nil {
				return err
			}
			return cli.One(out, d, func(d batchDetail) [][2]string {
				rows := [][2]string{
					{"batch", number(d.Batch)},
					{"state", d.State},
					{"created", d.Created.Format(time.RFC3339)},
					{"total", d.Total.String()},
					{"paid", d.Paid.String()},
					{"statement root", d.Root},
					{"transaction", d.Transaction},
				}
				for i, t := range d.Transfers {
					rows = append(rows, [2]string{t.State, t.Amount.String() + " to " + string(t.To) + " for " + number(d.Statement.Items[i].Receipts) + " receipts (" + t.Purpose + ")"})
				}
				return rows
			})
		})
	}
	return cmd
}

// detail reads a batch.
func detail(ctx context.Context, l *settlement.Ledger, n uint64) (d batchDetail, err error) {
	if d.Statement, err = l.PayoutStatement(ctx, n); err != nil {
		return d, err
	}
	batches, err := l.PayoutBatches(ctx, n, 1)
	if err != nil {
		return d, err
	}
	if len(batches) == 1 {
		d.PayoutBatch = batches[0]
	}
	d.Transfers, err = l.PayoutItems(ctx, n)
	return d, err
}

// payoutsStatus prints whether payouts run and how much waits.
func payoutsStatus() *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "Show whether payouts run and how much waits", Args: cobra.NoArgs}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withLedger(cmd, func(ctx context.Context, l *settlement.Ledger) error {
			s, err := l.Payouts(ctx)
			if err != nil {
				return err
			}
			return cli.One(out, s, func(s settlement.PayoutState) [][2]string {
				state := "running"
				if s.Stopped != "" {
					state = "stopped: " + s.Stopped
				}
				return [][2]string{
					{"payouts", state},
					{"treasury", string(s.Treasury)},
					{"treasury holds", s.Booked.String()},
					{"owed to owners", s.Owed.String()},
					{"in flight", s.Inflight.String()},
					{"paid", s.Paid.String()},
					{"tenants' money", s.Held.String()},
					{"network fees", s.Fees.String()},
					{"chain fees so far", s.Gas.String()},
				}
			})
		})
	}
	return cmd
}

// payoutsOwners lists owners.
func payoutsOwners() *cobra.Command {
	var limit int
	cmd := &cobra.Command{Use: "owners", Short: "List worker owners, those owed most first", Args: cobra.NoArgs}
	out := cli.OutputFlags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "at most this many")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withLedger(cmd, func(ctx context.Context, l *settlement.Ledger) error {
			all, err := l.Payees(ctx, limit)
			if err != nil {
				return err
			}
			return cli.List(out, all, func(all []settlement.Payee) cli.Table {
				t := cli.Table{Header: []string{"OWNER", "OWED", "IN FLIGHT", "PAID", "MINIMUM", "FLAGGED"}}
				for _, p := range all {
					t.Rows = append(t.Rows, []string{string(p.Owner), p.Owed.String(), p.Inflight.String(), p.Paid.String(), p.Minimum.String(), p.Flagged})
				}
				return t
			})
		})
	}
	return cmd
}

// steer makes a verb that changes something and prints nothing.
func steer(use, short string, args int, do func(context.Context, *settlement.Ledger, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(args),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withLedger(cmd, func(ctx context.Context, l *settlement.Ledger) error { return do(ctx, l, args) })
		},
	}
}

// payoutsRun asks for a round that pays everything.
func payoutsRun() *cobra.Command {
	return steer("run", "Have the service pay every balance in its next round, whatever the thresholds say", 0,
		func(ctx context.Context, l *settlement.Ledger, _ []string) error { return l.RunPayouts(ctx) })
}

// payoutsPause stops payouts.
func payoutsPause() *cobra.Command {
	return steer("pause", "Stop payouts; serving, booking and deposits go on", 0,
		func(ctx context.Context, l *settlement.Ledger, _ []string) error { return l.StopPayouts(ctx) })
}

// payoutsResume lets payouts go on.
func payoutsResume() *cobra.Command {
	var adopt bool
	cmd := steer("resume", "Let payouts go on", 0,
		func(ctx context.Context, l *settlement.Ledger, _ []string) error { return l.ResumePayouts(ctx, adopt) })
	cmd.Flags().BoolVar(&adopt, "adopt", false, "book payments that the ledger does not know against their receivers, and write off what nobody can explain")
	return cmd
}

// payoutsMinimum sets an owner's minimum.
func payoutsMinimum() *cobra.Command {
	return steer("minimum OWNER AMOUNT", "Set the smallest payout that an owner wants, in TON", 2,
		func(ctx context.Context, l *settlement.Ledger, args []string) error {
			owner, err := parseOwner(args[0])
			if err != nil {
				return err
			}
			amount, err := parseAmount(args[1])
			if err != nil {
				return err
			}
			return l.SetMinimum(ctx, owner, amount)
		})
}

// payoutsClear clears an owner's flag.
func payoutsClear() *cobra.Command {
	return steer("clear OWNER", "Pay an owner again whose address refused a payout", 1,
		func(ctx context.Context, l *settlement.Ledger, args []string) error {
			owner, err := parseOwner(args[0])
			if err != nil {
				return err
			}
			return l.ClearFlag(ctx, owner)
		})
}

// payoutsFees withdraws the network's fees.
func payoutsFees() *cobra.Command {
	var ref string
	cmd := steer("fees AMOUNT ADDRESS", "Withdraw network fees to an address, with the next payout batch (amount in TON)", 2,
		func(ctx context.Context, l *settlement.Ledger, args []string) error {
			amount, err := parseAmount(args[0])
			if err != nil {
				return err
			}
			to, err := parseOwner(args[1])
			if err != nil {
				return err
			}
			if ref == "" {
				ref = "fees " + time.Now().UTC().Format(time.RFC3339)
			}
			return l.WithdrawFees(ctx, ref, to, amount)
		})
	cmd.Flags().StringVar(&ref, "ref", "", "reference: the same one again pays nothing")
	return cmd
}

// payoutsProof writes the proof that a job's receipt is paid.
func payoutsProof() *cobra.Command {
	cmd := &cobra.Command{
		Use: "proof JOB", Short: "Print the proof that a job's receipt is covered by a payout, for `cocoon receipt verify --statement`", Args: cobra.ExactArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		job, err := schemas.ParseJobID(args[0])
		if err != nil {
			return &cli.UsageError{Err: err}
		}
		return withLedger(cmd, func(ctx context.Context, l *settlement.Ledger) error {
			p, err := l.Proof(ctx, job)
			if err != nil {
				return err
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "  ")
			return enc.Encode(p)
		})
	}
	return cmd
}

// payoutsAlerts lists alerts, and payments that nobody has adopted.
func payoutsAlerts() *cobra.Command {
	var limit int
	cmd := &cobra.Command{Use: "alerts", Short: "List what needed or needs a person, the newest first", Args: cobra.NoArgs}
	out := cli.OutputFlags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 50, "at most this many")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withLedger(cmd, func(ctx context.Context, l *settlement.Ledger) error {
			all, err := l.Alerts(ctx, limit)
			if err != nil {
				return err
			}
			return cli.List(out, all, func(all []settlement.Alert) cli.Table {
				t := cli.Table{Header: []string{"TIME", "KIND", "SUBJECT", "DETAIL"}}
				for _, a := range all {
					t.Rows = append(t.Rows, []string{a.At.Format(time.RFC3339), string(a.Kind), a.Subject, a.Detail})
				}
				return t
			})
		})
	}
	return cmd
}
