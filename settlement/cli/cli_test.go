package cli_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	shared "github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/cli"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"

	"github.com/cocoon-network/cocoon/schemas"
)

// shell runs the verbs on a ledger of its own.
type shell struct {
	t    *testing.T
	path string
	dir  string
}

// newShell makes an empty ledger.
func newShell(t *testing.T) *shell {
	t.Helper()
	s := &shell{t: t, dir: t.TempDir()}
	s.path = filepath.Join(s.dir, "ledger.db")
	s.with(func(*settlement.Ledger) {})
	return s
}

// with opens the ledger beside the verbs.
func (s *shell) with(fn func(*settlement.Ledger)) {
	s.t.Helper()
	l, err := settlement.OpenLedger(s.t.Context(), s.path, settlement.LedgerOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer l.Close()
	fn(l)
}

// run executes one command line; the output and the error come back.
func (s *shell) run(args ...string) (string, error) {
	root := &cobra.Command{Use: "cocoon", SilenceUsage: true, SilenceErrors: true}
	root.PersistentFlags().String(shared.ConfigFlag, "", "")
	root.AddCommand(cli.Account(), cli.Payouts(), cli.Settle(), cli.Reconcile(), cli.Receipt())
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	if args[0] != "receipt" {
		args = append(args, "--ledger", s.path)
	}
	root.SetArgs(args)
	err := root.ExecuteContext(context.WithoutCancel(s.t.Context()))
	return out.String(), err
}

// ok runs a command line that must succeed, and reads JSON into v when v is not nil.
func (s *shell) ok(v any, args ...string) string {
	s.t.Helper()
	if v != nil {
		args = append(args, "--json")
	}
	out, err := s.run(args...)
	if err != nil {
		s.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(out), v); err != nil {
			s.t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return out
}

// code checks the exit code of a command line.
func (s *shell) code(want int, args ...string) {
	s.t.Helper()
	out, err := s.run(args...)
	if got := shared.ExitCode(err); got != want {
		s.t.Errorf("%v: exit code %d (%v), want %d\n%s", args, got, err, want, out)
	}
}

// shown is what the tests read of an account.
type shown struct {
	Tenant    schemas.TenantID `json:"tenant"`
	Name      string           `json:"name"`
	Memo      string           `json:"memo"`
	Available schemas.NanoTON  `json:"available"`
	Balance   schemas.NanoTON  `json:"balance"`
	Stake     schemas.NanoTON  `json:"stake"`
	Identity  string           `json:"identity"`
}

func TestAccountVerbs(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	identity := filepath.Join(s.dir, "alice.json")
	var made, again, funded shown
	s.ok(&made, "account", "create", "alice", "--identity", identity, "--stake", "2")
	s.ok(&again, "account", "create", "alice", "--identity", identity)
	if made.Tenant == "" || made != again || made.Identity != identity {
		t.Errorf("made %+v, then %+v", made, again)
	}
	if info, err := os.Stat(identity); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("identity file: %v %v", info, err)
	}
	for range 2 {
		s.ok(&funded, "account", "fund", "alice", "5", "--ref", "invoice 1")
	}
	if funded.Stake != 2*schemas.TON || funded.Balance != 3*schemas.TON || funded.Available != 2*schemas.TON {
		t.Errorf("funded %+v", funded)
	}
	s.ok(&funded, "account", "stake", string(made.Tenant), "0.5")
	if funded.Stake != schemas.TON/2 {
		t.Errorf("stake %+v", funded)
	}
	var all []shown
	if s.ok(&all, "account", "ls"); len(all) != 1 || all[0].Name != "alice" {
		t.Errorf("accounts %+v", all)
	}
	var moves []settlement.Movement
	if s.ok(&moves, "account", "statement", "alice"); len(moves) != 2 || moves[0].Kind != "fund" {
		t.Errorf("statement %+v", moves)
	}
	if table := s.ok(nil, "account", "show", "alice"); !strings.Contains(table, made.Memo) {
		t.Errorf("the table does not show the memo:\n%s", table)
	}
	s.code(shared.ExitNotFound, "account", "show", "nobody")
	s.code(shared.ExitUsage, "account", "fund", "alice", "1.2.3")
	s.code(shared.ExitUsage, "account", "refund", "alice", "1", "not an address")
	s.code(shared.ExitError, "account", "refund", "alice", "1000", string(ledgertest.Owner(3)))
	s.ok(nil, "account", "refund", "alice", "1", string(ledgertest.Owner(3)))
	s.code(shared.ExitNotFound, "account", "assign", "abc", "alice")
	s.code(shared.ExitUsage, "account", "assign", "abc")
	s.code(shared.ExitNotFound, "account", "assign", "abc", "--keep")
	s.code(shared.ExitUsage, "account", "assign", "abc", "alice", "--keep")
	s.ok(nil, "account", "deposits", "--suspense")
}

func TestNoLedgerIsMadeByLooking(t *testing.T) {
	t.Parallel()
	s := &shell{t: t, dir: t.TempDir()}
	s.path = filepath.Join(s.dir, "typo.db")
	s.code(shared.ExitNotFound, "account", "ls")
	if _, err := os.Stat(s.path); !errors.Is(err, os.ErrNotExist) {
		t.Error("a ledger was made")
	}
}

func TestPayoutVerbs(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.code(shared.ExitNotFound, "payouts", "pause") // no treasury yet
	s.code(shared.ExitNotFound, "payouts", "run")
	s.code(shared.ExitUsage, "payouts", "show", "first")
	s.code(shared.ExitNotFound, "payouts", "show", "1")
	owner := string(ledgertest.Owner(5))
	s.ok(nil, "payouts", "minimum", owner, "0.25")
	var payees []settlement.Payee
	if s.ok(&payees, "payouts", "owners"); len(payees) != 1 || payees[0].Minimum != schemas.TON/4 {
		t.Errorf("owners %+v", payees)
	}
	s.ok(nil, "payouts", "clear", owner)
	s.code(shared.ExitNotFound, "payouts", "clear", string(ledgertest.Owner(6)))
	s.code(shared.ExitError, "payouts", "fees", "1", owner)
	var state settlement.PayoutState
	s.ok(&state, "payouts", "status")
	var batches []settlement.PayoutBatch
	if out := s.ok(&batches, "payouts", "ls"); strings.TrimSpace(out) != "[]" {
		t.Errorf("no batches: %q", out)
	}
	s.ok(nil, "payouts", "alerts")
	s.code(shared.ExitNotFound, "payouts", "proof", string(schemas.NewJobID()))
	s.code(shared.ExitUsage, "payouts", "proof", "job-1")
}

func TestReconcileVerb(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	if out := s.ok(nil, "reconcile"); !strings.Contains(out, "0 differences") {
		t.Errorf("reconcile: %s", out)
	}
}

func TestSettleVerbRefusesBadInput(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.code(shared.ExitUsage, "settle")
	trust := filepath.Join(s.dir, "trust.json")
	roots, err := schemas.NewRootKeys(1, ledgertest.Key("root").Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	text, err := schemas.EncodeJSON(schemas.Trust{Roots: roots, Environment: schemas.Production})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(trust, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.code(shared.ExitUsage, "settle", "--trust", trust, "--threshold", "lots")
	s.code(shared.ExitUsage, "settle", "--trust", trust, "--simulated", s.dir)
	config := filepath.Join(s.dir, "config.yaml")
	if err := os.WriteFile(config, []byte("settle:\n  treshold: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.code(shared.ExitUsage, "settle", "--config", config)
}
