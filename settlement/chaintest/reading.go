package chaintest

import (
	"errors"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

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
