package settlement

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// Statement says what one payout batch pays and for what. Its root stands on chain in the batch's note, as
// "cocoon/<batch>/<root in hex>".
type Statement struct {
	// V is the version of the form, 1.
	V int `json:"v"`
	// Batch is the batch's number.
	Batch uint64 `json:"batch"`
	// Wallet is the treasury that pays.
	Wallet schemas.Owner `json:"wallet"`
	// Items are in the order of the transfers.
	Items []StatementItem `json:"items"`
	// Root is the Merkle root over the items.
	Root schemas.Hash `json:"root"`
}

// StatementItem is one transfer of a batch.
type StatementItem struct {
	To     schemas.Owner   `json:"to"`
	Amount schemas.NanoTON `json:"amount"`
	// Purpose is "earnings", "refund" or "fee".
	Purpose string `json:"purpose"`
	// Earned is the sum of the receipts covered; Carried what was owed for other reasons, such as an earlier payout that
	// came back. Amount = Earned + Carried.
	Earned  schemas.NanoTON `json:"earned"`
	Carried schemas.NanoTON `json:"carried"`
	// Receipts is how many receipts are covered and Root their Merkle root, zero when there are none.
	Receipts uint64       `json:"receipts"`
	Root     schemas.Hash `json:"root"`
}

// root computes the root over the items.
func (s *Statement) root() schemas.Hash {
	var t tree
	for i := range s.Items {
		t.add(s.Items[i].leaf())
	}
	return t.root()
}

// Check refuses a statement that contradicts itself.
func (s *Statement) Check() error {
	if s.V != 1 || len(s.Items) == 0 || len(s.Items) > ton.MaxTransfers {
		return schemas.FieldError("items", "must have 1 to 250 entries of form 1")
	}
	for i := range s.Items {
		if n := &s.Items[i]; n.Amount <= 0 || n.Earned+n.Carried != n.Amount || n.Root.IsZero() != (n.Receipts == 0) {
			return schemas.FieldError("items", "amounts do not add up")
		}
	}
	if s.root() != s.Root {
		return schemas.FieldError("root", "is not the root of the items")
	}
	return nil
}

// Proof shows that one receipt is covered by one item of a payout batch.
type Proof struct {
	// V is the version of the form, 1.
	V int `json:"v"`
	// Batch and Wallet name the payout.
	Batch  uint64        `json:"batch"`
	Wallet schemas.Owner `json:"wallet"`
	// Item is the transfer that covers the receipt: number ItemIndex of Items, with its path to the statement's root.
	Item      StatementItem  `json:"item"`
	ItemIndex uint64         `json:"item_index"`
	Items     uint64         `json:"items"`
	ItemPath  []schemas.Hash `json:"item_path"`
	// Receipt is the hash of the receipt's compact JWS and Amount what the owner earned with it: number Index of
	// Item.Receipts, with its path to the item's root.
	Receipt schemas.Hash    `json:"receipt"`
	Amount  schemas.NanoTON `json:"amount"`
	Index   uint64          `json:"index"`
	Path    []schemas.Hash  `json:"path"`
}

// maxProof bounds the JSON of a proof.
const maxProof = 64 << 10

// ParseProof reads a proof strictly.
func ParseProof(b []byte) (*Proof, error) {
	var p Proof
	if err := schemas.DecodeJSON(b, &p, maxProof); err != nil {
		return nil, err
	}
	if p.V != 1 {
		return nil, schemas.FieldError("v", "must be 1")
	}
	return &p, nil
}

// Verify checks the proof against the receipt, a compact JWS, and returns the root that must stand on chain. It does
// not check the receipt's own signature: see enclave.VerifyReceipt.
func (p *Proof) Verify(receipt string) (schemas.Hash, error) {
	if schemas.HashOf([]byte(receipt)) != p.Receipt {
		return schemas.Hash{}, schemas.FieldError("receipt", "the proof is for another receipt")
	}
	root, ok := rootOf(receiptLeaf(p.Receipt, p.Amount), p.Index, p.Item.Receipts, p.Path)
	if !ok || root != p.Item.Root {
		return schemas.Hash{}, schemas.FieldError("path", "does not lead from the receipt to the item")
	}
	root, ok = rootOf(p.Item.leaf(), p.ItemIndex, p.Items, p.ItemPath)
	if !ok {
		return schemas.Hash{}, schemas.FieldError("item_path", "does not lead to a root")
	}
	return root, nil
}

// PayoutStatement returns the statement of a batch; KindNotFound when there is none.
func (l *Ledger) PayoutStatement(ctx context.Context, batch uint64) (*Statement, error) {
	var r batchRecord
	err := l.read(ctx, func(t *tx) (err error) {
		r, err = t.record(batch)
		return err
	})
	return &r.Statement, err
}

// record reads the record of a batch.
func (t *tx) record(batch uint64) (r batchRecord, err error) {
	var raw []byte
	found, err := t.one([]any{&raw}, "SELECT record FROM batches WHERE number = ?", int64(batch))
	if err != nil {
		return r, err
	}
	if !found {
		return r, schemas.Errorf(schemas.KindNotFound, "there is no payout batch %d", batch)
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, corrupt("the record of batch %d does not parse: %w", batch, err)
	}
	return r, nil
}

