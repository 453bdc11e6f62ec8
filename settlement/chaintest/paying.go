package chaintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

func testPay(s *suite) {
	t := s.treasury(100 * schemas.TON)
	b := s.batch(1, 20, schemas.TON/3)
	if x, y := s.sign(t, b), s.sign(t, b); !bytes.Equal(x.BoC, y.BoC) || x.Body != y.Body {
		s.Error("signing twice gives two messages")
	}
	s.paidAll(b, s.pay(t, b))
	b = s.batch(2, 3, schemas.TON)
	b.Deploy = false
	s.paidAll(b, s.pay(t, b))
}

func testPayOne(s *suite) {
	t := s.treasury(10 * schemas.TON)
	b := s.batch(5, 1, schemas.TON)
	o := s.pay(t, b)
	s.paidAll(b, o)
	if o.accepted[0].MessageLT == 0 {
		s.Error("no message")
	}
}

func testSendAgain(s *suite) {
	t := s.treasury(100 * schemas.TON)
	b := s.batch(1, 5, schemas.TON)
	signed := s.sign(t, b)
	for range 10 {
		_ = t.Send(s.Context(), signed.BoC) // the network may refuse what it has; that says nothing
		s.backend.Step(s, time.Second)
	}
	s.paidAll(b, s.outcome(t, signed))
}

func testNote(s *suite) {
	t := s.treasury(100 * schemas.TON)
	for q, n := range []int{1, 7} {
		b := s.batch(ton.QueryID(q+1), n, schemas.TON)
		b.Note = bytes.Repeat([]byte{byte(q), 0xFF}, ton.MaxNote/2)
		o := s.pay(t, b)
		s.paidAll(b, o)
		if !bytes.Equal(o.executed[0].Note, b.Note) {
			s.Errorf("note on chain is %x, want %x", o.executed[0].Note, b.Note)
		}
	}
}

func testFullBatch(s *suite) {
	b := s.batch(1, ton.MaxTransfers, schemas.TON/20)
	b.Note = make([]byte, ton.MaxNote)
	for i := range b.Transfers {
		b.Transfers[i].Comment = fmt.Sprintf("%0*d", ton.MaxComment, i)
	}
	t := s.treasury(b.Cost())
	s.paidAll(b, s.pay(t, b))
}

func testQueryIDs(s *suite) {
	t := s.treasury(100 * schemas.TON)
	q := ton.QueryID(1021)
	for range 3 {
		b := s.batch(q, 2, schemas.TON)
		s.paidAll(b, s.pay(t, b))
		q = q.Next()
	}
	b := s.batch(1023, 2, schemas.TON)
	_, err := t.Sign(b)
	s.isKind(err, schemas.KindInvalid)
}

func testBounce(s *suite) {
	t := s.treasury(10 * schemas.TON)
	refuser := s.backend.Refuser(s, 1)
	s.await("the contract", func() bool { return s.balance(refuser) > 0 })
	before := s.balance(refuser)
	b := s.batch(1, 3, schemas.TON)
	b.Transfers[0].Bounce = true // to an address without code
	b.Transfers[1].Bounce, b.Transfers[1].To = true, refuser
	o := s.pay(t, b)
	if len(o.executed) != 1 || len(o.executed[0].Outs) != 3 {
		s.Fatalf("%+v", o)
	}
	back := map[schemas.Owner]ton.Bounced{}
	s.await("the bounces", func() bool {
		events, _ := s.events(t.Account, o.executed[0].Cursor)
		for _, e := range events {
			if e, ok := e.(ton.Bounced); ok {
				back[e.From] = e
			}
		}
		return len(back) == 2
	})
	for _, x := range b.Transfers[:2] {
		if got := back[x.To].Amount; got >= schemas.TON || got < schemas.TON*99/100 {
			s.Errorf("%s came back from %s", got, x.To)
		}
	}
	if x, y, z := s.balance(b.Transfers[0].To), s.balance(refuser), s.balance(b.Transfers[2].To); x != 0 || y > before || z != schemas.TON {
		s.Errorf("receivers have %s, %s after %s, and %s", x, y, before, z)
	}
	// Without the flag the contract refuses the message all the same, and the money stays.
	b = s.batch(2, 2, schemas.TON)
	b.Deploy, b.Transfers[0].To = false, refuser
	s.pay(t, b)
	s.await("money that stays", func() bool { return s.balance(refuser) > schemas.TON })
}

func testTooPoor(s *suite) {
	t := s.treasury(3 * schemas.TON)
	b := s.batch(1, 5, schemas.TON)
	signed := s.sign(t, b)
	check(s, t.Send(s.Context(), signed.BoC))
	var o outcome
	s.await("acceptance", func() bool { o = s.outcome(t, signed); return len(o.accepted) > 0 })
	if len(o.accepted) != 1 || o.accepted[0].MessageLT != 0 || len(o.executed) != 0 {
		s.Errorf("%+v", o)
	}
	s.backend.Step(s, time.Second)
	for _, x := range b.Transfers {
		if got := s.balance(x.To); got != 0 {
			s.Errorf("%s has %s", x.To, got)
		}
	}
}

