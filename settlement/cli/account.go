package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ton"
	"github.com/cocoon-network/cocoon/streams/access"
)

// Account is the noun "account": the tenants who submit and pay.
func Account() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "Tenants' accounts: create, list, fund, statements",
		Long: `Accounts of tenants, who submit jobs and pay for them.

A tenant's money has two parts. The stake is locked: it bounds how much work may be in flight before it is booked.
The rest is the balance that jobs are charged to. Money that arrives fills a debt first, then the stake up to its
target, then the balance.`,
	}
	addLedgerFlag(cmd)
	cmd.AddCommand(accountCreate(), accountList(), accountShow(), accountFund(), accountStake(), accountStatement(), accountRefund(), accountDeposits(), accountAssign())
	return cmd
}

// account is a tenant with where it stands: what show, ls and create print.
type account struct {
	settlement.Tenant
	settlement.Balance
	// DepositTo is the address where deposits go, with Memo as their comment; empty before settlement has run with a chain.
	DepositTo string `json:"deposit_to,omitempty"`
	// Identity is the file with the tenant's secret, after create.
	Identity string `json:"identity,omitempty"`
	// Context is the file by which the tenant logs in to the message system, after create with a folder of keys.
	Context string `json:"nats_context,omitempty"`
}

// view is the account for people.
func (a account) view() [][2]string {
	rows := [][2]string{
		{"tenant", string(a.ID)},
		{"name", a.Name},
		{"deposit to", a.DepositTo},
		{"memo", a.Memo + "   (put this into the comment of a deposit)"},
		{"available", a.Available.String()},
		{"balance", a.Balance.Balance.String()},
		{"stake", a.Stake.String() + " of " + a.StakeTarget.String()},
		{"reserved", a.Reserved.String()},
		{"charged so far", a.Charged.String()},
		{"created", a.Created.Format(time.RFC3339)},
	}
	if a.Identity != "" {
		rows = append(rows, [2]string{"identity", a.Identity + "   (the tenant's secret: give it to the tenant, keep no copy)"})
	}
	if a.Context != "" {
		rows = append(rows, [2]string{"NATS_CONTEXT", a.Context + "   (give its folder to the tenant; the servers know it after a reload)"})
	}
	return rows
}

// standing reads an account.
func standing(ctx context.Context, l *settlement.Ledger, t settlement.Tenant) (account, error) {
	to, err := l.DepositAddress(ctx)
	if err != nil && !errors.Is(err, schemas.KindNotFound) {
		return account{}, err
	}
	b, err := l.Balance(ctx, t.ID)
	return account{Tenant: t, Balance: b, DepositTo: ton.Address{Owner: to}.Friendly()}, err
}

// accountCreate opens an account and writes the tenant's identity file.
func accountCreate() *cobra.Command {
	var identity, stake, keys string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Open an account: the tenant's id, keys, way in and deposit memo",
		Long: `Opens an account and makes what the tenant needs: an identity file with its id and keys, the memo by which its deposits
name it, and with --nats-keys its way into the message system: a folder with a key, a certificate and a pass that lets it
submit and read jobs of this tenant and nothing else. The servers know the tenant after they have reloaded the
configuration that 'cocoon topology conf --layout production --keys DIR' prints. Where all tenants share one NATS account,
as under 'cocoon up', no such folder is needed.

The same call again with the same identity file changes nothing and adds what was missing.`,
		Example: `  cocoon account create alice --nats-keys keys
  cocoon topology conf --layout production --keys keys > nats.conf`,
		Args: cobra.ExactArgs(1),
	}
	out := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&identity, "identity", "", "file for the tenant's identity (default NAME.tenant.json); an existing one is used")
	cmd.Flags().StringVar(&stake, "stake", "1", "stake target in TON")
	cmd.Flags().StringVar(&keys, "nats-keys", "", "folder that 'cocoon keys nats' made; the tenant gets a folder in it to log in with")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		target, err := parseAmount(stake)
		if err != nil {
			return err
		}
		if target == 0 {
			target = -1 // none, where 0 would mean the default
		}
		if identity == "" {
			identity = args[0] + ".tenant.json"
		}
		return withLedger(cmd, func(ctx context.Context, l *settlement.Ledger) error {
			tenant, err := loadIdentity(identity)
			if err != nil {
				return err
			}
			made, err := l.CreateTenant(ctx, settlement.Tenant{ID: tenant.ID(), Name: args[0], Key: tenant.Public(), StakeTarget: target})
			if err != nil {
				return err
			}
			a, err := standing(ctx, l, made)
			if err != nil {
				return err
			}
			a.Identity = identity
			if keys != "" {
				folder, err := access.OpenKeys(keys).AddTenant(made.ID)
				if err != nil {
					return err
				}
				a.Context = filepath.Join(folder, access.FileContext)
			}
			return cli.One(out, a, account.view)
		})
	}
	return cmd
}