// Proof finds the newest batch that covers a job's receipt. KindNotFound: never booked; KindUnavailable: booked, but
// no batch has covered it yet. The batch may still be on its way: see FindPayment.
func (l *Ledger) Proof(ctx context.Context, job schemas.JobID) (*Proof, error) {
	key, err := jobBytes(job)
	if err != nil {
		return nil, err
	}
	var p *Proof
	err = l.read(ctx, func(t *tx) (err error) {
		p, err = t.proof(key)
		return err
	})
	return p, err
}

// proof builds the two paths.
func (t *tx) proof(job []byte) (*Proof, error) {
	var seq, owner int64
	var total, fee schemas.NanoTON
	var hash []byte
	found, err := t.one([]any{&seq, &owner, &total, &fee, &hash}, "SELECT seq, owner, total, fee, hash FROM receipts WHERE job = ?", job)
	if err != nil {
		return nil, err
	}
	if !found || total == fee {
		return nil, schemas.Errorf(schemas.KindNotFound, "no receipt that earned anything is booked for this job")
	}
	var batch uint64
	var position int64
	found, err = t.one([]any{&batch, &position}, `SELECT batch, position FROM items WHERE account = ? AND from_seq < ? AND through_seq >= ?
		AND state <> 'owed' ORDER BY batch DESC LIMIT 1`, owner, seq, seq)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, schemas.Errorf(schemas.KindUnavailable, "no payout covers this receipt yet")
	}
	r, err := t.record(batch)
	if err != nil {
		return nil, err
	}
	item := r.Statement.Items[position]
	p := &Proof{
		V: 1, Batch: batch, Wallet: r.Statement.Wallet, Item: item, ItemIndex: uint64(position), Items: uint64(len(r.Statement.Items)),
		Receipt: schemas.Hash(hash), Amount: total - fee,
	}
	items := tree{wanted: true, want: p.ItemIndex}
	for i := range r.Statement.Items {
		items.add(r.Statement.Items[i].leaf())
	}
	if items.root() != r.Statement.Root {
		return nil, corrupt("the statement of batch %d does not match its root", batch)
	}
	p.ItemPath = items.path
	return p, t.receiptPath(p, owner, r.Coverage[position])
}

// receiptPath walks the receipts of an item twice: once to find the receipt's index, once for its path.
func (t *tx) receiptPath(p *Proof, owner int64, c batchCovers) error {
	index, found := uint64(0), false
	from, through := c.From, c.Through
	from.Entry, through.Entry = 0, 1<<62 // entry numbers are of the ledger that made the batch, perhaps before a restore
	err := t.coverage(owner, from, through, func(_ schemas.NanoTON, receipt *schemas.Hash) {
		if receipt == nil || found {
			return
		}
		if found = *receipt == p.Receipt; !found {
			index++
		}
	})
	if err != nil {
		return err
	}
	receipts := tree{wanted: true, want: index}
	err = t.coverage(owner, from, through, func(amount schemas.NanoTON, receipt *schemas.Hash) {
		if receipt != nil {
			receipts.add(receiptLeaf(*receipt, amount))
		}
	})
	if err != nil {
		return err
	}
	if !found || receipts.root() != p.Item.Root {
		return corrupt("the receipts of batch %d do not match its statement", p.Batch)
	}
	p.Index, p.Path = index, receipts.path
	return nil
}

// Payment is where the chain shows a batch's statement root and a transfer.
type Payment struct {
	// Transaction is the hash of the transaction in hex.
	Transaction string          `json:"transaction"`
	To          schemas.Owner   `json:"to"`
	Amount      schemas.NanoTON `json:"amount"`
}

// FindPayment looks through the proven history of the treasury for the batch that carries a root, and for the transfer
// of the proof's item in it. KindNotFound when the chain does not show it.
func FindPayment(ctx context.Context, treasury Wallet, p *Proof, root schemas.Hash) (Payment, error) {
	if treasury.Address() != p.Wallet {
		return Payment{}, schemas.FieldError("wallet", "the proof is of another treasury")
	}
	var found Payment
	errFound := errors.New("found")
	_, err := eachEvent(ctx, treasury, func(e ton.Event) error {
		batch, ok := e.(ton.Executed)
		if !ok || !bytes.Equal(batch.Note, note(p.Batch, root)) {
			return nil
		}
		for _, out := range batch.Outs {
			if out.To == p.Item.To && out.Amount == p.Item.Amount {
				found = Payment{Transaction: batch.Hash.String(), To: out.To, Amount: out.Amount}
				return errFound
			}
		}
		return nil
	})
	if errors.Is(err, errFound) {
		return found, nil
	}
	if err == nil {
		err = schemas.Errorf(schemas.KindNotFound, "the chain does not show the payment of batch %d", p.Batch)
	}
	return found, err
}

// eachEvent walks a wallet's whole history, oldest first, and returns the block it ends at.
func eachEvent(ctx context.Context, w Wallet, fn func(ton.Event) error) (ton.BlockTime, error) {
	var cursor ton.Cursor
	for {
		page, err := w.History(ctx, cursor, pageLimit)
		if err != nil {
			return ton.BlockTime{}, away(err)
		}
		for _, e := range page.Events {
			if err := fn(e); err != nil {
				return page.At, err
			}
		}
		if page.Complete {
			return page.At, nil
		}
		if page.Next == cursor {
			return page.At, schemas.Errorf(schemas.KindUnavailable, "the history of %s does not move on", w.Address())
		}
		cursor = page.Next
	}
}
