package tonnet

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
)

// ltStep is the distance of the logical times of two blocks, as in real networks.
const ltStep = 1_000_000

// accountKey names an account on either chain.
type accountKey struct {
	workchain int32
	id        [32]byte
}

// keyOf is the key of an address.
func keyOf(a *address.Address) accountKey {
	return accountKey{workchain: a.Workchain(), id: [32]byte(a.Data())}
}

// address is the inverse of keyOf.
func (k accountKey) address() *address.Address {
	return address.NewAddress(0, byte(k.workchain), k.id[:])
}

// account is an account made ready for execution.
type account struct {
	prepared *tvm.PreparedAccount
	// storage is the executor's bookkeeping of the account's cells; it makes the next transaction cheaper, nil is fine.
	storage *cell.Cell
}

// exists reports whether the account is in the state at all.
func (a *account) exists() bool {
	st := a.prepared.State()
	return st != nil && st.IsValid
}

// hash is the hash of the account's cell.
func (a *account) hash() []byte { return a.prepared.ShardAccount().Account.Hash() }

// draft is a block in the making. Until it is committed the network itself does not change.
type draft struct {
	prev         *entry
	seqno, utime uint32
	startLT, lt  uint64
	seed         [32]byte
	block        *tvm.BlockContext
	// accounts are those that changed, before holds their hashes at the start of the block.
	accounts map[accountKey]*account
	before   map[accountKey][]byte
	// transactions are in the order in which they happened.
	transactions []transaction
	// carry are messages for the next block.
	carry []*cell.Cell
	// shardHashes names the shard block, once it is sealed.
	shardHashes *cell.Dictionary
}

// changed lists the accounts of one chain that changed, in the order of their ids.
func (d *draft) changed(workchain int32) []accountKey {
	keys := slices.SortedFunc(maps.Keys(d.accounts), func(a, b accountKey) int {
		return cmp.Or(cmp.Compare(a.workchain, b.workchain), bytes.Compare(a.id[:], b.id[:]))
	})
	return slices.DeleteFunc(keys, func(k accountKey) bool { return k.workchain != workchain })
}

// transaction is one executed transaction.
type transaction struct {
	account accountKey
	lt      uint64
	cell    *cell.Cell
}

// newDraft begins the next block.
func (n *Net) newDraft() (*draft, error) {
	d := &draft{
		seqno:    n.chain.last() + 1,
		utime:    uint32(n.cfg.Now().Unix()),
		accounts: map[accountKey]*account{},
		before:   map[accountKey][]byte{},
	}
	if d.seqno > 1 {
		d.prev = &n.chain.entry(d.seqno - 1).entry
		d.utime = max(d.utime, d.prev.utime)
		d.lt = d.prev.endLT
	}
	d.startLT = (d.lt/ltStep + 1) * ltStep
	d.lt = d.startLT
	d.seed = sha256.Sum256(binary.BigEndian.AppendUint32(append([]byte("block"), n.genesis.Seed...), d.seqno))
	var err error
	d.block, err = n.prices.NewBlockContext(tvm.BlockOptions{Now: d.utime, BlockLT: int64(d.startLT), RandSeed: d.seed[:]})
	return d, err
}

// collate executes all that waits: messages from the last block, gifts, externals, and with SameBlock what these send.
func (n *Net) collate() (*draft, error) {
	d, err := n.newDraft()
	if err != nil {
		return nil, fmt.Errorf("tonnet: %w", err)
	}
	var queue []*cell.Cell
	if d.prev != nil {
		last, err := n.chain.block(d.prev.seqno)
		if err != nil {
			return nil, err
		}
		queue = append(queue, last.carry...)
	}
	queue = append(queue, n.gifts...)
	if queue, err = n.deliver(d, queue); err != nil {
		return nil, err
	}
	for _, ext := range n.mempool {
		sent, err := n.external(d, ext)
		if err != nil {
			return nil, err
		}
		queue = append(queue, sent...)
	}
	for n.cfg.SameBlock && len(queue) > 0 && len(d.transactions) < MaxBlockTransactions {
		if queue, err = n.deliver(d, queue); err != nil {
			return nil, err
		}
	}
	d.carry = append(d.carry, queue...)
	d.lt++
	return d, nil
}

