package settlement

import (
	"context"
	"crypto/ed25519"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// DefaultStake is the stake that a new tenant's deposits fill first.
const DefaultStake = schemas.TON

// Tenant is an account that submits and pays.
type Tenant struct {
	// ID is the id on the wire.
	ID schemas.TenantID `json:"tenant"`
	// Name is the operator's own label; it never leaves the ledger.
	Name string `json:"name,omitempty"`
	// Key is the tenant's Ed25519 public key; brokers verify spend authorisations with it.
	Key ed25519.PublicKey `json:"key"`
	// Memo is the text by which deposits name the tenant. It is random, so that the chain does not show wire ids.
	Memo string `json:"memo"`
	// StakeTarget is how much of the tenant's money is kept locked against overdraft. It also is the window of work
	// that may be in flight unbooked. In CreateTenant 0 means DefaultStake and a negative value none.
	StakeTarget schemas.NanoTON `json:"stake_target"`
	// Created is when the account was made.
	Created time.Time `json:"created"`
}

// Balance is where a tenant stands.
type Balance struct {
	// Available = min(Paid, Stake + Charged) − Reserved − Charged, never below 0: what may be granted now.
	Available schemas.NanoTON `json:"available"`
	// Balance is the money that is not stake; negative while the tenant is overdrawn beyond its stake.
	Balance schemas.NanoTON `json:"balance"`
	// Stake is the locked part.
	Stake schemas.NanoTON `json:"stake"`
	// Reserved is the sum of the unexpired holds.
	Reserved schemas.NanoTON `json:"reserved"`
	// Paid is all that the tenant ever paid in, less the stake and what was paid back.
	Paid schemas.NanoTON `json:"paid"`
	// Charged is all that was ever booked for its jobs.
	Charged schemas.NanoTON `json:"charged"`
}

// CreateTenant opens an account. ID and Key are required, an empty Memo is chosen at random. The same tenant again is
// answered with what exists; another key under the same id is KindConflict.
func (l *Ledger) CreateTenant(ctx context.Context, t Tenant) (Tenant, error) { panic("skeleton") }

// Tenant finds an account by id; KindNotFound when there is none.
func (l *Ledger) Tenant(ctx context.Context, id schemas.TenantID) (Tenant, error) { panic("skeleton") }

// Tenants lists all accounts, oldest first.
func (l *Ledger) Tenants(ctx context.Context) ([]Tenant, error) { panic("skeleton") }

// Balance computes where a tenant stands.
func (l *Ledger) Balance(ctx context.Context, id schemas.TenantID) (Balance, error) {
	panic("skeleton")
}

// Fund credits money that reached the operator by another way than the deposit wallet. ref names the payment: the same
// ref again does nothing, with another amount or tenant it is KindConflict.
func (l *Ledger) Fund(ctx context.Context, id schemas.TenantID, amount schemas.NanoTON, ref string) error {
	panic("skeleton")
}

// SetStake changes the stake target and moves as much as there is, in either direction.
func (l *Ledger) SetStake(ctx context.Context, id schemas.TenantID, target schemas.NanoTON) error {
	panic("skeleton")
}
