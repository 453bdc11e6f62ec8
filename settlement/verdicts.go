package settlement

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// apply books one event of the treasury: what history says about our batches, and everything else that moved its
// money. It runs inside the transaction that moves the cursor past the event.
func (p *Payer) apply(t *tx, w walletRow, event ton.Event) error {
	switch e := event.(type) {
	case ton.Accepted:
		return p.accepted(t, w, e)
	case ton.Executed:
		return p.executed(t, w, e)
	case ton.Deposit:
		return t.arrived(w, e)
	case ton.Bounced:
		return p.bounced(t, w, e)
	case ton.Other:
		return nil // moved no money that must be booked
	}
	return corrupt("an event of unknown kind %T", event)
}

// accepted notes that the wallet took a batch. What it pays shows only in the transaction that carries it out.
func (p *Payer) accepted(t *tx, w walletRow, e ton.Accepted) error {
	var number uint64
	var state batchState
	found, err := t.one([]any{&number, &state}, "SELECT number, state FROM batches WHERE wallet = ? AND body = ?", w.id, e.Body[:])
	switch {
	case err != nil:
		return err
	case !found:
		return p.strangerAccepted(t, w, e)
	case state != batchSigned:
		// An expired batch was taken after all, or one batch twice: the chain or our proof of expiry lies.
		return corrupt("the chain took batch %d, which is %s", number, state)
	}
	if e.MessageLT == 0 {
		owed, err := t.settle(number, batchDone, e.Tx, nil)
		if err != nil {
			return err
		}
		return p.skipped(t, w, number, owed)
	}
	_, err = t.exec("UPDATE batches SET state = ?, message_lt = ? WHERE number = ?", string(batchAccepted), int64(e.MessageLT), int64(number))
	return err
}

// executed settles the batch whose message was carried out, item by item.
func (p *Payer) executed(t *tx, w walletRow, e ton.Executed) error {
	var number uint64
	found, err := t.one([]any{&number}, "SELECT number FROM batches WHERE wallet = ? AND state = ? AND message_lt = ?",
		w.id, string(batchAccepted), int64(e.MessageLT))
	if err != nil {
		return err
	}
	if !found {
		return p.strangerExecuted(t, w, e)
	}
	owed, err := t.settle(number, batchDone, e.Tx, e.Outs)
	if err != nil {
		return err
	}
	return p.skipped(t, w, number, owed)
}

// skipped tells that items of a batch were not paid.
func (p *Payer) skipped(t *tx, w walletRow, number uint64, owed int) error {
	if owed == 0 {
		return nil
	}
	return p.alert(t, w, AlertSkipped, strconv.FormatUint(number, 10), fmt.Sprintf("%d items were not paid and are owed again", owed))
}

// expire gives back the items of batches that are not in history and never will be. It runs in the transaction of the
// page that reaches the newest transaction as of a proven block, so "not in history" is certain.
func (p *Payer) expire(t *tx, w walletRow, at ton.BlockTime) error {
	batches, err := t.openBatches(w.id)
	if err != nil {
		return err
	}
	for _, b := range batches {
		if b.state != batchSigned || !p.cfg.Treasury.Expired(b.created, at) {
			continue
		}
		if _, err := t.settle(b.number, batchExpired, ton.Tx{}, nil); err != nil {
			return err
		}
		if err := p.alert(t, w, AlertExpired, strconv.FormatUint(b.number, 10), "the chain never took the batch; its items are owed again"); err != nil {
			return err
		}
	}
	return nil
}

// arrived books money that arrived at the treasury: from a wallet of deposits it is money that the book has already,
// with the operator's memo it is the operator's, and all else is a deposit like any other.
func (t *tx) arrived(w walletRow, e ton.Deposit) error {
	if e.Amount <= 0 {
		return nil
	}
	var id int64
	own, err := t.one([]any{&id}, "SELECT id FROM wallets WHERE address = ? AND role = 'deposits'", string(e.From))
	switch {
	case err != nil:
		return err
	case own:
		return t.topUp(e, acctDeposits)
	case strings.TrimSpace(e.Memo) == TopUpMemo:
		return t.topUp(e, acctOperator)
	}
	return t.deposit(w, e, acctTreasury)
}

