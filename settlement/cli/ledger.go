package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// section is the part of the configuration that settlement reads.
const section = "settle"

// ledgerFlag names the flag with the ledger's address.
const ledgerFlag = "ledger"

// addLedgerFlag adds --ledger to a noun and its verbs.
func addLedgerFlag(cmd *cobra.Command) {
	cmd.PersistentFlags().String(ledgerFlag, "", "SQLite file or postgres:// address of the ledger (default: that of \"cocoon up\")")
}

// withLedger opens the ledger that the command names, and closes it after fn.
func withLedger(cmd *cobra.Command, fn func(context.Context, *settlement.Ledger) error) error {
	cfg := DefaultConfig()
	if err := cli.Load(cmd, section, &cfg); err != nil {
		return err
	}
	l, err := openLedger(cmd.Context(), cfg.Ledger)
	if err != nil {
		return err
	}
	defer l.Close()
	return fn(cmd.Context(), l)
}

// openLedger opens an existing ledger: a verb with a mistyped path must not make an empty one.
func openLedger(ctx context.Context, dsn string) (*settlement.Ledger, error) {
	if settlement.IsFile(dsn) {
		path := settlement.FilePath(dsn)
		if _, err := os.Stat(path); err != nil {
			return nil, schemas.Errorf(schemas.KindNotFound, "there is no ledger at %s: start `cocoon up` or `cocoon settle` first, or name it with --ledger", path)
		}
	}
	return settlement.OpenLedger(ctx, dsn, settlement.LedgerOptions{})
}

// defaultLedger is where `cocoon up` keeps its ledger.
func defaultLedger() string {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "cocoon", "ledger.db")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), fmt.Sprintf("cocoon-%d", os.Getuid()), "ledger.db")
	}
	return filepath.Join(home, ".local", "share", "cocoon", "ledger.db")
}

// parseOwner reads an address in raw or user-friendly form.
func parseOwner(s string) (schemas.Owner, error) {
	a, err := ton.ParseAddress(s)
	if err != nil {
		return "", &cli.UsageError{Err: err}
	}
	return a.Owner, nil
}

// parseAmount reads an amount of TON.
func parseAmount(s string) (schemas.NanoTON, error) {
	n, err := schemas.ParseTON(s)
	if err != nil {
		return 0, &cli.UsageError{Err: err}
	}
	return n, nil
}

// tenantArg finds a tenant by id, or by the operator's name when that is unambiguous.
func tenantArg(ctx context.Context, l *settlement.Ledger, arg string) (settlement.Tenant, error) {
	if id, err := schemas.ParseTenantID(arg); err == nil {
		return l.Tenant(ctx, id)
	}
	all, err := l.Tenants(ctx)
	if err != nil {
		return settlement.Tenant{}, err
	}
	var found []settlement.Tenant
	for _, t := range all {
		if t.Name == arg {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return settlement.Tenant{}, schemas.Errorf(schemas.KindNotFound, "there is no tenant %q", arg)
	}
	return settlement.Tenant{}, schemas.Errorf(schemas.KindConflict, "%d tenants are called %q; use the id", len(found), arg)
}
