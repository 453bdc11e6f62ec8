package settlement

import (
	"context"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// Wallet is one address whose proven history is followed. *ton.Account is one.
type Wallet interface {
	// Address is the raw address.
	Address() schemas.Owner
	// State proves balance and newest transaction as of the newest block. Answers never go back in time.
	State(ctx context.Context) (ton.State, error)
	// History returns up to limit transactions after the cursor, oldest first, hash-chained to a proven block.
	// Page.Complete says that the page reaches the newest transaction as of Page.At.
	History(ctx context.Context, after ton.Cursor, limit int) (ton.Page, error)
}

// Treasury is a wallet whose key we hold and that pays many owners with one signed message: the seam between payouts
// and the kind of wallet that makes them. *ton.Treasury, a highload wallet v3, is the first; the code here relies only
// on what these comments promise.
type Treasury interface {
	Wallet
	// Sign builds the message of a batch. The same batch always gives the same bytes, and these bytes take effect on
	// chain at most once however often they are sent.
	Sign(b ton.Batch) (ton.Signed, error)
	// Send hands signed bytes to the network. Neither an error nor its absence says anything about the outcome.
	Send(ctx context.Context, boc []byte) error
	// Expired reports whether a batch that is not in the history as of at can never run any more.
	Expired(createdAt time.Time, at ton.BlockTime) bool
}

// Journal keeps payout batches where a lost or restored ledger cannot lose them: the published statements. Numbers
// only grow.
type Journal interface {
	// Put stores a record under its number. It is durable when Put returns nil. The same record again succeeds; another
	// record under a used number is KindConflict. After any other error the record may or may not be stored.
	Put(ctx context.Context, number uint64, record []byte) error
	// After returns up to limit records with numbers above n, in order.
	After(ctx context.Context, n uint64, limit int) ([][]byte, error)
}
