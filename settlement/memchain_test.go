package settlement_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// memChain is a chain of one treasury and one deposit wallet in memory. It has what payers get wrong: batches are taken
// in one block and carried out in a later one, a batch without funds is taken and dropped, money that runs out in the
// middle pays a prefix, and used query ids and late or early batches are refused without a trace.
type memChain struct {
	mu       sync.Mutex
	now      time.Time
	seqno    uint32
	lt       uint64
	treasury memWallet
	deposits memWallet
	timeout  time.Duration
	used     map[ton.QueryID]bool
	mempool  [][]byte
	pending  []memPending
	received map[schemas.Owner]schemas.NanoTON
	sends    int
	// notes are the notes seen on chain.
	notes [][]byte
	// bounce names addresses that send money back, less a fee that is lost.
	bounce map[schemas.Owner]bool
	lost   map[schemas.Owner]schemas.NanoTON
	// fault is asked before each send; it may drop, deliver with an error, or hold a message back.
	fault func() sendFault
	held  [][]byte
}

// memWallet is one address.
type memWallet struct {
	address schemas.Owner
	balance schemas.NanoTON
	events  []ton.Event
}

// memPending is a batch that was taken and not carried out.
type memPending struct {
	batch   ton.Batch
	message uint64
	block   uint32
}

// sendFault is what happens to a sent message.
type sendFault int

const (
	sendDelivered sendFault = iota
	sendLost
	sendDeliveredButError
	sendHeld
)

// newMemChain starts a chain with a funded treasury.
func newMemChain(funds schemas.NanoTON) *memChain {
	m := &memChain{
		now: time.Unix(1_790_000_000, 0).UTC(), timeout: 10 * time.Minute,
		treasury: memWallet{address: ledgertest.Owner(0xfff0), balance: 0}, deposits: memWallet{address: ledgertest.Owner(0xfff1)},
		used: map[ton.QueryID]bool{}, received: map[schemas.Owner]schemas.NanoTON{}, bounce: map[schemas.Owner]bool{}, lost: map[schemas.Owner]schemas.NanoTON{},
	}
	m.arrive(&m.treasury, ledgertest.Owner(1), funds, settlement.TopUpMemo)
	return m
}

// tx makes the name of a new transaction.
func (c *memChain) tx() ton.Tx {
	c.lt++
	return ton.Tx{Cursor: ton.Cursor{LT: c.lt, Hash: ton.Hash(sha256.Sum256(binary.BigEndian.AppendUint64(nil, c.lt)))}, Time: c.now}
}

// arrive brings money to a wallet.
func (c *memChain) arrive(w *memWallet, from schemas.Owner, n schemas.NanoTON, memo string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.balance += n
	w.events = append(w.events, ton.Deposit{Tx: c.tx(), From: from, Amount: n, Memo: memo})
}

// produce makes a block: batches taken earlier are carried out, then messages are taken.
func (c *memChain) produce(dt time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.seqno = c.now.Add(dt), c.seqno+1
	var later []memPending
	for _, p := range c.pending {
		if p.block == c.seqno-1 {
			c.execute(p)
		} else {
			later = append(later, p)
		}
	}
	c.pending = later
	for _, boc := range c.mempool {
		c.accept(boc)
	}
	c.mempool = nil
}

// accept runs the wallet's checks on an external message.
func (c *memChain) accept(boc []byte) {
	var b ton.Batch
	if err := json.Unmarshal(boc, &b); err != nil {
		panic(err)
	}
	if !b.QueryID.Valid() || c.used[b.QueryID] || b.CreatedAt.After(c.now) || !c.now.Before(b.CreatedAt.Add(c.timeout)) {
		return
	}
	c.used[b.QueryID] = true
	e := ton.Accepted{Tx: c.tx(), Body: ton.Hash(sha256.Sum256(boc)), QueryID: b.QueryID}
	c.treasury.balance -= 1_000_000
	if c.treasury.balance >= b.Cost()-20_000_000 {
		e.MessageLT = e.LT + 1
		c.lt++
		c.pending = append(c.pending, memPending{b, e.MessageLT, c.seqno})
	}
	c.treasury.events = append(c.treasury.events, e)
}

