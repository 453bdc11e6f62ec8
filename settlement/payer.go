package settlement

import (
	"context"
	"log/slog"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// PayerConfig configures a Payer. Amounts and times are policy; correctness does not depend on them.
type PayerConfig struct {
	Ledger   *Ledger
	Treasury Treasury
	// Journal receives every batch before it is sent; nil keeps none, and then a restored ledger cannot recover by
	// itself: it stops payouts when it sees payments it does not know.
	Journal Journal
	// Threshold pays an owner who has earned that much; 0 means 0.1 TON, where the chain takes 1 %. An owner's own
	// minimum counts instead when it is higher.
	Threshold schemas.NanoTON
	// MaxAge pays an owner whose oldest unpaid earning is that old although the threshold is not reached; 0 means 24 h,
	// negative never.
	MaxAge time.Duration
	// Least is the smallest amount that MaxAge pays; 0 means 0.02 TON, where the chain takes 5 %.
	Least schemas.NanoTON
	// Floor is kept in the wallet for its own storage; 0 means 1 TON.
	Floor schemas.NanoTON
	// BatchSize is the most transfers of a batch; 0 means ton.MaxTransfers.
	BatchSize int
	// MaxOpen is the most batches in flight; 0 means 64.
	MaxOpen int
	// Grace is added to the time after which an unseen batch is dead; 0 means 1 min, negative none.
	Grace time.Duration
	// Poll is the pause between ticks; 0 means 5 s.
	Poll time.Duration
	// OnAlert is told about everything that needs a person; it must not block. nil only logs.
	OnAlert func(Alert)
	Logger  *slog.Logger
}

// Payer pays.
type Payer struct{}

// NewPayer checks the configuration.
func NewPayer(cfg PayerConfig) (*Payer, error) { panic("skeleton") }

// Run pays until ctx ends; while the chain is away, payouts wait and nothing else does.
func (p *Payer) Run(ctx context.Context) error { panic("skeleton") }

// Tick makes one round: follow the chain, judge, make batches, send. force pays every positive balance of at least
// one nanoTON, whatever the thresholds say.
func (p *Payer) Tick(ctx context.Context, force bool) error { panic("skeleton") }
