package ton

import (
	"reflect"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
)

// TestDecode lists what may come into an account and what it counts as. Above all, nobody but the wallet itself can make
// a batch look executed.
func TestDecode(t *testing.T) {
	t.Parallel()
	const self, other schemas.Owner = "0:1111111111111111111111111111111111111111111111111111111111111111", "0:2222222222222222222222222222222222222222222222222222222222222222"
	me, err := toAddress(self)
	if err != nil {
		t.Fatal(err)
	}
	you, err := toAddress(other)
	if err != nil {
		t.Fatal(err)
	}
	a := &Account{owner: self, addr: me}
	text := func(s string) *cell.Cell {
		return cell.BeginCell().MustStoreUInt(opText, 32).MustStoreSlice([]byte(s), uint(len(s))*8).EndCell()
	}
	batch := cell.BeginCell().MustStoreUInt(opSelf, 32).MustStoreUInt(7, 64).MustStoreRef(cell.BeginCell().EndCell()).EndCell()
	at := Tx{Cursor: Cursor{LT: 10, Hash: Hash{9}}, Time: time.Unix(1000, 0).UTC()}
	sentBack := &tlb.BouncePhase{Phase: tlb.BouncePhaseOk{}}
	tooSmall := &tlb.BouncePhase{Phase: tlb.BouncePhaseNoFunds{}}
	for name, x := range map[string]struct {
		in     tlb.InternalMessage
		bounce *tlb.BouncePhase
		want   Event
	}{
		"deposit":                {tlb.InternalMessage{SrcAddr: you, Amount: coins(5), Body: text("tenant:1")}, nil, Deposit{at, other, 5, "tenant:1"}},
		"without memo":           {tlb.InternalMessage{SrcAddr: you, Amount: coins(5), Body: cell.BeginCell().EndCell()}, nil, Deposit{at, other, 5, ""}},
		"with another body":      {tlb.InternalMessage{SrcAddr: you, Amount: coins(5), Body: cell.BeginCell().MustStoreUInt(1, 32).EndCell()}, nil, Deposit{at, other, 5, ""}},
		"from nowhere":           {tlb.InternalMessage{SrcAddr: address.NewAddressNone(), Amount: coins(5), Body: text("x")}, nil, Deposit{at, "", 5, "x"}},
		"sent back":              {tlb.InternalMessage{SrcAddr: you, Amount: coins(5), Bounce: true, Body: text("x")}, sentBack, Other{at, "deposit sent back"}},
		"too small to send back": {tlb.InternalMessage{SrcAddr: you, Amount: coins(5), Bounce: true, Body: text("x")}, tooSmall, Deposit{at, other, 5, "x"}},
		"empty":                  {tlb.InternalMessage{SrcAddr: you, Body: text("x")}, nil, Other{at, "message without money"}},
		"bounced":                {tlb.InternalMessage{SrcAddr: you, Amount: coins(5), Bounced: true, Body: text("tenant:1")}, nil, Bounced{at, other, 5}},
		"from itself":            {tlb.InternalMessage{SrcAddr: me, Amount: coins(5), Body: text("x")}, nil, Other{at, "message to self"}},
		"own batch":              {tlb.InternalMessage{SrcAddr: me, Amount: coins(5), CreatedLT: 8, Body: batch}, nil, Executed{Tx: at, MessageLT: 8}},
		"a stranger's batch":     {tlb.InternalMessage{SrcAddr: you, Amount: coins(5), CreatedLT: 8, Body: batch}, nil, Deposit{at, other, 5, ""}},
		"same id, other chain": {
			tlb.InternalMessage{SrcAddr: address.NewAddress(0, 0xFF, me.Data()), Amount: coins(5), Body: batch},
			nil,
			Deposit{at, "-1:" + self[2:], 5, ""},
		},
		"own batch, bounced": {tlb.InternalMessage{SrcAddr: me, Amount: coins(5), Bounced: true, Body: batch}, nil, Bounced{at, self, 5}},
	} {
		tx := &tlb.Transaction{LT: 10, Hash: at.Hash[:], Now: 1000, Description: tlb.TransactionDescriptionOrdinary{BouncePhase: x.bounce}}
		tx.IO.In = &tlb.Message{MsgType: tlb.MsgTypeInternal, Msg: &x.in}
		got, err := a.decode(tx)
		if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], x.want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, x.want)
		}
	}
	got, err := a.decode(&tlb.Transaction{LT: 10, Hash: at.Hash[:], Now: 1000})
	if err != nil || len(got) != 1 || got[0] != Event(Other{at, "no incoming message"}) {
		t.Errorf("%+v, %v", got, err)
	}
}
