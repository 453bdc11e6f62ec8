package chaintest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// Backend is a network that settlement could pay on.
type Backend interface {
	// Connect makes a fresh client that is closed when the test ends.
	Connect(t testing.TB) *ton.Chain
	// Fund gives money to an address, some blocks later at most.
	Fund(t testing.TB, to schemas.Owner, amount schemas.NanoTON)
	// Step lets at least so much chain time pass, with at least one block.
	Step(t testing.TB, by time.Duration)
}

// maxSteps bounds how many blocks a test waits for something.
const maxSteps = 20

// Run runs the suite, on a fresh backend for each test.
func Run(t *testing.T, open func(t testing.TB) Backend) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"clock", testClock}, {"state", testState}, {"pay", testPay}, {"pay one", testPayOne}, {"send again", testSendAgain},
		{"note", testNote}, {"full batch", testFullBatch}, {"query ids", testQueryIDs}, {"deposits", testDeposits},
		{"pages", testPages}, {"cursor", testCursor}, {"bounce", testBounce}, {"too poor", testTooPoor}, {"expiry", testExpiry},
		{"parallel batches", testParallel}, {"refusals", testRefusals},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			test.run(&suite{T: t, backend: b, chain: b.Connect(t)})
		})
	}
}

// suite is one test on one backend.
type suite struct {
	*testing.T
	backend Backend
	chain   *ton.Chain
}

// key is the i-th key of the suite.
func key(i int) ed25519.PrivateKey {
	sum := sha256.Sum256(fmt.Appendf(nil, "chaintest %d", i))
	return ed25519.NewKeyFromSeed(sum[:])
}

// owner is the i-th receiver of the suite, an address without code.
func owner(i int) schemas.Owner {
	return schemas.Owner(fmt.Sprintf("0:%x", sha256.Sum256(fmt.Appendf(nil, "owner %d", i))))
}

// treasury is a funded wallet that is not deployed yet.
func (s *suite) treasury(fund schemas.NanoTON) *ton.Treasury {
	s.Helper()
	t, err := s.chain.Treasury(key(0), ton.TreasuryOptions{Timeout: 10 * time.Minute})
	check(s, err)
	s.fund(t.Account, fund)
	return t
}

// fund gives money and waits until it is there.
func (s *suite) fund(a *ton.Account, amount schemas.NanoTON) {
	s.Helper()
	before := s.state(a).Last
	s.backend.Fund(s, a.Address(), amount)
	s.await("money from the faucet", func() bool { return s.state(a).Last != before })
}

// await steps until something is so.
func (s *suite) await(what string, so func() bool) {
	s.Helper()
	for range maxSteps {
		if so() {
			return
		}
		s.backend.Step(s, time.Second)
	}
	s.Fatalf("no %s after %d steps", what, maxSteps)
}

func (s *suite) state(a *ton.Account) ton.State {
	s.Helper()
	st, err := a.State(s.Context())
	check(s, err)
	return st
}

// balance is what an address has by a proven answer.
func (s *suite) balance(o schemas.Owner) schemas.NanoTON {
	s.Helper()
	a, err := s.chain.Account(o)
	check(s, err)
	return s.state(a).Balance
}

func (s *suite) now() ton.BlockTime {
	s.Helper()
	b, err := s.chain.Now(s.Context())
	check(s, err)
	return b
}

// batch is n transfers of the same amount, dated now.
func (s *suite) batch(q ton.QueryID, n int, amount schemas.NanoTON) ton.Batch {
	b := ton.Batch{QueryID: q, CreatedAt: ton.CreatedAt(s.now()), Deploy: true}
	for i := range n {
		b.Transfers = append(b.Transfers, ton.Transfer{To: owner(int(q)*1000 + i), Amount: amount, Comment: fmt.Sprintf("batch %s", q)})
	}
	return b
}

func (s *suite) sign(t *ton.Treasury, b ton.Batch) ton.Signed {
	s.Helper()
	signed, err := t.Sign(b)
	check(s, err)
	return signed
}

// events reads all of an account's history after a cursor.
func (s *suite) events(a *ton.Account, after ton.Cursor) (events []ton.Event, at ton.BlockTime) {
	s.Helper()
	for {
		page, err := a.History(s.Context(), after, 0)
		check(s, err)
		events = append(events, page.Events...)
		if after = page.Next; page.Complete {
			return events, page.At
		}
	}
}

// outcome is what history says about a batch.
type outcome struct {
	accepted []ton.Accepted
	executed []ton.Executed
}