// loadIdentity reads a tenant's identity file, or makes a tenant and writes it. The file is written before the account
// is opened: an account whose secret is lost would be money nobody can spend.
func loadIdentity(path string) (*enclave.Tenant, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		return enclave.ParseTenant(b)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	t, err := enclave.NewTenant()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(t.Marshal())
	return t, errors.Join(err, f.Sync(), f.Close())
}

// accountList lists all accounts.
func accountList() *cobra.Command {
	cmd := &cobra.Command{Use: "ls", Short: "List all accounts", Args: cobra.NoArgs}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withLedger(cmd, func(ctx context.Context, l *settlement.Ledger) error {
			tenants, err := l.Tenants(ctx)
			if err != nil {
				return err
			}
			all := make([]account, len(tenants))
			for i, t := range tenants {
				if all[i], err = standing(ctx, l, t); err != nil {
					return err
				}
			}
			return cli.List(out, all, func(all []account) cli.Table {
				t := cli.Table{Header: []string{"TENANT", "NAME", "AVAILABLE", "BALANCE", "STAKE", "CHARGED"}}
				for _, a := range all {
					t.Rows = append(t.Rows, []string{string(a.ID), a.Name, a.Available.String(), a.Balance.Balance.String(), a.Stake.String(), a.Charged.String()})
				}
				return t
			})
		})
	}
	return cmd
}

// onTenant makes a verb about one tenant that prints the account afterwards.
func onTenant(use, short string, args int, do func(context.Context, *settlement.Ledger, settlement.Tenant, []string) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(args)}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withLedger(cmd, func(ctx context.Context, l *settlement.Ledger) error {
			t, err := tenantArg(ctx, l, args[0])
			if err != nil {
				return err
			}
			if err := do(ctx, l, t, args[1:]); err != nil {
				return err
			}
			if t, err = l.Tenant(ctx, t.ID); err != nil {
				return err
			}
			a, err := standing(ctx, l, t)
			if err != nil {
				return err
			}
			return cli.One(out, a, account.view)
		})
	}
	return cmd
}

// accountShow prints one account.
func accountShow() *cobra.Command {
	return onTenant("show TENANT", "Show an account", 1, func(context.Context, *settlement.Ledger, settlement.Tenant, []string) error { return nil })
}

// accountFund credits money by hand.
func accountFund() *cobra.Command {
	var ref string
	cmd := onTenant("fund TENANT AMOUNT", "Credit money that came by another way than the chain (amount in TON)", 2,
		func(ctx context.Context, l *settlement.Ledger, t settlement.Tenant, args []string) error {
			amount, err := parseAmount(args[0])
			if err != nil {
				return err
			}
			if ref == "" {
				ref = "by hand " + rand.Text()
			}
			return l.Fund(ctx, t.ID, amount, ref)
		})
	cmd.Flags().StringVar(&ref, "ref", "", "reference of the payment: the same one again credits nothing")
	return cmd
}

// accountStake sets the stake target.
func accountStake() *cobra.Command {
	return onTenant("stake TENANT AMOUNT", "Set the stake target in TON and move as much as there is", 2,
		func(ctx context.Context, l *settlement.Ledger, t settlement.Tenant, args []string) error {
			amount, err := parseAmount(args[0])
			if err != nil {
				return err
			}
			return l.SetStake(ctx, t.ID, amount)
		})
}

// accountRefund pays money back.
func accountRefund() *cobra.Command {
	var ref string
	cmd := onTenant("refund TENANT AMOUNT ADDRESS", "Pay free balance back to an address, with the next payout batch", 3,
		func(ctx context.Context, l *settlement.Ledger, t settlement.Tenant, args []string) error {
			amount, err := parseAmount(args[0])
			if err != nil {
				return err
			}
			to, err := parseOwner(args[1])
			if err != nil {
				return err
			}
			if ref == "" {
				ref = "refund " + rand.Text()
			}
			return l.RefundTenant(ctx, ref, t.ID, to, amount)
		})
	cmd.Flags().StringVar(&ref, "ref", "", "reference: the same one again pays nothing")
	return cmd
}