func testExpiry(s *suite) {
	t := s.treasury(10 * schemas.TON)
	b := s.batch(1, 2, schemas.TON)
	signed := s.sign(t, b)
	if t.Expired(b.CreatedAt, s.now()) {
		s.Error("expired when it was made")
	}
	s.backend.Step(s, t.Timeout()+2*time.Minute)
	events, at := s.events(t.Account, ton.Cursor{})
	if !t.Expired(b.CreatedAt, at) {
		s.Errorf("made at %v, not expired at %v", b.CreatedAt, at.Time)
	}
	for _, e := range events {
		if _, ok := e.(ton.Accepted); ok {
			s.Error("accepted though never sent")
		}
	}
	_ = t.Send(s.Context(), signed.BoC)
	s.backend.Step(s, time.Second)
	s.backend.Step(s, time.Second)
	if o := s.outcome(t, signed); len(o.accepted) != 0 {
		s.Error("accepted after it expired")
	}
	again := s.batch(2, 2, schemas.TON)
	s.paidAll(again, s.pay(t, again))
}

func testParallel(s *suite) {
	one, two := s.batch(1, 10, schemas.TON), s.batch(2, 10, schemas.TON)
	t := s.treasury(one.Cost() + two.Cost())
	x, y := s.sign(t, one), s.sign(t, two)
	check(s, t.Send(s.Context(), x.BoC))
	check(s, t.Send(s.Context(), y.BoC))
	var ox, oy outcome
	s.await("both", func() bool {
		ox, oy = s.outcome(t, x), s.outcome(t, y)
		return len(ox.executed) > 0 && len(oy.executed) > 0
	})
	s.paidAll(one, ox)
	s.paidAll(two, oy)
}

func testRefusals(s *suite) {
	t := s.treasury(schemas.TON)
	for name, x := range map[string]struct {
		change func(*ton.Batch)
		kind   schemas.Kind
		field  string
	}{
		"too many":         {func(b *ton.Batch) { b.Transfers = s.batch(1, ton.MaxTransfers+1, 1).Transfers }, schemas.KindTooLarge, "transfers"},
		"none":             {func(b *ton.Batch) { b.Transfers = nil }, schemas.KindInvalid, "transfers"},
		"twice to one":     {func(b *ton.Batch) { b.Transfers[1].To = b.Transfers[0].To }, schemas.KindInvalid, "transfers[1].to"},
		"to itself":        {func(b *ton.Batch) { b.Transfers[1].To = t.Address() }, schemas.KindInvalid, "transfers[1].to"},
		"nothing":          {func(b *ton.Batch) { b.Transfers[0].Amount = 0 }, schemas.KindInvalid, "transfers[0].amount"},
		"less than none":   {func(b *ton.Batch) { b.Transfers[0].Amount = -1 }, schemas.KindInvalid, "transfers[0].amount"},
		"all there is":     {func(b *ton.Batch) { b.Transfers[0].Amount = ton.MaxAmount + 1 }, schemas.KindTooLarge, "transfers[0].amount"},
		"not an address":   {func(b *ton.Batch) { b.Transfers[0].To = "0:12" }, schemas.KindInvalid, "transfers[0].to"},
		"long comment":     {func(b *ton.Batch) { b.Transfers[0].Comment = string(make([]byte, ton.MaxComment+1)) }, schemas.KindTooLarge, "transfers[0].comment"},
		"broken comment":   {func(b *ton.Batch) { b.Transfers[0].Comment = "\xff" }, schemas.KindInvalid, "transfers[0].comment"},
		"long note":        {func(b *ton.Batch) { b.Note = make([]byte, ton.MaxNote+1) }, schemas.KindTooLarge, "note"},
		"query id 1023":    {func(b *ton.Batch) { b.QueryID = 1023 }, schemas.KindInvalid, "query_id"},
		"query id too big": {func(b *ton.Batch) { b.QueryID = 1 << 23 }, schemas.KindInvalid, "query_id"},
		"no time":          {func(b *ton.Batch) { b.CreatedAt = time.Time{} }, schemas.KindInvalid, "created_at"},
		"split second":     {func(b *ton.Batch) { b.CreatedAt = b.CreatedAt.Add(1) }, schemas.KindInvalid, "created_at"},
	} {
		b := s.batch(1, 2, schemas.TON)
		x.change(&b)
		_, err := t.Sign(b)
		var e *schemas.Error
		if !errors.As(err, &e) || e.Kind != x.kind || e.Field != x.field {
			s.Errorf("%s: %v, want %s on %s", name, err, x.kind, x.field)
		}
	}
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := t.State(ctx); !errors.Is(err, context.Canceled) {
		s.Errorf("cancelled: %v", err)
	}
}
