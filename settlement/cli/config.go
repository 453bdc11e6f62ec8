package cli

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// Config is the section "settle" of the configuration.
type Config struct {
	// Ledger is the path of a SQLite file or a postgres:// address. Default: ledger.db in the user's data folder.
	Ledger string `koanf:"ledger"`
	// Trust is the path of the network's trust file: root keys and environment. Required to settle.
	Trust string `koanf:"trust"`
	// Simulated is the folder of the simulated hardware that a simulated network runs on; empty takes the collateral from
	// the network's store, and for real hardware from Intel.
	Simulated string `koanf:"simulated"`
	// NATS and Creds say how to reach the bus; empty values come from NATS_URL, NATS_CREDS and NATS_CONTEXT.
	NATS  string `koanf:"nats"`
	Creds string `koanf:"creds"`
	// Brokers is the number of broker replicas that share a tenant's credit window. Default 1.
	Brokers int `koanf:"brokers"`
	// Chain is the path of the TON network's global config. Empty: receipts are booked, nothing is paid.
	Chain string `koanf:"chain"`
	// TreasuryKey is the path of a file with the treasury's seed: 64 hex digits.
	TreasuryKey string `koanf:"treasury_key"`
	// Timeout is how long a signed batch can be accepted; part of the treasury's address. Default 1 h.
	Timeout time.Duration `koanf:"timeout"`
	// Deposits is the address where tenants pay; empty: the treasury.
	Deposits string `koanf:"deposits"`
	// Threshold, MaxAge, Least and Floor are those of settlement.PayerConfig; amounts in TON. Empty: its defaults.
	Threshold string        `koanf:"threshold"`
	MaxAge    time.Duration `koanf:"max_age"`
	Least     string        `koanf:"least"`
	Floor     string        `koanf:"floor"`
	// Poll is the pause between looks at the chain. Default 5 s.
	Poll time.Duration `koanf:"poll"`
	// Metrics is the address of /metrics, /healthz and /readyz; empty: none.
	Metrics string `koanf:"metrics"`
	// AcceptGap goes on although outcomes have left the stream before they were booked, NewStream although the stream was
	// made anew. Both are noted as alerts. They hold for one start and belong on the command line.
	AcceptGap bool `koanf:"accept_gap"`
	NewStream bool `koanf:"new_stream"`
}

// DefaultConfig is the configuration without a file, environment or flags.
func DefaultConfig() Config { return Config{Ledger: defaultLedger()} }

// payer turns the policy into the payer's.
func (c Config) payer() (p settlement.PayerConfig, err error) {
	p.MaxAge = c.MaxAge
	for _, f := range []struct {
		name, text string
		into       *schemas.NanoTON
	}{{"threshold", c.Threshold, &p.Threshold}, {"least", c.Least, &p.Least}, {"floor", c.Floor, &p.Floor}} {
		if f.text == "" {
			continue
		}
		if *f.into, err = schemas.ParseTON(f.text); err != nil {
			return p, cli.Usagef("%s.%s: %w", section, f.name, err)
		}
	}
	return p, nil
}

// wallets is the connection to a chain with the wallets that the configuration names.
type wallets struct {
	chain    *ton.Chain
	treasury *ton.Treasury // nil without a key
	deposits *ton.Account  // nil without an address
}

// connect joins the chain; nil when none is configured.
func (c Config) connect(ctx context.Context, log *slog.Logger) (w *wallets, err error) {
	if c.Chain == "" {
		return nil, nil
	}
	global, err := os.ReadFile(c.Chain)
	if err != nil {
		return nil, err
	}
	w = &wallets{}
	if w.chain, err = ton.Connect(ctx, ton.Config{GlobalConfig: global, Logger: log}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.chain.Close()
		}
	}()
	if c.TreasuryKey != "" {
		key, err := readKey(c.TreasuryKey)
		if err != nil {
			return nil, err
		}
		if w.treasury, err = w.chain.Treasury(key, ton.TreasuryOptions{Timeout: c.Timeout}); err != nil {
			return nil, err
		}
	}
	if c.Deposits != "" {
		owner, err := parseOwner(c.Deposits)
		if err != nil {
			return nil, err
		}
		if w.deposits, err = w.chain.Account(owner); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// close ends the connection.
func (w *wallets) close() {
	if w != nil {
		w.chain.Close()
	}
}

// payers gives the wallets as the interfaces that settlement takes, nil where there is none.
func (w *wallets) payers() (treasury settlement.Treasury, deposits settlement.Wallet) {
	if w == nil {
		return nil, nil
	}
	if w.treasury != nil {
		treasury = w.treasury
	}
	if w.deposits != nil {
		deposits = w.deposits
	}
	return treasury, deposits
}

// readKey reads a seed of 64 hex digits. A file that others can read is refused: it is the money.
func readKey(path string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, schemas.Errorf(schemas.KindDenied, "%s can be read by others: chmod 600 it", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New(path + " must hold a seed of 64 hex digits")
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