// outcome reads what became of a signed batch so far.
func (s *suite) outcome(t *ton.Treasury, signed ton.Signed) (o outcome) {
	s.Helper()
	events, _ := s.events(t.Account, ton.Cursor{})
	lts := map[uint64]bool{}
	for _, e := range events {
		switch e := e.(type) {
		case ton.Accepted:
			if e.Body == signed.Body {
				o.accepted = append(o.accepted, e)
				lts[e.MessageLT] = true
			}
		case ton.Executed:
			if lts[e.MessageLT] {
				o.executed = append(o.executed, e)
			}
		}
	}
	return o
}

// pay sends a batch until it is executed.
func (s *suite) pay(t *ton.Treasury, b ton.Batch) outcome {
	s.Helper()
	signed := s.sign(t, b)
	check(s, t.Send(s.Context(), signed.BoC))
	var o outcome
	s.await("execution", func() bool { o = s.outcome(t, signed); return len(o.executed) > 0 })
	return o
}

// paidAll compares what left the wallet, and what arrived, with what the batch asked for.
func (s *suite) paidAll(b ton.Batch, o outcome) {
	s.Helper()
	if len(o.accepted) != 1 || len(o.executed) != 1 {
		s.Fatalf("accepted %d times, executed %d times", len(o.accepted), len(o.executed))
	}
	if got := o.accepted[0].QueryID; got != b.QueryID {
		s.Errorf("query id %s, want %s", got, b.QueryID)
	}
	outs := o.executed[0].Outs
	if len(outs) != len(b.Transfers) {
		s.Fatalf("%d transfers left the wallet, want %d", len(outs), len(b.Transfers))
	}
	for i, want := range b.Transfers {
		if got := outs[i]; got.To != want.To || got.Amount != want.Amount || got.Comment != want.Comment || got.LT == 0 {
			s.Errorf("transfer %d: %+v, want %+v", i, got, want)
		}
	}
	last := b.Transfers[len(b.Transfers)-1]
	s.await("the last transfer", func() bool { return s.balance(last.To) == last.Amount })
	for _, want := range b.Transfers {
		if got := s.balance(want.To); got != want.Amount {
			s.Errorf("%s has %s, want %s", want.To, got, want.Amount)
		}
	}
}

// isKind fails the test unless err has the kind.
func (s *suite) isKind(err error, kind schemas.Kind) {
	s.Helper()
	if !errors.Is(err, kind) {
		s.Errorf("%v, want kind %s", err, kind)
	}
}

func testClock(s *suite) {
	first := s.now()
	s.backend.Step(s, 10*time.Second)
	second := s.now()
	if second.Seqno <= first.Seqno || second.Time.Sub(first.Time) < 10*time.Second {
		s.Errorf("%+v after %+v and 10 s", second, first)
	}
	if first.Time.Location() != time.UTC || first.Time.Nanosecond() != 0 {
		s.Errorf("time %v is not UTC in whole seconds", first.Time)
	}
	other := s.backend.Connect(s)
	if got, err := other.Now(s.Context()); err != nil || got.Seqno < second.Seqno {
		s.Errorf("another client sees %+v, %v", got, err)
	}
}

func testState(s *suite) {
	a, err := s.chain.Account(owner(1))
	check(s, err)
	if st := s.state(a); st.Balance != 0 || st.Deployed || !st.Last.IsZero() || st.At.Seqno == 0 {
		s.Errorf("account that does not exist: %+v", st)
	}
	t := s.treasury(10 * schemas.TON)
	st := s.state(t.Account)
	if st.Balance != 10*schemas.TON || st.Deployed || st.Last.IsZero() {
		s.Errorf("funded wallet: %+v", st)
	}
	s.pay(t, s.batch(1, 2, schemas.TON))
	after := s.state(t.Account)
	if !after.Deployed || after.Balance >= 8*schemas.TON || after.Last.LT <= st.Last.LT {
		s.Errorf("after the first batch: %+v", after)
	}
}

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

