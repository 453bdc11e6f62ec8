package settlement

import (
	"context"

	"github.com/cocoon-network/cocoon/schemas"
)

// ReconcileConfig names the sources of truth; what is nil is left out of the comparison.
type ReconcileConfig struct {
	Ledger   *Ledger
	Treasury Wallet
	Deposits Wallet
	// Intake supplies feed, keys and prices; receipts are verified and priced again from what the stream still holds.
	Intake *IntakeConfig
}

// Difference is one thing on which ledger and truth disagree.
type Difference struct {
	// Kind is a stable word such as "missing_receipt", "unpaid_item", "unknown_payment".
	Kind string `json:"kind"`
	// Subject is the job, batch item, address or transaction.
	Subject string `json:"subject"`
	// Ledger and Truth are the two sides, empty when a side does not know it.
	Ledger string `json:"ledger"`
	Truth  string `json:"truth"`
}

// Report is the result of Reconcile.
type Report struct {
	Differences  []Difference    `json:"differences"`
	Receipts     uint64          `json:"receipts"`
	Payouts      uint64          `json:"payouts"`
	Deposits     uint64          `json:"deposits"`
	ChainBalance schemas.NanoTON `json:"chain_balance"`
}

// Reconcile compares the ledger with chain and streams. It changes nothing.
func Reconcile(ctx context.Context, cfg ReconcileConfig) (*Report, error) { panic("skeleton") }
