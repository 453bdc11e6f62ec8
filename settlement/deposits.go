package settlement

import (
	"context"
	"log/slog"
	"time"
)

// DepositsConfig configures Deposits.
type DepositsConfig struct {
	Ledger *Ledger
	// Wallet is where tenants send money. It must not be the treasury.
	Wallet Wallet
	// Poll is the pause between looks at the chain; 0 means 5 s.
	Poll   time.Duration
	Logger *slog.Logger
}

// Deposits credits what arrives at the deposit wallet.
type Deposits struct{}

// NewDeposits checks the configuration.
func NewDeposits(cfg DepositsConfig) (*Deposits, error) { panic("skeleton") }

// Run follows the wallet until ctx ends; while the chain is away it waits.
func (d *Deposits) Run(ctx context.Context) error { panic("skeleton") }

// Tick books everything that has arrived by now and returns how many deposits that were.
func (d *Deposits) Tick(ctx context.Context) (int, error) { panic("skeleton") }
