package settlement

import (
	"errors"
	"fmt"
	"time"
)

// ErrStopped is what a Payer's round ends with while payouts are stopped: by an operator, or because the chain shows a
// payment that the ledger does not know. Serving, intake and deposits go on.
var ErrStopped = errors.New("settlement: payouts are stopped")

// AlertKind says what an alert is about.
type AlertKind string

// The kinds of alerts.
const (
	// AlertUnknownPayment: the treasury paid something that no batch of ours asked for. Payouts stop.
	AlertUnknownPayment AlertKind = "unknown_payment"
	// AlertUnexplained: the treasury's proven balance differs from the book by more than fees can explain. Payouts stop.
	AlertUnexplained AlertKind = "unexplained_balance"
	// AlertFunds: the treasury cannot cover what is due above its floor. Payouts wait for money.
	AlertFunds AlertKind = "low_funds"
	// AlertSkipped: the wallet took a batch and left some of its items unpaid; they are owed again.
	AlertSkipped AlertKind = "skipped_items"
	// AlertBounced: a receiver refused a payout; the address is flagged and not paid again until it is cleared.
	AlertBounced AlertKind = "bounced"
	// AlertExpired: a batch was never taken by the chain and its items are owed again.
	AlertExpired AlertKind = "expired_batch"
	// AlertRestored: the journal knows batches that this ledger does not: it was restored from an old copy.
	AlertRestored AlertKind = "restored_ledger"
)

// Alert is something that a person should know.
type Alert struct {
	Kind AlertKind `json:"kind"`
	// Subject is what it is about: a batch number, an address, a transaction.
	Subject string    `json:"subject"`
	Detail  string    `json:"detail"`
	At      time.Time `json:"at"`
}

// String is one line.
func (a Alert) String() string { return fmt.Sprintf("%s: %s: %s", a.Kind, a.Subject, a.Detail) }
