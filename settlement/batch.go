package settlement

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// batchState is where a batch stands.
//
//	signed ──► accepted ──► done      the chain took it, and then carried it out: each item was paid, or is owed again
//	   │           └──────► done      the chain took it and dropped it for want of funds: everything is owed again
//	   └──► expired                   chain time proves that it can never be taken: everything is owed again
type batchState string

// The states of a batch.
const (
	batchSigned   batchState = "signed"
	batchAccepted batchState = "accepted"
	batchDone     batchState = "done"
	batchExpired  batchState = "expired"
)

// batchRecord is everything that was signed and what it covers. It is stored in the ledger and put in the journal
// before the batch is sent, and suffices to make a ledger that forgot the batch know it again.
type batchRecord struct {
	V         int           `json:"v"`
	Statement Statement     `json:"statement"`
	Query     ton.QueryID   `json:"query"`
	Created   time.Time     `json:"created"`
	Cost      int64         `json:"cost"`
	BoC       []byte        `json:"boc"`
	Body      string        `json:"body"`
	Coverage  []batchCovers `json:"coverage"`
}

// batchCovers is the private side of a statement item.
type batchCovers struct {
	// Account is the ledger account that is debited.
	Account string `json:"account"`
	// Withdrawal and Source are set for refunds and fees.
	Withdrawal string `json:"withdrawal,omitempty"`
	Source     string `json:"source,omitempty"`
	From       mark   `json:"from"`
	Through    mark   `json:"through"`
}

// maxRecord bounds the JSON of a record: 250 items with everything at its longest stay below it.
const maxRecord = 512 << 10

// comment is the text that each transfer of a batch carries: enough to find the statement by.
func comment(number uint64) string { return "cocoon " + strconv.FormatUint(number, 10) }

// note is the text that a batch carries once: its number and the root of its statement.
func note(number uint64, root schemas.Hash) []byte {
	return fmt.Appendf(nil, "cocoon/%d/%s", number, hex.EncodeToString(root[:]))
}

// unsigned builds what is signed. It depends on nothing but its arguments.
func unsigned(number uint64, query ton.QueryID, created time.Time, deploy bool, root schemas.Hash, items []due) ton.Batch {
	b := ton.Batch{QueryID: query, CreatedAt: created, Deploy: deploy, Note: note(number, root)}
	for _, d := range items {
		b.Transfers = append(b.Transfers, ton.Transfer{To: d.To, Amount: d.Amount, Comment: comment(number)})
	}
	return b
}

