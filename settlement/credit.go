package settlement

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// CreditEntry is what brokers know of a tenant, published as JSON under the tenant's id.
type CreditEntry struct {
	// V is the version of the form, 1.
	V int `json:"v"`
	// Available is what one broker may have granted at any time beyond what is booked through Through.
	Available schemas.NanoTON `json:"available"`
	// Key is the tenant's Ed25519 public key.
	Key ed25519.PublicKey `json:"key"`
	// Updated is when the figure was computed, UTC, whole seconds.
	Updated time.Time `json:"updated"`
	// Through is the position of the outcome stream up to which everything is booked in Available.
	Through uint64 `json:"through"`
}

// CreditStore is the bucket that brokers read. The last Put of a tenant wins.
type CreditStore interface {
	Put(ctx context.Context, tenant schemas.TenantID, value []byte) error
}

// CreditConfig configures a CreditPublisher.
type CreditConfig struct {
	Ledger *Ledger
	Store  CreditStore
	// Brokers is the number of broker replicas that share a tenant's window; 0 means 1.
	Brokers int
	// Delay is the least time between two looks at the ledger; 0 means 200 ms.
	Delay time.Duration
	// Refresh is how often unchanged entries are published again; 0 means 1 min.
	Refresh time.Duration
	Logger  *slog.Logger
}

// CreditPublisher keeps the brokers' view of the tenants' credit.
type CreditPublisher struct{}

// NewCreditPublisher checks the configuration.
func NewCreditPublisher(cfg CreditConfig) (*CreditPublisher, error) { panic("skeleton") }

// Run publishes until ctx ends.
func (p *CreditPublisher) Run(ctx context.Context) error { panic("skeleton") }
