package settlement

import (
	"context"
	"errors"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// role says what a wallet is for.
type role string

// The roles.
const (
	roleTreasury role = "treasury"
	roleDeposits role = "deposits"
)

// walletRow is a followed wallet.
type walletRow struct {
	id      int64
	address schemas.Owner
	role    role
	cursor  ton.Cursor
	query   ton.QueryID
	stopped string
	forced  bool
	// explained says that an operator has looked at a difference to the chain, which is written off next.
	explained bool
}

// pageLimit is how many transactions are booked in one commit.
const pageLimit = 100

// maxPages bounds one walk: a wallet with more new transactions is caught up over several rounds.
const maxPages = 1000

// errMoved says that another process follows the wallet too and was faster: what it booked is not booked again.
var errMoved = errors.New("settlement: the wallet's cursor was moved by another process")

// openWallet finds or starts following a wallet. A wallet keeps its role for life.
func (l *Ledger) openWallet(ctx context.Context, address schemas.Owner, as role) (w walletRow, err error) {
	if _, err := schemas.ParseOwner(string(address)); err != nil {
		return w, err
	}
	err = l.write(ctx, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO wallets (id, address, role) VALUES ((SELECT COALESCE(MAX(id), 0) + 1 FROM wallets), ?, ?)
			ON CONFLICT (address) DO NOTHING`, string(address), string(as)); err != nil {
			return err
		}
		if w, err = t.wallet(address); err == nil && w.role != as {
			err = schemas.Errorf(schemas.KindConflict, "wallet %s is the %s wallet", address, w.role)
		}
		return err
	})
	return w, err
}

// wallet reads a followed wallet.
func (t *tx) wallet(address schemas.Owner) (w walletRow, err error) {
	var cursor string
	var forced, explained int64
	found, err := t.one([]any{&w.id, &w.role, &cursor, &w.query, &w.stopped, &forced, &explained},
		"SELECT id, role, cursor, next_query, stopped, forced, explained FROM wallets WHERE address = ?", string(address))
	if err == nil && !found {
		err = schemas.Errorf(schemas.KindNotFound, "wallet %s is not followed", address)
	}
	if err != nil {
		return w, err
	}
	w.address, w.forced, w.explained = address, forced != 0, explained != 0
	if w.cursor, err = ton.ParseCursor(cursor); err != nil {
		err = corrupt("cursor of wallet %s: %w", address, err)
	}
	return w, err
}

// follower books what a wallet's history says, page by page.
type follower struct {
	ledger *Ledger
	wallet Wallet
	role   role
	// apply books one event inside the transaction that also moves the cursor.
	apply func(*tx, walletRow, ton.Event) error
	// last is called in the transaction of the page that reaches the newest transaction; nil for nothing.
	last func(*tx, walletRow, ton.BlockTime) error
}

// walk books everything from the stored cursor to the newest proven transaction and returns the block it ends at.
func (f *follower) walk(ctx context.Context) (ton.BlockTime, error) {
	w, err := f.ledger.openWallet(ctx, f.wallet.Address(), f.role)
	if err != nil {
		return ton.BlockTime{}, err
	}
	for range maxPages {
		page, err := f.wallet.History(ctx, w.cursor, pageLimit)
		if err != nil {
			return ton.BlockTime{}, away(err)
		}
		if len(page.Events) > 0 || page.Complete && f.last != nil {
			if err := f.book(ctx, &w, page); err != nil {
				return ton.BlockTime{}, err
			}
		}
		if page.Complete {
			return page.At, nil
		}
	}
	return ton.BlockTime{}, schemas.Errorf(schemas.KindBusy, "wallet %s has more history than one round takes", w.address)
}

// book commits one page: what its events cause and the cursor after them, or nothing.
func (f *follower) book(ctx context.Context, w *walletRow, page ton.Page) error {
	from := w.cursor
	return f.ledger.write(ctx, func(t *tx) (err error) {
		if *w, err = t.wallet(w.address); err != nil {
			return err
		}
		if w.cursor != from {
			return errMoved
		}
		for _, event := range page.Events {
			if err := f.apply(t, *w, event); err != nil {
				return err
			}
		}
		if len(page.Events) > 0 {
			w.cursor = page.Next
			if _, err := t.exec("UPDATE wallets SET cursor = ? WHERE id = ?", w.cursor.String(), w.id); err != nil {
				return err
			}
		}
		if page.Complete && f.last != nil {
			return f.last(t, *w, page.At)
		}
		return nil
	})
}

// away gives failures of the chain, of whatever kind they are, the kind that says "try again": whether a liteserver is
// down, late or lying makes no difference to what we may do.
func away(err error) error {
	if schemas.KindOf(err) != schemas.KindUnknown || errors.Is(err, context.Canceled) {
		return err
	}
	return schemas.Errorf(schemas.KindUnavailable, "chain: %w", err)
}