// topUp books money for payouts that comes from one of the network's own accounts.
func (t *tx) topUp(e ton.Deposit, from string) error {
	source, err := t.account(from)
	if err != nil {
		return err
	}
	treasury, err := t.account(acctTreasury)
	if err != nil {
		return err
	}
	_, err = t.post(entryTopUp, e.Hash.String(), e.LT, posting{treasury, -e.Amount}, posting{source, e.Amount})
	return err
}

// bounced books a payout that came back, less what the chain kept: an owner is owed it again but flagged, because its
// address refuses money; from any other address it waits in suspense.
func (p *Payer) bounced(t *tx, w walletRow, e ton.Bounced) error {
	if e.Amount <= 0 {
		return nil
	}
	owner, found, err := t.findAccount(ownerPrefix + string(e.From))
	if err != nil {
		return err
	}
	if !found {
		return t.deposit(w, ton.Deposit{Tx: e.Tx, From: e.From, Amount: e.Amount}, acctTreasury)
	}
	treasury, err := t.account(acctTreasury)
	if err != nil {
		return err
	}
	if _, err := t.post(entryBounce, e.Hash.String(), e.LT, posting{treasury, -e.Amount}, posting{owner, e.Amount}); err != nil {
		return err
	}
	if _, err := t.exec("UPDATE owners SET flagged = 'bounced', returned = returned + ? WHERE account = ?", int64(e.Amount), owner); err != nil {
		return err
	}
	return p.alert(t, w, AlertBounced, string(e.From), "a payout came back with "+e.Amount.String())
}

// States of a stranger's payment.
const (
	strangerAccepted = "accepted" // taken, not carried out yet
	strangerExecuted = "executed" // what it paid is known
	strangerAdopted  = "adopted"  // a person had it booked
)

// strangerAccepted keeps a payment by the treasury that no batch of ours asked for, and stops payouts: somebody else
// holds the key, or this ledger has lost batches that no journal remembers.
func (p *Payer) strangerAccepted(t *tx, w walletRow, e ton.Accepted) error {
	state := strangerAccepted
	if e.MessageLT == 0 {
		state = strangerExecuted
	}
	if err := t.insertStranger(w, e.Tx, e.MessageLT, state, nil); err != nil {
		return err
	}
	// A forgotten batch of our own has one of the ids that come next for us; those would be refused for a while. Another
	// program's ids are its own affair: to follow them would be to run into them.
	if ahead := e.QueryID - w.query; ahead < idsSkipped {
		if _, err := t.exec("UPDATE wallets SET next_query = ? WHERE id = ?", int64(e.QueryID.Next()), w.id); err != nil {
			return err
		}
	}
	return p.alert(t, w, AlertUnknownPayment, e.Hash.String(), "the treasury took a batch that is not in this ledger")
}

// strangerExecuted keeps what a stranger's batch paid.
func (p *Payer) strangerExecuted(t *tx, w walletRow, e ton.Executed) error {
	outs, err := json.Marshal(e.Outs)
	if err != nil {
		return err
	}
	n, err := t.exec("UPDATE strangers SET outs = ?, state = ? WHERE wallet = ? AND message_lt = ? AND state = ?",
		outs, strangerExecuted, w.id, int64(e.MessageLT), strangerAccepted)
	if err != nil || n > 0 {
		return err
	}
	if err := t.insertStranger(w, e.Tx, e.MessageLT, strangerExecuted, e.Outs); err != nil {
		return err
	}
	return p.alert(t, w, AlertUnknownPayment, e.Hash.String(), "the treasury made payments that are not in this ledger")
}

// idsSkipped is how far ahead of our next query id a stranger's id counts as one of our own.
const idsSkipped = 1024