// execute carries a batch out, as far as the money goes.
func (c *memChain) execute(p memPending) {
	e := ton.Executed{Tx: c.tx(), MessageLT: p.message, Note: p.batch.Note}
	for _, t := range p.batch.Transfers {
		if c.treasury.balance < t.Amount+1_000_000 {
			continue
		}
		c.lt++
		c.treasury.balance -= t.Amount + 1_000_000
		e.Outs = append(e.Outs, ton.Out{To: t.To, Amount: t.Amount, Comment: t.Comment, LT: c.lt})
		c.received[t.To] += t.Amount
	}
	c.notes = append(c.notes, p.batch.Note)
	c.treasury.events = append(c.treasury.events, e)
	for _, o := range e.Outs {
		if back := o.Amount - 630_000; c.bounce[o.To] && back > 0 {
			c.received[o.To] -= o.Amount
			c.lost[o.To] += o.Amount - back
			c.treasury.balance += back
			c.treasury.events = append(c.treasury.events, ton.Bounced{Tx: c.tx(), From: o.To, Amount: back})
		}
	}
}

// deliver puts a message that was held back into the mempool.
func (c *memChain) deliver(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mempool = append(c.mempool, c.held[i])
	c.held = append(c.held[:i], c.held[i+1:]...)
}

// at is the newest block.
func (c *memChain) at() ton.BlockTime { return ton.BlockTime{Seqno: c.seqno, Time: c.now} }

// memAccount reads one wallet of the chain.
type memAccount struct {
	c *memChain
	w *memWallet
}

func (a memAccount) Address() schemas.Owner { return a.w.address }

func (a memAccount) State(context.Context) (ton.State, error) {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	s := ton.State{At: a.c.at(), Balance: a.w.balance, Deployed: true}
	if n := len(a.w.events); n > 0 {
		s.Last = a.w.events[n-1].Where().Cursor
	}
	return s, nil
}

func (a memAccount) History(_ context.Context, after ton.Cursor, limit int) (ton.Page, error) {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	p := ton.Page{Next: after, At: a.c.at(), Complete: true}
	for _, e := range a.w.events {
		if e.Where().LT <= after.LT {
			continue
		}
		if len(p.Events) == limit {
			p.Complete = false
			break
		}
		p.Events, p.Next = append(p.Events, e), e.Where().Cursor
	}
	return p, nil
}

// memTreasury is the treasury of a memChain.
type memTreasury struct{ memAccount }

func (t memTreasury) Sign(b ton.Batch) (ton.Signed, error) {
	boc, err := json.Marshal(b)
	return ton.Signed{BoC: boc, Body: ton.Hash(sha256.Sum256(boc))}, err
}

func (t memTreasury) Send(_ context.Context, boc []byte) error {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	t.c.sends++
	fault := sendDelivered
	if t.c.fault != nil {
		fault = t.c.fault()
	}
	switch fault {
	case sendLost:
		return nil
	case sendHeld:
		t.c.held = append(t.c.held, boc)
		return nil
	case sendDeliveredButError:
		t.c.mempool = append(t.c.mempool, boc)
		return errors.New("liteserver timed out")
	default:
		t.c.mempool = append(t.c.mempool, boc)
		return nil
	}
}

func (t memTreasury) Expired(created time.Time, at ton.BlockTime) bool {
	return at.Time.After(created.Add(t.c.timeout + time.Minute))
}

var _ settlement.Treasury = memTreasury{}

// pays is the treasury as a Payer sees it.
func (c *memChain) pays() memTreasury { return memTreasury{memAccount{c, &c.treasury}} }

// memJournal is a journal in memory.
type memJournal struct {
	mu sync.Mutex
	m  map[uint64][]byte
}

func (j *memJournal) Put(_ context.Context, n uint64, record []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if have, ok := j.m[n]; ok && string(have) != string(record) {
		return schemas.Errorf(schemas.KindConflict, "batch %d is in the journal with other contents", n)
	}
	if j.m == nil {
		j.m = map[uint64][]byte{}
	}
	j.m[n] = record
	return nil
}

func (j *memJournal) After(_ context.Context, n uint64, limit int) ([][]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all [][]byte
	for _, k := range slices.Sorted(maps.Keys(j.m)) { // there are holes: batches that expired before they were published
		if k > n && len(all) < limit {
			all = append(all, j.m[k])
		}
	}
	return all, nil
}
