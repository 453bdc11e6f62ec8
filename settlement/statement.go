package settlement

import (
	"context"

	"github.com/cocoon-network/cocoon/schemas"
)

// Statement says what one payout batch pays and for what. Its root stands on chain in the batch's note.
type Statement struct {
	// V is the version of the form, 1.
	V int `json:"v"`
	// Batch is the batch's number.
	Batch uint64 `json:"batch"`
	// Wallet is the treasury that pays.
	Wallet schemas.Owner `json:"wallet"`
	// Items are in the order of the transfers.
	Items []StatementItem `json:"items"`
	// Root is the Merkle root over the items.
	Root schemas.Hash `json:"root"`
}

// StatementItem is one transfer of a batch.
type StatementItem struct {
	To     schemas.Owner   `json:"to"`
	Amount schemas.NanoTON `json:"amount"`
	// Purpose is "earnings", "refund" or "fee".
	Purpose string `json:"purpose"`
	// Earned is the sum of the receipts covered; Carried what was owed for other reasons, such as an earlier payout that
	// came back. Amount = Earned + Carried.
	Earned  schemas.NanoTON `json:"earned"`
	Carried schemas.NanoTON `json:"carried"`
	// Receipts is how many receipts are covered and Root their Merkle root, zero when there are none.
	Receipts uint64       `json:"receipts"`
	Root     schemas.Hash `json:"root"`
}

// Proof shows that one receipt is covered by one item of a payout batch.
type Proof struct {
	V         int             `json:"v"`
	Batch     uint64          `json:"batch"`
	Wallet    schemas.Owner   `json:"wallet"`
	Item      StatementItem   `json:"item"`
	ItemIndex uint64          `json:"item_index"`
	Items     uint64          `json:"items"`
	ItemPath  []schemas.Hash  `json:"item_path"`
	Receipt   schemas.Hash    `json:"receipt"`
	Amount    schemas.NanoTON `json:"amount"`
	Index     uint64          `json:"index"`
	Path      []schemas.Hash  `json:"path"`
}

// PayoutStatement returns the statement of a batch; KindNotFound when there is none.
func (l *Ledger) PayoutStatement(ctx context.Context, batch uint64) (*Statement, error) {
	panic("skeleton")
}

// Proof finds the newest batch that covers a job's receipt. KindNotFound: never booked; KindUnavailable: not paid yet.
func (l *Ledger) Proof(ctx context.Context, job schemas.JobID) (*Proof, error) { panic("skeleton") }

// Verify checks the proof against the receipt, a compact JWS, and returns the root that must stand on chain.
func (p *Proof) Verify(receipt string) (schemas.Hash, error) { panic("skeleton") }

// Payment is where the chain shows a batch's statement root and a transfer.
type Payment struct {
	Transaction string          `json:"transaction"`
	Amount      schemas.NanoTON `json:"amount"`
	To          schemas.Owner   `json:"to"`
}

// FindPayment looks through the proven history of the treasury for the batch that carries the proof's root and for
// the transfer of its item. KindNotFound when the chain does not show it.
func FindPayment(ctx context.Context, treasury Wallet, p *Proof) (Payment, error) { panic("skeleton") }