func testDeposits(s *suite) {
	t := s.treasury(schemas.TON)
	start := s.state(t.Account).Last
	payer, err := s.chain.Wallet(key(1))
	check(s, err)
	s.fund(payer.Account, 100*schemas.TON)
	memos := []string{"tenant:1", "", "tenant:2"}
	for i, memo := range memos {
		seen := s.state(payer.Account).Last
		check(s, payer.Send(s.Context(), ton.Transfer{To: t.Address(), Amount: schemas.TON * schemas.NanoTON(i+1), Comment: memo, Bounce: i == 2}))
		s.await("sending", func() bool { return s.state(payer.Account).Last != seen })
	}
	var got []ton.Deposit
	s.await("three deposits", func() bool {
		got = nil
		events, _ := s.events(t.Account, start)
		for _, e := range events {
			if d, ok := e.(ton.Deposit); ok {
				got = append(got, d)
			}
		}
		return len(got) >= 2
	})
	for i, d := range got {
		if d.From != payer.Address() || d.Memo != memos[i] || d.Amount != schemas.TON*schemas.NanoTON(i+1) || d.LT == 0 {
			s.Errorf("deposit %d: %+v", i, d)
		}
	}
	// The wallet is not deployed, so the third, which asked to be sent back, was.
	s.await("the third back", func() bool { return s.balance(payer.Address()) > 96*schemas.TON })
	if len(got) != 2 {
		s.Errorf("%d deposits, want 2: one came back to its sender", len(got))
	}
	if got := s.balance(t.Address()); got < 4*schemas.TON-schemas.TON/100 || got > 4*schemas.TON {
		s.Errorf("balance %s, want about 4 TON", got)
	}
}

func testPages(s *suite) {
	t := s.treasury(schemas.TON)
	const n = 50
	for i := range n {
		s.backend.Fund(s, t.Address(), schemas.NanoTON(i+1)*schemas.TON/100)
		if i%10 == 9 {
			s.backend.Step(s, time.Second)
		}
	}
	want, _ := s.events(t.Account, ton.Cursor{})
	if len(want) != n+1 {
		s.Fatalf("%d events, want %d", len(want), n+1)
	}
	for _, limit := range []int{1, 7, 16, 50, 51, 200} {
		a, err := s.backend.Connect(s).Account(t.Address())
		check(s, err)
		var got []ton.Event
		var after ton.Cursor
		for complete := false; !complete; {
			page, err := a.History(s.Context(), after, limit)
			check(s, err)
			if len(page.Events) > limit || page.Next == after {
				s.Fatalf("limit %d: %d events, next %s", limit, len(page.Events), page.Next)
			}
			got = append(got, page.Events...)
			after, complete = page.Next, page.Complete
		}
		for i := range want {
			if i >= len(got) || got[i] != want[i] {
				s.Fatalf("limit %d: event %d of %d differs", limit, i, len(got))
			}
		}
		page, err := a.History(s.Context(), after, limit)
		if err != nil || len(page.Events) != 0 || !page.Complete || page.Next != after {
			s.Errorf("limit %d: at the end %+v, %v", limit, page, err)
		}
	}
}

func testCursor(s *suite) {
	t := s.treasury(schemas.TON)
	s.fund(t.Account, schemas.TON)
	last := s.state(t.Account).Last
	forged := last
	forged.Hash[0] ^= 1
	between := ton.Cursor{LT: last.LT - 1, Hash: last.Hash}
	for name, c := range map[string]ton.Cursor{"another hash": forged, "no transaction": between} {
		_, err := t.History(s.Context(), c, 0)
		if !errors.Is(err, ton.ErrCursor) || !errors.Is(err, schemas.KindCorrupt) {
			s.Errorf("%s: %v", name, err)
		}
	}
	_, err := t.History(s.Context(), ton.Cursor{LT: last.LT + 1, Hash: last.Hash}, 0)
	if !errors.Is(err, ton.ErrStale) || !schemas.Retriable(err) {
		s.Errorf("cursor ahead of the chain: %v", err)
	}
	_, err = t.History(s.Context(), last, ton.MaxPage+1)
	s.isKind(err, schemas.KindInvalid)
}

func testBounce(s *suite) {
	t := s.treasury(10 * schemas.TON)
	b := s.batch(1, 2, schemas.TON)
	b.Transfers[0].Bounce = true // to an address without code
	o := s.pay(t, b)
	if len(o.executed) != 1 || len(o.executed[0].Outs) != 2 {
		s.Fatalf("%+v", o)
	}
	var back []ton.Bounced
	s.await("the bounce", func() bool {
		back = nil
		events, _ := s.events(t.Account, o.executed[0].Cursor)
		for _, e := range events {
			if e, ok := e.(ton.Bounced); ok {
				back = append(back, e)
			}
		}
		return len(back) > 0
	})
	if len(back) != 1 || back[0].From != b.Transfers[0].To || back[0].Amount >= schemas.TON || back[0].Amount < schemas.TON*99/100 {
		s.Errorf("came back: %+v", back)
	}
	if x, y := s.balance(b.Transfers[0].To), s.balance(b.Transfers[1].To); x != 0 || y != schemas.TON {
		s.Errorf("receivers have %s and %s", x, y)
	}
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
