package settlement

import (
	"context"
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
	// AlertStream: the outcome stream did not go on where the ledger stood, and an operator accepted that.
	AlertStream AlertKind = "outcome_stream"
	// AlertRestored: the journal knows batches that this ledger does not: it was restored from an old copy.
	AlertRestored AlertKind = "restored_ledger"
)

// stops reports whether payouts stop until a person has looked.
func (k AlertKind) stops() bool { return k == AlertUnknownPayment || k == AlertUnexplained }

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

// alert keeps an alert in the ledger, once for each kind and subject, and stops payouts if its kind does. fresh says
// that it was not there before.
func (t *tx) alert(w walletRow, kind AlertKind, subject, detail string) (a Alert, fresh bool, err error) {
	a = Alert{Kind: kind, Subject: subject, Detail: detail, At: time.Unix(t.now, 0).UTC()}
	n, err := t.exec(`INSERT INTO alerts (id, kind, subject, detail, at) VALUES ((SELECT COALESCE(MAX(id), 0) + 1 FROM alerts), ?, ?, ?, ?)
		ON CONFLICT (kind, subject) DO NOTHING`, string(kind), subject, detail, t.now)
	if err != nil || !kind.stops() {
		return a, n > 0, err
	}
	_, err = t.exec("UPDATE wallets SET stopped = ? WHERE id = ? AND stopped = ''", string(kind), w.id)
	return a, n > 0, err
}

// Alerts lists the newest alerts first, at most limit.
func (l *Ledger) Alerts(ctx context.Context, limit int) ([]Alert, error) {
	var all []Alert
	err := l.read(ctx, func(t *tx) error {
		return t.each(func(scan func(...any) error) error {
			var a Alert
			var at int64
			err := scan(&a.Kind, &a.Subject, &a.Detail, &at)
			a.At = time.Unix(at, 0).UTC()
			all = append(all, a)
			return err
		}, "SELECT kind, subject, detail, at FROM alerts ORDER BY id DESC LIMIT ?", limit)
	})
	return all, err
}
