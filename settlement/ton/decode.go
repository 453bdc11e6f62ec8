package ton

import (
	"fmt"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// Operations in message bodies.
const (
	// opText begins a text comment.
	opText = 0
	// opSelf begins the message by which a highload wallet sends itself a batch.
	opSelf = 0xae42e5a4
	// opNote begins the note of a batch: "note" in ASCII.
	opNote = 0x6e6f7465
)

// decode says what a transaction of the account did.
func (a *Account) decode(tx *tlb.Transaction) ([]Event, error) {
	at := txOf(tx)
	if tx.IO.In == nil {
		return []Event{Other{at, "no incoming message"}}, nil
	}
	outs, err := a.readOuts(tx)
	if err != nil {
		return nil, err
	}
	if tx.IO.In.MsgType == tlb.MsgTypeExternalIn {
		return accepted(at, tx.IO.In.AsExternalIn(), outs), nil
	}
	m := tx.IO.In.AsInternal()
	fromSelf := m.SrcAddr != nil && m.SrcAddr.Type() == address.StdAddress && a.isSelf(m.SrcAddr.Workchain(), m.SrcAddr.Data())
	if fromSelf && !m.Bounced && opOf(m.Body) == opSelf {
		return []Event{Executed{Tx: at, MessageLT: m.CreatedLT, Outs: outs.transfers, Note: outs.note}}, nil
	}
	amount, err := toNano(m.Amount.Nano())
	if err != nil {
		return nil, err
	}
	switch {
	case m.Bounced:
		return []Event{Bounced{at, toOwner(m.SrcAddr), amount}}, nil
	case sentBack(tx):
		return []Event{Other{at, "deposit sent back"}}, nil
	case fromSelf:
		return []Event{Other{at, "message to self"}}, nil
	case amount == 0:
		return []Event{Other{at, "message without money"}}, nil
	}
	return []Event{Deposit{Tx: at, From: toOwner(m.SrcAddr), Amount: amount, Memo: m.Comment()}}, nil
}

// outs are the messages that a transaction sent.
type outs struct {
	transfers []Out
	note      []byte
	// selfLT is the logical time of a batch that the wallet sent itself, 0 if it did not.
	selfLT uint64
}

// readOuts sorts the messages that a transaction sent.
func (a *Account) readOuts(tx *tlb.Transaction) (outs, error) {
	var out outs
	if tx.IO.Out == nil {
		return out, nil
	}
	list, err := tx.IO.Out.ToSlice()
	if err != nil {
		return outs{}, fmt.Errorf("%w: messages of transaction at %d: %w", ErrUnproven, tx.LT, err)
	}
	for _, m := range list {
		if m.MsgType == tlb.MsgTypeExternalOut {
			out.note = readNote(m.AsExternalOut().Body)
			continue
		}
		im := m.AsInternal()
		if a.isSelf(im.DstAddr.Workchain(), im.DstAddr.Data()) && opOf(im.Body) == opSelf {
			out.selfLT = im.CreatedLT
			continue
		}
		amount, err := toNano(im.Amount.Nano())
		if err != nil {
			return outs{}, err
		}
		out.transfers = append(out.transfers, Out{To: toOwner(im.DstAddr), Amount: amount, Comment: im.Comment(), LT: im.CreatedLT})
	}
	return out, nil
}

// accepted makes the events of an external message. A wallet that pays at once, without a message to itself, executed
// the batch in the same transaction.
func accepted(at Tx, m *tlb.ExternalMessage, out outs) []Event {
	e := Accepted{Tx: at, Body: Hash(m.Body.HashKey()), QueryID: queryOf(m.Body), MessageLT: out.selfLT}
	if out.selfLT != 0 || len(out.transfers) == 0 {
		return []Event{e}
	}
	e.MessageLT = out.transfers[0].LT
	return []Event{e, Executed{Tx: at, MessageLT: e.MessageLT, Outs: out.transfers, Note: out.note}}
}

// queryOf reads the query id out of the body of a highload wallet's message: a signature, and in a cell of its own
// subwallet, message, mode and query id. It is 0 for other bodies.
func queryOf(body *cell.Cell) QueryID {
	payload, err := body.PeekRef(0)
	if err != nil {
		return 0
	}
	s, err := payload.BeginParse()
	if err != nil {
		return 0
	}
	const subwalletAndMode = 32 + 8
	if _, err = s.LoadSlice(subwalletAndMode); err != nil {
		return 0
	}
	q, err := s.LoadUInt(queryBits)
	if err != nil {
		return 0
	}
	return QueryID(q)
}

// opOf reads the operation at the start of a body. Bodies too short for one count as text.
func opOf(body *cell.Cell) uint64 {
	if body == nil {
		return opText
	}
	s, err := body.BeginParse()
	if err != nil || s.BitsLeft() < 32 {
		return opText
	}
	op, err := s.LoadUInt(32)
	if err != nil {
		return opText
	}
	return op
}

// readNote reads the note of a batch, nil if the body is something else.
func readNote(body *cell.Cell) []byte {
	if opOf(body) != opNote {
		return nil
	}
	s, err := body.BeginParse()
	if err != nil {
		return nil
	}
	if _, err = s.LoadUInt(32); err != nil || s.BitsLeft()%8 != 0 {
		return nil
	}
	note, err := s.LoadSlice(s.BitsLeft())
	if err != nil {
		return nil
	}
	return note
}

// sentBack reports whether the transaction returned the money that came with its message.
func sentBack(tx *tlb.Transaction) bool {
	d, ok := tx.Description.(tlb.TransactionDescriptionOrdinary)
	if !ok || d.BouncePhase == nil {
		return false
	}
	_, bounced := d.BouncePhase.Phase.(tlb.BouncePhaseOk)
	return bounced
}
