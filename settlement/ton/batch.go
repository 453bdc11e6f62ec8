package ton

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/schemas"
)

// Transfer is one payment of a batch.
type Transfer struct {
	To schemas.Owner
	// Amount is what the receiver gets; the fees are paid on top.
	Amount schemas.NanoTON
	// Comment is at most MaxComment bytes of UTF-8.
	Comment string
	// Bounce asks the receiver's contract to send back what it refuses. Leave it off for wallets that may not exist yet.
	Bounce bool
}

// Batch is a set of payments that one signed message asks for. All of it is input to the signature: keep it unchanged.
type Batch struct {
	// QueryID must not have been used with this wallet within twice its timeout.
	QueryID QueryID
	// CreatedAt is the start of the batch's life in chain time, whole seconds. The wallet refuses times ahead of its
	// block's: use CreatedAt of a proven BlockTime.
	CreatedAt time.Time
	// Deploy sends the wallet's code along, for its first batch.
	Deploy bool
	// Note is written on chain once for the whole batch, at most MaxNote bytes; nil for none.
	Note []byte
	// Transfers are 1 to MaxTransfers payments to distinct addresses.
	Transfers []Transfer
}

// Signed is a batch ready to be sent.
type Signed struct {
	// BoC is the external message, to be stored and sent byte for byte.
	BoC []byte
	// Body is the hash by which Accepted names the batch.
	Body Hash
}

// Limits of batches.
const (
	// MaxTransfers leaves room below the contract's 254 actions for the note.
	MaxTransfers = 250
	// MaxComment lets a comment lie in one cell.
	MaxComment = 120
	// MaxNote lets a note lie in one cell.
	MaxNote = 96
	// MaxAmount bounds one transfer and the sum of a batch: far above all the TON there is, and safe to add up.
	MaxAmount = 100_000_000_000 * schemas.NanoTON(1_000_000) // 100 million TON
)

// check refuses batches that could not be signed, could never run, or whose outcome could not be told.
func (b Batch) check(self schemas.Owner) error {
	switch {
	case !b.QueryID.Valid():
		return schemas.FieldError("query_id", "is one that the wallet refuses for ever")
	case b.CreatedAt.Unix() <= 0 || b.CreatedAt.Nanosecond() != 0:
		return schemas.FieldError("created_at", "must be a time in whole seconds")
	case len(b.Note) > MaxNote:
		return tooLarge("note", "has %d bytes, at most %d", len(b.Note), MaxNote)
	case len(b.Transfers) > MaxTransfers:
		return tooLarge("transfers", "has %d transfers, at most %d", len(b.Transfers), MaxTransfers)
	case len(b.Transfers) == 0:
		return schemas.FieldError("transfers", "is empty")
	}
	seen := make(map[schemas.Owner]bool, len(b.Transfers))
	var sum schemas.NanoTON
	for i, t := range b.Transfers {
		if err := t.check(fmt.Sprintf("transfers[%d]", i), self, seen); err != nil {
			return err
		}
		seen[t.To] = true
		sum += t.Amount
	}
	if sum > MaxAmount {
		return tooLarge("transfers", "add up to %s, at most %s", sum, MaxAmount)
	}
	return nil
}

// check refuses one transfer.
func (t Transfer) check(field string, self schemas.Owner, seen map[schemas.Owner]bool) error {
	if _, err := schemas.ParseOwner(string(t.To)); err != nil {
		return schemas.FieldError(field+".to", "is not a raw address")
	}
	switch {
	case t.To == self:
		return schemas.FieldError(field+".to", "is the wallet itself")
	case seen[t.To]:
		return schemas.FieldError(field+".to", "has a transfer already; two to one address cannot be told apart")
	case t.Amount <= 0:
		return schemas.FieldError(field+".amount", "must be above 0")
	case t.Amount > MaxAmount:
		return tooLarge(field+".amount", "is %s, at most %s", t.Amount, MaxAmount)
	case len(t.Comment) > MaxComment:
		return tooLarge(field+".comment", "has %d bytes, at most %d", len(t.Comment), MaxComment)
	case !utf8.ValidString(t.Comment):
		return schemas.FieldError(field+".comment", "is not UTF-8")
	}
	return nil
}

// tooLarge is a refusal of a field above its limit.
func tooLarge(field, format string, args ...any) error {
	return &schemas.Error{Kind: schemas.KindTooLarge, Field: field, Message: fmt.Sprintf(format, args...)}
}

// Fees by mainnet's prices of 2026, in nanoTON. Each is an upper bound for the longest comments; tests measure them.
const (
	// sendFee is what one transfer costs when the wallet carries the batch out.
	sendFee = 900_000
	// carryFee is what one transfer adds to the message that the wallet gets and to the one it sends itself.
	carryFee = 1_700_000
	// baseFee is what a batch costs beside its transfers, the wallet's first included.
	baseFee = 10_000_000
)

// sum is what the transfers pay.
func (b Batch) sum() (total schemas.NanoTON) {
	for _, t := range b.Transfers {
		total += t.Amount
	}
	return total
}

// attached is what the wallet sends itself along with the batch: enough to carry all of it out. If the wallet has less,
// it drops the message, so that a batch is paid as a whole or not at all unless the balance changes in between. What is
// left over stays in the wallet.
func (b Batch) attached() schemas.NanoTON {
	return b.sum() + schemas.NanoTON(len(b.Transfers))*sendFee + baseFee
}

// Cost is the balance that the wallet needs before it accepts the batch: what it pays, and at least all fees. Below it
// the wallet may use up the query id and pay nobody. For batches in flight at once the costs add up.
func (b Batch) Cost() schemas.NanoTON {
	return b.attached() + schemas.NanoTON(len(b.Transfers))*carryFee + baseFee
}

// QueryID numbers the batches of a wallet: 23 bits, of which the low ten are never 1023.
type QueryID uint32

// Shape of query ids, set by the contract.
const (
	queryBits    = 23
	lowMask      = 1<<10 - 1
	lowForbidden = 1023
)

// Valid reports whether the contract can ever accept the id. Ids whose low ten bits are 1023 are refused for ever.
func (q QueryID) Valid() bool { return q < 1<<queryBits && q&lowMask != lowForbidden }

// Next is the id after q, skipping those that the contract refuses; after the last comes 0. There are 8,380,416 ids.
func (q QueryID) Next() QueryID {
	q++
	if q&lowMask == lowForbidden {
		q++
	}
	return q & (1<<queryBits - 1)
}

// String is the decimal number.
func (q QueryID) String() string { return strconv.FormatUint(uint64(q), 10) }
