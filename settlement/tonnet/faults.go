package tonnet

import (
	"context"
	"time"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
)

// Faults are the ways in which a server misbehaves. The zero value is an honest server. They can be changed at any time
// and hold for requests that come after.
type Faults struct {
	// Down leaves every request without an answer.
	Down bool
	// Delay holds back every answer.
	Delay time.Duration
	// Lag shows the chain as it was so many blocks ago.
	Lag uint32
	// Freeze shows the chain as it was when block Freeze was the newest; 0 does not.
	Freeze uint32
	// Submit decides what becomes of each external message; nil delivers them.
	Submit func(boc []byte) Fate
	// Hide reports whether to deny that an account exists, by a proof that leaves the place open where it would be.
	Hide func(tonapi.AccountID) bool
	// Answer may replace any answer; nil leaves them. It sees values of package ton, such as ton.AccountState.
	Answer func(query, answer tl.Serializable) tl.Serializable
	// Impostor answers from another network: a forged chain, consistent in itself. Messages still go to the server's own.
	Impostor *Net
}

// Fate is what becomes of an external message.
type Fate int

// The fates.
const (
	// Deliver passes the message on and says what the contract said.
	Deliver Fate = iota
	// Lose says that the message was passed on, and forgets it.
	Lose
	// DeliverButFail passes the message on and says that this failed.
	DeliverButFail
	// Fail says that passing on failed, and it did.
	Fail
	// Hold says that the message was passed on, and keeps it for Release.
	Hold
)

// Sentinels of misbehaviour.
var (
	// errDown stands for an answer that never comes.
	errDown = schemas.Errorf(schemas.KindUnavailable, "tonnet: liteserver does not answer")
	// errSend is the answer of failed and allegedly failed sends.
	errSend = tonapi.LSError{Code: codeInternal, Text: "message could not be passed on"}
)

// SetFaults makes the server misbehave from now on.
func (s *Server) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// Faults returns how the server misbehaves.
func (s *Server) Faults() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// hinder delays or prevents an answer.
func (f Faults) hinder(ctx context.Context) error {
	if f.Down {
		return errDown
	}
	if f.Delay <= 0 {
		return nil
	}
	t := time.NewTimer(f.Delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// head is the newest block that the server shows. The first is always shown.
func (f Faults) head(last uint32) uint32 {
	if f.Freeze > 0 {
		last = min(last, f.Freeze)
	}
	return max(1, last-min(last, f.Lag))
}

// send carries out the fate of an external message.
func (s *Server) send(f Faults, boc []byte) (tl.Serializable, error) {
	fate := Deliver
	if f.Submit != nil {
		fate = f.Submit(boc)
	}
	const sent = 1
	switch fate {
	case Fail:
		return nil, errSend
	case Hold:
		s.hold(boc)
	case DeliverButFail:
		if err := s.net.submit(boc); err != nil {
			s.net.log.Debug("message not accepted", "error", err)
		}
		return nil, errSend
	case Deliver:
		if err := s.net.submit(boc); err != nil {
			return nil, err
		}
	case Lose:
	}
	return tonapi.SendMessageStatus{Status: sent}, nil
}

// hold keeps a message back; the oldest is lost when there are too many.
func (s *Server) hold(boc []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) >= maxHeld {
		s.held = s.held[1:]
	}
	s.held = append(s.held, boc)
}

// Held counts the messages kept back by Hold.
func (s *Server) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}

// Release passes on the i-th message kept back, oldest first, and returns what the contract said to it.
func (s *Server) Release(i int) error {
	s.mu.Lock()
	if i < 0 || i >= len(s.held) {
		s.mu.Unlock()
		return schemas.Errorf(schemas.KindNotFound, "tonnet: no message %d is held", i)
	}
	boc := s.held[i]
	s.held = append(s.held[:i:i], s.held[i+1:]...)
	s.mu.Unlock()
	return s.net.submit(boc)
}

// hiddenAccount answers getAccountState with a true proof of everything but what was asked: the accounts are cut out of
// it, and the state is missing. A client that takes "not in the proof" for "does not exist" believes it.
func (v view) hiddenAccount(q tonapi.GetAccountState) (tl.Serializable, error) {
	out, err := v.accountAt(q.ID, q.Account)
	if err != nil {
		return nil, err
	}
	b, err := v.find(q.ID)
	if err != nil {
		return nil, err
	}
	w, err := v.state(b.seqno)
	if err != nil {
		return nil, err
	}
	out.State = nil
	out.Proof[1], err = prove(w.of(q.Account.Workchain), func(root *cell.Cell) error {
		st, err := parseState(root)
		if err != nil {
			return err
		}
		_, err = st.Accounts.ShardAccounts.LoadRootExtra()
		return err
	})
	return out, err
}

// FlipSignatures is an Answer that breaks the validator's signatures.
func FlipSignatures(_, answer tl.Serializable) tl.Serializable {
	p, ok := answer.(tonapi.PartialBlockProof)
	if !ok {
		return answer
	}
	for i, step := range p.Steps {
		link, ok := step.(tonapi.BlockLinkForward)
		if !ok {
			continue
		}
		if set, ok := link.SignatureSet.(tonapi.SignatureSetOrdinary); ok {
			set.Signatures[0].Signature[0] ^= 1
			link.SignatureSet = set
			p.Steps[i] = link
		}
	}
	return p
}

// ReplaceStates is an Answer that gives accounts another balance than the proof says.
func ReplaceStates(balance tlb.Coins) func(query, answer tl.Serializable) tl.Serializable {
	return func(_, answer tl.Serializable) tl.Serializable {
		a, ok := answer.(tonapi.AccountState)
		if !ok || a.State == nil {
			return answer
		}
		var st tlb.AccountState
		if tlb.Parse(&st, a.State) != nil {
			return answer
		}
		st.Balance = balance
		if c, err := tlb.ToCell(&st); err == nil {
			a.State = c
		}
		return a
	}
}

// ShortenHistory is an Answer that leaves out the newest transaction of each page.
func ShortenHistory(_, answer tl.Serializable) tl.Serializable {
	list, ok := answer.(tonapi.TransactionList)
	if !ok || len(list.IDs) == 0 {
		return answer
	}
	cells, err := cell.FromBOCMultiRoot(list.Transactions)
	if err != nil {
		return answer
	}
	list.IDs, list.Transactions = list.IDs[1:], nil
	if len(cells) > 1 {
		list.Transactions = cell.ToBOCWithOptions(cells[1:], cell.BOCSerializeOptions{})
	}
	return list
}
