package ton

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"

	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of history.
const (
	// DefaultPage is the number of transactions of a page if the caller gives none.
	DefaultPage = 256
	// MaxPage is the largest page.
	MaxPage = 4096
	// querySize is how many transactions one query asks for; liteservers give at most so many.
	querySize = 16
	// maxMarks bounds the places that an account remembers while it catches up.
	maxMarks = 4096
	// codePruned is the liteserver error for history that it does not have.
	codePruned = -400
)

// History returns up to limit transactions after the cursor, oldest first; limit 0 means DefaultPage. Every transaction
// is chained by hash to the proven state of the account.
//
// It fails with ErrCursor when the cursor is not in the account's history, and with KindUnavailable (ErrPruned, ErrStale,
// ErrUnproven or none of these) when no liteserver gives the answer.
func (a *Account) History(ctx context.Context, after Cursor, limit int) (Page, error) {
	if limit == 0 {
		limit = DefaultPage
	}
	if limit < 0 || limit > MaxPage {
		return Page{}, schemas.FieldError("limit", fmt.Sprintf("must lie between 0 and %d", MaxPage))
	}
	var page Page
	err := a.chain.ask(ctx, func(ctx context.Context) (err error) {
		page, err = a.page(ctx, after, limit)
		return err
	})
	return page, err
}

// page reads one page from one liteserver.
func (a *Account) page(ctx context.Context, after Cursor, limit int) (Page, error) {
	b, err := a.chain.head(ctx)
	if err != nil {
		return Page{}, err
	}
	st, err := a.stateAt(ctx, b)
	if err != nil {
		return Page{}, err
	}
	page := Page{Next: after, At: b.BlockTime}
	switch {
	case st.Last == after:
		page.Complete = true
		return page, nil
	case st.Last.LT < after.LT:
		return Page{}, fmt.Errorf("%w: its newest transaction is %d, the cursor is at %d", ErrStale, st.Last.LT, after.LT)
	}
	w := walk{account: a, after: after, limit: limit}
	from := a.markAbove(after, st.Last)
	if err = w.down(ctx, from); err != nil {
		return Page{}, err
	}
	a.remember(after, w.marks)
	page.Complete = from == st.Last && w.dropped == 0
	for i := len(w.kept) - 1; i >= 0; i-- {
		events, err := a.decode(w.kept[i])
		if err != nil {
			return Page{}, err
		}
		page.Events = append(page.Events, events...)
	}
	if n := len(w.kept); n > 0 {
		page.Next = cursorOf(w.kept[0])
	}
	return page, nil
}

// cursorError says that a cursor is not on the chain.
func cursorError(c Cursor) error {
	return schemas.Errorf(schemas.KindCorrupt, "%w: %s", ErrCursor, c)
}

// cursorOf is the place of a transaction.
func cursorOf(tx *tlb.Transaction) Cursor { return Cursor{LT: tx.LT, Hash: Hash(tx.Hash)} }

// walk goes down an account's history to a cursor, keeping the transactions just above it.
type walk struct {
	account *Account
	after   Cursor
	limit   int
	// kept are at most limit transactions, newest first.
	kept []*tlb.Transaction
	// dropped counts newer ones; marks are some of them, limit apart.
	dropped int
	marks   []Cursor
}

// down walks from one transaction, which is included, to the cursor, which is not.
func (w *walk) down(ctx context.Context, from Cursor) error {
	for at := from; ; {
		list, err := w.query(ctx, at)
		if err != nil {
			return err
		}
		for i := len(list) - 1; i >= 0; i-- { // the library returns them oldest first
			tx := list[i]
			if here := cursorOf(tx); here == w.after {
				return nil
			} else if here.LT <= w.after.LT {
				return cursorError(w.after)
			}
			w.keep(tx)
		}
		if at, err = before(list[0]); err != nil {
			return err
		}
		switch {
		case at == w.after:
			return nil
		case at.LT <= w.after.LT:
			return cursorError(w.after)
		}
	}
}

// query asks for the transactions from at backwards. The library checks that each is the one that the next names.
func (w *walk) query(ctx context.Context, at Cursor) ([]*tlb.Transaction, error) {
	list, err := w.account.chain.api.ListTransactions(ctx, w.account.addr, querySize, at.LT, at.Hash[:])
	var said tonapi.LSError
	switch {
	case errors.As(err, &said) && said.Code == codePruned, errors.Is(err, tonapi.ErrNoTransactionsWereFound):
		return nil, fmt.Errorf("%w: transaction %s", ErrPruned, at)
	case err != nil:
		return nil, classify(err)
	case len(list) == 0 || cursorOf(list[len(list)-1]) != at:
		return nil, fmt.Errorf("%w: transaction %s", ErrUnproven, at)
	}
	return list, nil
}

// before is the place of the transaction before one; the zero cursor before the first.
func before(tx *tlb.Transaction) (Cursor, error) {
	if len(tx.PrevTxHash) != len(Hash{}) {
		return Cursor{}, fmt.Errorf("%w: transaction at %d", ErrUnproven, tx.LT)
	}
	return Cursor{LT: tx.PrevTxLT, Hash: Hash(tx.PrevTxHash)}, nil
}

// keep adds a transaction below those kept. When there are too many, the newest goes; every limit-th of these is marked
// as a place to start a later page from, so that catching up does not walk the whole way for each page.
func (w *walk) keep(tx *tlb.Transaction) {
	w.kept = append(w.kept, tx)
	if len(w.kept) <= w.limit {
		return
	}
	gone := w.kept[0]
	w.kept = w.kept[1:]
	if w.dropped++; w.dropped%w.limit == 0 {
		w.marks = append(w.marks, cursorOf(gone))
	}
}

// markAbove is the lowest known place above a cursor, at most last, to start a walk from.
func (a *Account) markAbove(after, last Cursor) Cursor {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := len(a.marks) - 1; i >= 0; i-- {
		if a.marks[i].LT > after.LT && a.marks[i].LT <= last.LT {
			return a.marks[i]
		}
	}
	return last
}

// remember adds marks, which lie below all the old ones that are still above the cursor.
func (a *Account) remember(after Cursor, marks []Cursor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kept := a.marks[:0:0]
	for _, m := range append(a.marks, marks...) {
		if m.LT > after.LT && (len(kept) == 0 || m.LT < kept[len(kept)-1].LT) {
			kept = append(kept, m)
		}
	}
	if len(kept) > maxMarks { // the lowest serve first
		kept = kept[len(kept)-maxMarks:]
	}
	a.marks = kept
}

// txOf names a transaction in events.
func txOf(tx *tlb.Transaction) Tx {
	return Tx{Cursor: cursorOf(tx), Time: time.Unix(int64(tx.Now), 0).UTC()}
}

// isSelf reports whether an address is the account's own.
func (a *Account) isSelf(workchain int32, id []byte) bool {
	return workchain == a.addr.Workchain() && bytes.Equal(id, a.addr.Data())
}
