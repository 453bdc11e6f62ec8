package ton

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Hash is the representation hash of a cell: of a transaction, a message body or a block.
type Hash [32]byte

// String is the hash in lower-case hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Cursor is a place in an account's history: the logical time and the hash of one transaction. The zero value lies
// before the first transaction. Logical times grow along an account's history.
type Cursor struct {
	LT   uint64
	Hash Hash
}

// IsZero reports whether the cursor lies before the first transaction.
func (c Cursor) IsZero() bool { return c == Cursor{} }

// String is "<lt>:<hash in hex>", the form in which cursors are stored.
func (c Cursor) String() string { return strconv.FormatUint(c.LT, 10) + ":" + c.Hash.String() }

// ParseCursor is the inverse of String; the empty string is the zero cursor.
func ParseCursor(s string) (Cursor, error) {
	if s == "" {
		return Cursor{}, nil
	}
	lt, digits, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(lt, 10, 64)
	b, hexErr := hex.DecodeString(digits)
	if err != nil || hexErr != nil || len(b) != len(Hash{}) {
		return Cursor{}, schemas.FieldError("cursor", "must be <lt>:<64 hex digits>")
	}
	c := Cursor{LT: n, Hash: Hash(b)}
	if c.String() != s {
		return Cursor{}, schemas.FieldError("cursor", "is not in its canonical form")
	}
	return c, nil
}

// BlockTime is a proven masterchain block: the chain's clock.
type BlockTime struct {
	// Seqno counts masterchain blocks.
	Seqno uint32
	// Time is when validators made the block, in UTC with whole seconds.
	Time time.Time
}

// State is an account as of one proven masterchain block.
type State struct {
	// At is the block.
	At BlockTime
	// Balance is 0 for accounts that do not exist.
	Balance schemas.NanoTON
	// Deployed says that the account has code. A batch to an account without must be signed with Deploy.
	Deployed bool
	// Last is the newest transaction, zero when there is none.
	Last Cursor
}

// Page is a stretch of an account's history, oldest first.
type Page struct {
	// Events are in order; one transaction gives one event, or two when it accepts and executes a batch at once.
	Events []Event
	// Next is the cursor after the last event: store it together with what the events caused.
	Next Cursor
	// At is the proven block that the walk started from.
	At BlockTime
	// Complete says that the page reaches the newest transaction as of At. Only then does absence mean anything.
	Complete bool
}

// Event is one thing that happened to an account: [Accepted], [Executed], [Deposit], [Bounced] or [Other].
//
//sumtype:decl
type Event interface {
	// Where names the transaction.
	Where() Tx
}

// Tx names a transaction.
type Tx struct {
	// Cursor is its place in the account's history; the hash is unique over all accounts.
	Cursor
	// Time is the time of its block, in UTC with whole seconds.
	Time time.Time
}

// Where returns the transaction itself; it makes every type that embeds a Tx an Event.
func (t Tx) Where() Tx { return t }

// Accepted says that the wallet took a signed batch: its query id is used up, and nothing with it can ever run again.
type Accepted struct {
	Tx
	// Body is the hash of the message body, equal to Signed.Body of the batch.
	Body Hash
	// QueryID is the batch's number.
	QueryID QueryID
	// MessageLT is the logical time of the message that pays, also found in the Executed event that will follow.
	// 0 means that the wallet dropped it, for want of funds: nothing was paid, nothing will be.
	MessageLT uint64
}

// Executed says that a batch was carried out, wholly or in part: exactly the transfers in Outs were made.
type Executed struct {
	Tx
	// MessageLT is that of the Accepted event before.
	MessageLT uint64
	// Outs are the transfers that left the wallet. What the batch asked for and is not here was not paid.
	Outs []Out
	// Note is the batch's note as it stands on chain, nil when it had none.
	Note []byte
}

// Out is one transfer as it left the wallet.
type Out struct {
	To      schemas.Owner
	Amount  schemas.NanoTON
	Comment string
	// LT is the logical time of the message, unique in the account's history.
	LT uint64
}

// Deposit says that somebody sent money, and that it stayed.
type Deposit struct {
	Tx
	From   schemas.Owner
	Amount schemas.NanoTON
	// Memo is the text comment, empty when there is none or the body is something else. It is user input: up to about
	// 100 KB of any bytes.
	Memo string
}

// Bounced says that a transfer came back because its receiver refused it, less fees.
type Bounced struct {
	Tx
	From   schemas.Owner
	Amount schemas.NanoTON
}

// Other is a transaction that moved no money that we must book: a refused message, a bounced deposit, the wallet's own
// surplus coming back.
type Other struct {
	Tx
	// Reason says what it was, for logs.
	Reason string
}

var (
	_ Event = Accepted{}
	_ Event = Executed{}
	_ Event = Deposit{}
	_ Event = Bounced{}
	_ Event = Other{}
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
	// block: use CreatedAt of a proven BlockTime.
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
)

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
func (q QueryID) String() string { return fmt.Sprintf("%d", uint32(q)) }