// accountStatement lists what happened to an account.
func accountStatement() *cobra.Command {
	var after int64
	var limit int
	var stake bool
	cmd := &cobra.Command{Use: "statement TENANT|OWNER", Short: "List what happened to a tenant's or worker owner's account", Args: cobra.ExactArgs(1)}
	out := cli.OutputFlags(cmd)
	cmd.Flags().Int64Var(&after, "after", 0, "only entries after this one")
	cmd.Flags().IntVar(&limit, "limit", 1000, "at most this many lines")
	cmd.Flags().BoolVar(&stake, "stake", false, "the tenant's stake instead of its balance")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withLedger(cmd, func(ctx context.Context, l *settlement.Ledger) error {
			name, err := accountName(ctx, l, args[0], stake)
			if err != nil {
				return err
			}
			moves, err := l.Movements(ctx, name, after, limit)
			if err != nil {
				return err
			}
			return cli.List(out, moves, movementTable)
		})
	}
	return cmd
}

// accountName finds the account that an argument means: an address is an owner's, everything else a tenant's.
func accountName(ctx context.Context, l *settlement.Ledger, arg string, stake bool) (string, error) {
	if owner, err := parseOwner(arg); err == nil {
		return settlement.OwnerAccount(owner), nil
	}
	t, err := tenantArg(ctx, l, arg)
	if err != nil {
		return "", err
	}
	if stake {
		return settlement.StakeAccount(t.ID), nil
	}
	return settlement.TenantAccount(t.ID), nil
}

// movementTable is the view of an account's history.
func movementTable(moves []settlement.Movement) cli.Table {
	t := cli.Table{Header: []string{"ENTRY", "TIME", "KIND", "AMOUNT", "TOKENS", "REF"}}
	for _, m := range moves {
		tokens := ""
		if m.Usage != nil {
			tokens = number(m.Usage.Total())
		}
		t.Rows = append(t.Rows, []string{number(m.Entry), m.At.Format(time.RFC3339), m.Kind, m.Amount.String(), tokens, m.Ref})
	}
	return t
}

// accountDeposits lists arrivals of money.
func accountDeposits() *cobra.Command {
	var suspense bool
	var limit int
	cmd := &cobra.Command{Use: "deposits", Short: "List deposits; those without a known memo wait in suspense", Args: cobra.NoArgs}
	out := cli.OutputFlags(cmd)
	cmd.Flags().BoolVar(&suspense, "suspense", false, "only those that wait for a decision")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most this many, the newest first")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withLedger(cmd, func(ctx context.Context, l *settlement.Ledger) error {
			all, err := l.Deposits(ctx, suspense, limit)
			if err != nil {
				return err
			}
			return cli.List(out, all, func(all []settlement.DepositRow) cli.Table {
				t := cli.Table{Header: []string{"TIME", "AMOUNT", "TENANT", "MEMO", "FROM", "TRANSACTION"}}
				for _, d := range all {
					t.Rows = append(t.Rows, []string{d.At.Format(time.RFC3339), d.Amount.String(), string(d.Tenant), d.Memo, string(d.From), d.Hash})
				}
				return t
			})
		})
	}
	return cmd
}

// accountAssign decides about a deposit in suspense.
func accountAssign() *cobra.Command {
	var back, keep bool
	cmd := &cobra.Command{
		Use: "assign TRANSACTION [TENANT]", Short: "Give a deposit in suspense to a tenant, or back to its sender, or keep it", Args: cobra.RangeArgs(1, 2),
		Long: `Decides about a deposit whose comment names no tenant: it goes to a tenant, with --refund back to its sender, or with
--keep to the operator, who topped the treasury up and forgot the comment "` + settlement.TopUpMemo + `".`,
	}
	cmd.Flags().BoolVar(&back, "refund", false, "send it back with the next payout batch")
	cmd.Flags().BoolVar(&keep, "keep", false, "book it as the operator's own money")
	cmd.MarkFlagsMutuallyExclusive("refund", "keep")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (back || keep) == (len(args) == 2) {
			return cli.Usagef("name a tenant, or set --refund or --keep")
		}
		return withLedger(cmd, func(ctx context.Context, l *settlement.Ledger) error {
			if back {
				return l.RefundDeposit(ctx, args[0])
			}
			if keep {
				return l.KeepDeposit(ctx, args[0])
			}
			t, err := tenantArg(ctx, l, args[1])
			if err != nil {
				return err
			}
			return l.AssignDeposit(ctx, args[0], t.ID)
		})
	}
	return cmd
}