// insertStranger writes one row.
func (t *tx) insertStranger(w walletRow, at ton.Tx, message uint64, state string, outs []ton.Out) error {
	body, err := json.Marshal(outs)
	if err != nil {
		return err
	}
	_, err = t.exec("INSERT INTO strangers (wallet, lt, hash, message_lt, outs, state) VALUES (?, ?, ?, ?, ?, ?)",
		w.id, int64(at.LT), at.Hash.String(), int64(message), body, state)
	return err
}

// Bounds of what the chain takes beside the cost of batches.
const (
	// idleGas bounds what a wallet pays for its storage, and gains from messages that failed, between two batches.
	idleGas = schemas.TON / 20
	// arrivalGas bounds what the wallet's code takes for money that arrives: 0.00023 TON today.
	arrivalGas = schemas.TON / 1000
)

// bookGas posts what the chain took since the last time: the difference between book and proven balance at a moment
// when nothing is in flight. More than the batches since then can have cost is not gas: it stops payouts until an
// operator has it written off.
func (p *Payer) bookGas(ctx context.Context, state ton.State) error {
	return p.cfg.Ledger.write(ctx, func(t *tx) error {
		w, err := t.wallet(p.cfg.Treasury.Address())
		if err != nil {
			return err
		}
		var open int64
		if _, err := t.one([]any{&open}, `SELECT (SELECT COUNT(*) FROM batches WHERE wallet = ? AND state IN ('signed', 'accepted'))
			+ (SELECT COUNT(*) FROM strangers WHERE wallet = ? AND state <> ?)`, w.id, w.id, strangerAdopted); err != nil {
			return err
		}
		if open > 0 || w.cursor != state.Last {
			return nil
		}
		treasury, err := t.account(acctTreasury)
		if err != nil {
			return err
		}
		book, err := t.balance(treasury)
		if err != nil {
			return err
		}
		return p.postGas(t, w, treasury, -book-state.Balance)
	})
}

// postGas books a difference if fees can explain it.
func (p *Payer) postGas(t *tx, w walletRow, treasury int64, missing schemas.NanoTON) error {
	if missing == 0 {
		return nil
	}
	var last, entry, arrivals int64
	if _, err := t.one([]any{&last, &entry}, "SELECT COALESCE(MAX(place), 0), COALESCE(MAX(id), 0) FROM entries WHERE kind = ?", entryGas); err != nil {
		return err
	}
	if _, err := t.one([]any{&arrivals}, `SELECT COUNT(*) FROM postings p JOIN entries e ON e.id = p.entry
		WHERE p.account = ? AND p.entry > ? AND p.amount < 0 AND e.kind <> ?`, treasury, entry, entryGas); err != nil {
		return err
	}
	var cost, paid schemas.NanoTON
	if _, err := t.one([]any{&cost, &paid}, `SELECT COALESCE(SUM(b.cost), 0), COALESCE(SUM((SELECT SUM(i.amount) FROM items i
		WHERE i.batch = b.number)), 0) FROM batches b WHERE b.wallet = ? AND b.settled_lt > ?`, w.id, last); err != nil {
		return err
	}
	name := acctGas
	if missing > cost-paid+idleGas+schemas.NanoTON(arrivals)*arrivalGas || missing < -idleGas {
		name = acctUnexplained
	}
	if name == acctUnexplained && !w.explained {
		return p.alert(t, w, AlertUnexplained, w.cursor.String(), fmt.Sprintf("the chain shows %s less than the book", missing))
	}
	account, err := t.account(name)
	if err != nil {
		return err
	}
	if _, err := t.exec("UPDATE wallets SET explained = 0 WHERE id = ?", w.id); err != nil {
		return err
	}
	var count int64 // several may fall on one cursor: storage fees show without a transaction
	if _, err := t.one([]any{&count}, "SELECT COUNT(*) FROM entries WHERE kind = ?", entryGas); err != nil {
		return err
	}
	_, err = t.post(entryGas, w.cursor.String()+"/"+strconv.FormatInt(count, 10), w.cursor.LT, posting{account, -missing}, posting{treasury, missing})
	return err
}