// deliver executes internal messages and returns what they sent. What does not fit into the block is carried over.
func (n *Net) deliver(d *draft, queue []*cell.Cell) (sent []*cell.Cell, err error) {
	for i, msg := range queue {
		if len(d.transactions) >= MaxBlockTransactions {
			d.carry = append(d.carry, queue[i:]...)
			break
		}
		pm, err := tvm.PrepareMessage(msg)
		if err != nil {
			return nil, schemas.Errorf(schemas.KindInternal, "tonnet: internal message: %w", err)
		}
		_, out, err := n.execute(d, pm)
		if err != nil {
			return nil, schemas.Errorf(schemas.KindInternal, "tonnet: internal message: %w", err)
		}
		sent = append(sent, out...)
	}
	return sent, nil
}

// external executes an external message that was acceptable when it came. If it no longer is, it is dropped: an
// external that no contract pays for leaves no trace.
func (n *Net) external(d *draft, msg *cell.Cell) ([]*cell.Cell, error) {
	pm, err := tvm.PrepareMessage(msg)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "tonnet: external message: %w", err)
	}
	accepted, sent, err := n.execute(d, pm)
	if err != nil || !accepted {
		n.log.Info("external message dropped", "hash", fmt.Sprintf("%x", msg.Hash()), "block", d.seqno, "error", err)
		n.stats.Dropped++
		return nil, nil
	}
	return sent, nil
}

// execute runs one transaction and returns the internal messages that it sent.
func (n *Net) execute(d *draft, msg *tvm.PreparedMessage) (accepted bool, sent []*cell.Cell, err error) {
	key := keyOf(msg.Message().Msg.DestAddr())
	acc := d.accounts[key]
	if acc == nil {
		if acc, err = n.account(key); err != nil {
			return false, nil, err
		}
	}
	res, err := n.vm.EmulateTransaction(d.block, acc.prepared, msg, tvm.TransactionOptions{LogicalTime: int64(d.lt + 1), AccountStorageStat: acc.storage})
	if err != nil {
		return false, nil, err
	}
	if res.TransactionCell == nil {
		return false, nil, nil
	}
	if _, known := d.before[key]; !known {
		d.before[key] = acc.hash()
	}
	next := &account{prepared: res.NextAccount, storage: res.AccountStorageStat}
	d.accounts[key] = next
	d.transactions = append(d.transactions, transaction{account: key, lt: next.prepared.ShardAccount().LastTransLT, cell: res.TransactionCell})
	d.lt = max(d.lt, res.EndLT)
	for _, out := range res.OutMessages {
		if out.Msg.MsgType == tlb.MsgTypeInternal {
			sent = append(sent, out.Cell)
		}
	}
	return true, sent, nil
}

// account returns an account as of the newest block.
func (n *Net) account(key accountKey) (*account, error) {
	if acc := n.accounts[key]; acc != nil {
		return acc, nil
	}
	shard := &tlb.ShardAccount{Account: cell.BeginCell().MustStoreBoolBit(false).EndCell(), LastTransHash: make([]byte, 32)}
	if w := n.chain.head(); w != nil {
		st, err := parseState(w.of(key.workchain))
		if err != nil {
			return nil, err
		}
		v, err := st.Accounts.ShardAccounts.LoadValue(accountID(key.id[:]))
		if err == nil {
			err = tlb.LoadFromCell(shard, v)
		}
		if err != nil && !errors.Is(err, cell.ErrNoSuchKeyInDict) {
			return nil, err
		}
	}
	p, err := tvm.PrepareAccount(shard, key.address())
	if err != nil {
		return nil, err
	}
	acc := &account{prepared: p}
	n.remember(key, acc)
	return acc, nil
}

// remember caches an account, forgetting all when there are too many.
func (n *Net) remember(key accountKey, acc *account) {
	if len(n.accounts) >= keepAccounts {
		clear(n.accounts)
	}
	n.accounts[key] = acc
}