// writeBatch signs a batch and stores it, in one commit: the money leaves the owners' balances, the query id is used up,
// the signed bytes and the statement are kept. It returns nil when the payments are not due any more, because another
// process was faster.
func (l *Ledger) writeBatch(ctx context.Context, w walletRow, treasury Treasury, at ton.BlockTime, deploy bool, items []due) (*batchRecord, error) {
	var made *batchRecord
	err := l.write(ctx, func(t *tx) error {
		fresh, err := t.wallet(w.address)
		if err != nil {
			return err
		}
		if fresh.stopped != "" {
			return nil
		}
		for i := range items {
			if still, err := t.stillDue(&items[i]); err != nil || !still {
				return err
			}
		}
		var number uint64
		if _, err := t.one([]any{&number}, "SELECT COALESCE(MAX(number), 0) + 1 FROM batches"); err != nil {
			return err
		}
		r, err := signBatch(number, fresh, treasury, at, deploy, items)
		if err != nil {
			return err
		}
		// Commit point of a payout: when this transaction is durable the batch exists, with the bytes that may be sent.
		// A crash before it means that nothing was promised; a crash after it is repaired by the next round, which
		// publishes and sends what it finds signed.
		made = r
		return t.insertBatch(fresh, r, false)
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// stillDue checks inside the write transaction what the plan saw in its snapshot.
func (t *tx) stillDue(d *due) (bool, error) {
	if d.withdrawal != "" {
		w, err := t.withdrawal(d.withdrawal)
		return err == nil && w.State == "pending", err
	}
	var entry, open int64
	_, err := t.one([]any{&entry, &open}, `SELECT o.paid_entry, (SELECT COUNT(*) FROM items i WHERE i.address = o.address AND i.state = 'open')
		FROM owners o WHERE o.account = ?`, d.account)
	return entry == d.from.Entry && open == 0, err
}

// signBatch fills in a record and has it signed.
func signBatch(number uint64, w walletRow, treasury Treasury, at ton.BlockTime, deploy bool, items []due) (*batchRecord, error) {
	r := &batchRecord{V: 1, Query: w.query, Created: ton.CreatedAt(at), Statement: Statement{V: 1, Batch: number, Wallet: w.address}}
	if !r.Query.Valid() {
		r.Query = r.Query.Next()
	}
	for _, d := range items {
		r.Statement.Items = append(r.Statement.Items, d.StatementItem)
		c := batchCovers{Account: ownerPrefix + string(d.To), Withdrawal: d.withdrawal, Source: d.source, From: d.from, Through: d.through}
		if d.withdrawal != "" {
			c.Account = acctWithdrawals
		}
		r.Coverage = append(r.Coverage, c)
	}
	r.Statement.Root = r.Statement.root()
	b := unsigned(number, r.Query, r.Created, deploy, r.Statement.Root, items)
	signed, err := treasury.Sign(b)
	if err != nil {
		return nil, fmt.Errorf("sign batch %d: %w", number, err)
	}
	r.Cost, r.BoC, r.Body = int64(b.Cost()), signed.BoC, signed.Body.String()
	return r, nil
}

// insertBatch books a batch as signed: its money moves from the owners to inflight, its query id is used up.
// A recalled batch was published before.
func (t *tx) insertBatch(w walletRow, r *batchRecord, recalled bool) error {
	record, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(record) > maxRecord {
		return schemas.Errorf(schemas.KindTooLarge, "record of batch %d has %d bytes", r.Statement.Batch, len(record))
	}
	body, err := hex.DecodeString(r.Body)
	if err != nil || len(body) != sha256.Size || len(r.Coverage) != len(r.Statement.Items) {
		return corrupt("the record of batch %d is damaged", r.Statement.Batch)
	}
	number := int64(r.Statement.Batch)
	if _, err := t.exec(`INSERT INTO batches (number, wallet, state, query, created, body, record, published, cost, root) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		number, w.id, string(batchSigned), int64(r.Query), r.Created.Unix(), body, record, flag(recalled), r.Cost, hex.EncodeToString(r.Statement.Root[:])); err != nil {
		return err
	}
	if _, err := t.exec("UPDATE wallets SET next_query = ? WHERE id = ?", int64(r.Query.Next()), w.id); err != nil {
		return err
	}
	inflight, err := t.account(acctInflight)
	if err != nil {
		return err
	}
	lines := []posting{}
	for i := range r.Statement.Items {
		account, err := t.insertItem(number, i, &r.Statement.Items[i], &r.Coverage[i], recalled)
		if err != nil {
			return err
		}
		amount := r.Statement.Items[i].Amount
		lines = append(lines, posting{account, -amount}, posting{inflight, amount})
	}
	_, err = t.post(entryPayout, strconv.FormatInt(number, 10), 0, lines...)
	return err
}

// insertItem stores one item and moves its owner's mark, or its withdrawal's state.
func (t *tx) insertItem(batch int64, position int, s *StatementItem, c *batchCovers, recalled bool) (account int64, err error) {
	if account, err = t.account(c.Account); err != nil {
		return 0, err
	}
	covers := *c
	if recalled { // entry numbers are those of the ledger that made the batch: here the search starts from the beginning
		covers.From.Entry, covers.Through.Entry = 0, 0
	}
	c = &covers
	var withdrawal any
	if c.Withdrawal != "" {
		withdrawal = c.Withdrawal
		if err := t.mark(c.Withdrawal, "batched"); err != nil {
			return 0, err
		}
	} else if err := t.moveMark(account, c.Through); err != nil {
		return 0, err
	}
	_, err = t.exec(`INSERT INTO items (batch, position, account, address, amount, purpose, withdrawal, from_entry, from_seq, from_lt,
		through_entry, through_seq, through_lt, recalled, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open')`,
		batch, position, account, string(s.To), int64(s.Amount), s.Purpose, withdrawal,
		c.From.Entry, int64(c.From.Seq), int64(c.From.LT), c.Through.Entry, int64(c.Through.Seq), int64(c.Through.LT), flag(recalled))
	return account, err
}

// moveMark sets how far an owner is covered. Its age starts over: what is left is younger than what was paid.
func (t *tx) moveMark(account int64, m mark) error {
	if _, err := t.exec("UPDATE owners SET paid_entry = ?, paid_seq = ?, paid_lt = ? WHERE account = ?",
		m.Entry, int64(m.Seq), int64(m.LT), account); err != nil {
		return err
	}
	_, err := t.exec("UPDATE accounts SET since = ? WHERE id = ?", t.now, account)
	return err
}

// mark sets the state of a withdrawal.
func (t *tx) mark(withdrawal, state string) error {
	_, err := t.exec("UPDATE withdrawals SET state = ? WHERE id = ?", state, withdrawal)
	return err
}

// flag is a boolean as both databases store it.
func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// openBatch is a batch that is not settled yet.
type openBatch struct {
	number    uint64
	state     batchState
	created   time.Time
	record    []byte
	published bool
	cost      schemas.NanoTON
}

// openBatches lists the batches in flight from a wallet, oldest first.
func (t *tx) openBatches(wallet int64) ([]openBatch, error) {
	var all []openBatch
	err := t.each(func(scan func(...any) error) error {
		var b openBatch
		var created, published int64
		err := scan(&b.number, &b.state, &created, &b.record, &published, &b.cost)
		b.created, b.published = time.Unix(created, 0).UTC(), published != 0
		all = append(all, b)
		return err
	}, "SELECT number, state, created, record, published, cost FROM batches WHERE wallet = ? AND state IN ('signed', 'accepted') ORDER BY number", wallet)
	return all, err
}

// openItem is an item of a batch that is being settled.
type openItem struct {
	position   int64
	account    int64
	to         schemas.Owner
	amount     schemas.NanoTON
	withdrawal string
	from       mark
}

// openItems lists the items of a batch.
func (t *tx) openItems(batch uint64) ([]openItem, error) {
	var all []openItem
	err := t.each(func(scan func(...any) error) error {
		var i openItem
		err := scan(&i.position, &i.account, &i.to, &i.amount, &i.withdrawal, &i.from.Entry, &i.from.Seq, &i.from.LT)
		all = append(all, i)
		return err
	}, `SELECT position, account, address, amount, COALESCE(withdrawal, ''), from_entry, from_seq, from_lt
		FROM items WHERE batch = ? AND state = 'open' ORDER BY position`, int64(batch))
	return all, err
}

// settle closes a batch: items found among what left the wallet are paid, all others are owed again, with the marks
// and withdrawals as they were before. It returns how many were not paid.
func (t *tx) settle(number uint64, state batchState, where ton.Tx, outs []ton.Out) (owed int, err error) {
	items, err := t.openItems(number)
	if err != nil {
		return 0, err
	}
	inflight, err := t.account(acctInflight)
	if err != nil {
		return 0, err
	}
	treasury, err := t.account(acctTreasury)
	if err != nil {
		return 0, err
	}
	left := map[schemas.Owner]ton.Out{}
	for _, o := range outs {
		left[o.To] = o
	}
	var paid, returned []posting
	for _, i := range items {
		out, ok := left[i.to]
		if ok && out.Amount != i.amount {
			return 0, corrupt("batch %d paid %s to %s, signed were %s", number, out.Amount, i.to, i.amount)
		}
		if delete(left, i.to); ok {
			paid = append(paid, posting{inflight, -i.amount}, posting{treasury, i.amount})
			err = t.itemPaid(number, i, out.LT)
		} else {
			owed++
			returned = append(returned, posting{inflight, -i.amount}, posting{i.account, i.amount})
			err = t.itemOwed(number, i)
		}
		if err != nil {
			return 0, err
		}
	}
	for to := range left {
		return 0, corrupt("batch %d paid %s, who is not in it", number, to)
	}
	ref := strconv.FormatUint(number, 10)
	if len(paid) > 0 {
		if _, err := t.post(entryPaid, ref, where.LT, paid...); err != nil {
			return 0, err
		}
	}
	if len(returned) > 0 {
		if _, err := t.post(entryReturned, ref, where.LT, returned...); err != nil {
			return 0, err
		}
	}
	_, err = t.exec("UPDATE batches SET state = ?, settled_lt = ?, settled_tx = ? WHERE number = ?",
		string(state), int64(where.LT), where.Hash.String(), int64(number))
	return owed, err
}

// itemPaid closes an item that the chain shows.
func (t *tx) itemPaid(batch uint64, i openItem, lt uint64) error {
	var err error
	if i.withdrawal != "" {
		err = t.mark(i.withdrawal, "paid")
	} else {
		_, err = t.exec("UPDATE owners SET paid = paid + ? WHERE account = ?", int64(i.amount), i.account)
	}
	if err != nil {
		return err
	}
	_, err = t.exec("UPDATE items SET state = 'paid', out_lt = ? WHERE batch = ? AND position = ?", int64(lt), int64(batch), i.position)
	return err
}

// itemOwed closes an item that the chain does not show and never will.
func (t *tx) itemOwed(batch uint64, i openItem) error {
	var newer int64
	_, err := t.one([]any{&newer}, "SELECT COUNT(*) FROM items WHERE account = ? AND address = ? AND batch > ? AND state <> 'owed'",
		i.account, string(i.to), int64(batch))
	if err != nil {
		return err
	}
	switch {
	case i.withdrawal != "":
		err = t.mark(i.withdrawal, "pending")
	case newer == 0:
		err = t.moveMark(i.account, i.from)
	default:
		// An owner has one open item at a time, so a newer one was made after this one was judged, and covers the same
		// again: both were read back from the journal after a restore, and the newer mark stands.
	}
	if err != nil {
		return err
	}
	_, err = t.exec("UPDATE items SET state = 'owed' WHERE batch = ? AND position = ?", int64(batch), i.position)
	return err
}

// recall makes a ledger that was restored from an old copy know a batch again that it had published.
func (l *Ledger) recall(ctx context.Context, address schemas.Owner, raw []byte) (uint64, error) {
	var r batchRecord
	if err := schemas.DecodeJSON(raw, &r, maxRecord); err != nil {
		return 0, corrupt("a record of the journal does not parse: %w", err)
	}
	if r.V != 1 {
		return 0, schemas.Errorf(schemas.KindUnsupported, "batch %d of the journal has form %d: use a newer program", r.Statement.Batch, r.V)
	}
	if r.Statement.Wallet != address {
		return 0, schemas.Errorf(schemas.KindConflict, "the journal has batch %d of another treasury, %s, which this ledger does not know: run settlement with that one first",
			r.Statement.Batch, r.Statement.Wallet)
	}
	return r.Statement.Batch, l.write(ctx, func(t *tx) error {
		w, err := t.wallet(address)
		if err != nil {
			return err
		}
		for i, c := range r.Coverage {
			if c.Withdrawal == "" {
				continue
			}
			_, err := t.withdrawal(c.Withdrawal)
			if schemas.KindOf(err) == schemas.KindNotFound { // the request, too, was forgotten
				s := r.Statement.Items[i]
				err = t.setAside(entryCarried, Withdrawal{ID: c.Withdrawal, Source: c.Source, To: s.To, Amount: s.Amount, Purpose: s.Purpose}, "pending")
			}
			if err != nil {
				return err
			}
		}
		return t.insertBatch(w, &r, true)
	})
}
