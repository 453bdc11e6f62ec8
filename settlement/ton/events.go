package ton

import (
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Page is a stretch of an account's history, oldest first.
type Page struct {
	// Events are in order; one transaction gives one event, or two when it accepts and executes a batch at once.
	Events []Event
	// Next is the cursor after the last event: store it together with what the events caused.
	Next Cursor
	// At is the proven block as of which the page was read.
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
	// event keeps the set closed.
	event()
}

// Tx names a transaction.
type Tx struct {
	// Cursor is its place in the account's history; the hash is unique over all accounts.
	Cursor
	// Time is the time of its block, in UTC with whole seconds.
	Time time.Time
}

// Where returns the transaction itself.
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
	// Memo is the text comment, empty when there is none or the body is something else. It is input from strangers: any
	// bytes, up to about 100 KB of them.
	Memo string
}

// Bounced says that a transfer came back because its receiver refused it, less fees.
type Bounced struct {
	Tx
	From   schemas.Owner
	Amount schemas.NanoTON
}

// Other is a transaction that moved no money that must be booked: a refused message, a deposit sent back, an empty one.
type Other struct {
	Tx
	// Reason says what it was, for logs.
	Reason string
}

func (Accepted) event() {}
func (Executed) event() {}
func (Deposit) event()  {}
func (Bounced) event()  {}
func (Other) event()    {}

var (
	_ Event = Accepted{}
	_ Event = Executed{}
	_ Event = Deposit{}
	_ Event = Bounced{}
	_ Event = Other{}
)
