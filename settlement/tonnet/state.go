package tonnet

import (
	"fmt"
	"math/big"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// emptyState stands for the state before the first block.
func emptyState() *cell.Cell { return cell.BeginCell().MustStoreUInt(0, 8).EndCell() }

// parseState parses a chain's state, recording what it loads if the cell is traced.
func parseState(root *cell.Cell) (*tlb.ShardStateUnsplit, error) {
	s, err := root.BeginParse()
	if err != nil {
		return nil, err
	}
	var st tlb.ShardStateUnsplit
	if err = tlb.LoadFromCellAsProof(&st, s); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return &st, nil
}

// accountID is the key of an account within its chain.
func accountID(id []byte) *cell.Cell { return cell.BeginCell().MustStoreSlice(id, 256).EndCell() }

// transition makes the state of one chain after a block, and the Merkle update that leads there. It builds the new state
// out of the old one under a usage tree, so that the update holds only what changed. Every state but the first, at any
// time and after any restart, is the previous one with such an update applied.
func (n *Net) transition(prev *cell.Cell, workchain int32, d *draft) (update, next *cell.Cell, err error) {
	if d.seqno == 1 {
		st, err := firstState(workchain)
		if err != nil {
			return nil, nil, err
		}
		if next, err = n.fillState(st, workchain, d); err != nil {
			return nil, nil, err
		}
		update, err = cell.CreateMerkleUpdate(prev, next)
		return update, next, err
	}
	tree := cell.NewCellUsageTree()
	st, err := parseState(prev.WithTrace(tree.RootTrace()))
	if err != nil {
		return nil, nil, err
	}
	traced, err := n.fillState(st, workchain, d)
	if err != nil {
		return nil, nil, err
	}
	if update, err = tree.CreateMerkleUpdate(prev, traced); err != nil {
		return nil, nil, fmt.Errorf("merkle update: %w", err)
	}
	if next, _, err = cell.ApplyMerkleUpdate(prev, update); err != nil {
		return nil, nil, fmt.Errorf("merkle update: %w", err)
	}
	return update, next, nil
}

// firstState is a chain's state with nothing in it.
func firstState(workchain int32) (*tlb.ShardStateUnsplit, error) {
	queue, err := emptyQueue()
	if err != nil {
		return nil, err
	}
	st := &tlb.ShardStateUnsplit{
		GlobalID:        GlobalID,
		ShardIdent:      tlb.ShardIdent{WorkchainID: workchain},
		OutMsgQueueInfo: queue,
		Stats:           emptyStats(),
	}
	if st.Accounts.ShardAccounts, err = tlb.NewShardAccountsAugDict(); err != nil {
		return nil, err
	}
	return st, nil
}

// fillState brings a parsed state up to the block in the making.
func (n *Net) fillState(st *tlb.ShardStateUnsplit, workchain int32, d *draft) (*cell.Cell, error) {
	st.Seqno, st.GenUTime, st.GenLT, st.MinRefMCSeqno = d.seqno, d.utime, d.lt, d.seqno
	for _, key := range d.changed(workchain) {
		if err := d.accounts[key].store(st.Accounts.ShardAccounts, accountID(key.id[:])); err != nil {
			return nil, fmt.Errorf("account %x: %w", key.id, err)
		}
	}
	if workchain == masterchain {
		extra, err := n.masterExtra(st.McStateExtra, d)
		if err != nil {
			return nil, fmt.Errorf("masterchain state: %w", err)
		}
		st.McStateExtra = extra
	}
	return tlb.ToCell(st)
}

// store puts an account into the dictionary of its chain, or removes one that ceased to exist.
func (a *account) store(accounts *tlb.ShardAccountsAugDict, key *cell.Cell) error {
	if a.exists() {
		return accounts.Set(key, a.prepared.ShardAccountCell())
	}
	if _, err := accounts.LoadValue(key); err != nil {
		return nil // it was not there before either
	}
	return accounts.Delete(key)
}

// masterExtra makes the part of the masterchain's state that names shard blocks, earlier blocks and the config.
func (n *Net) masterExtra(prev *cell.Cell, d *draft) (*cell.Cell, error) {
	extra := tlb.McStateExtra{}
	blocks, err := cell.NewAugDict(32, oldBlocks{})
	if err != nil {
		return nil, err
	}
	extra.ConfigParams.ConfigAddr = configAddress
	extra.ConfigParams.Config.Params = n.params.AsDict(32)
	extra.GlobalBalance = tlb.CurrencyCollection{Coins: tlb.FromNanoTONU(0)}
	if prev != nil {
		if err = tlb.Parse(&extra, prev); err != nil {
			return nil, err
		}
		if blocks, err = loadOldBlocks(extra.Info); err != nil {
			return nil, err
		}
	}
	info := tlb.McStateExtraBlockInfo{PrevBlocks: &tlb.OldMcBlocksInfoAugDict{AugmentedDictionary: blocks}}
	if d.prev != nil {
		ref := d.prev.ref(masterchain)
		old, err := tlb.ToCell(tlb.KeyExtBlkRef{IsKey: true, BlkRef: ref})
		if err != nil {
			return nil, err
		}
		if err = blocks.SetIntKey(big.NewInt(int64(d.prev.seqno)), old); err != nil {
			return nil, err
		}
		info.AfterKeyBlock, info.LastKeyBlock = true, &ref
	}
	if extra.Info, err = info.ToCell(); err != nil {
		return nil, err
	}
	extra.ShardHashes = d.shardHashes
	return tlb.ToCell(extra)
}

// loadOldBlocks reads the dictionary of earlier blocks so that it can be written.
func loadOldBlocks(info *cell.Cell) (*cell.AugmentedDictionary, error) {
	s, err := info.BeginParse()
	if err != nil {
		return nil, err
	}
	const flags, validatorInfo = 16, 32 + 32 + 1
	if _, err = s.LoadSlice(flags + validatorInfo); err != nil {
		return nil, err
	}
	return s.LoadAugDict(32, oldBlocks{}, false)
}

// oldBlocks sums up the dictionary of earlier blocks: whether there is a key block, and the highest logical time.
type oldBlocks struct{}

var _ cell.Augmentation = oldBlocks{}

// keyMaxLT makes the sum's cell.
func keyMaxLT(key bool, lt uint64) *cell.Cell {
	return cell.BeginCell().MustStoreBoolBit(key).MustStoreUInt(lt, 64).EndCell()
}

// SkipExtra is that of cell.Augmentation.
func (oldBlocks) SkipExtra(s *cell.Slice) error {
	_, err := s.LoadSlice(1 + 64)
	return err
}

// EmptyExtra is that of cell.Augmentation.
func (oldBlocks) EmptyExtra() (*cell.Cell, error) { return keyMaxLT(false, 0), nil }

// LeafExtra is that of cell.Augmentation.
func (oldBlocks) LeafExtra(value *cell.Slice) (*cell.Cell, error) {
	var b tlb.KeyExtBlkRef
	if err := tlb.LoadFromCell(&b, value.Copy()); err != nil {
		return nil, err
	}
	return keyMaxLT(b.IsKey, b.BlkRef.EndLt), nil
}

// CombineExtra is that of cell.Augmentation.
func (oldBlocks) CombineExtra(left, right *cell.Slice) (*cell.Cell, error) {
	var l, r tlb.KeyMaxLt
	if err := tlb.LoadFromCell(&l, left); err != nil {
		return nil, err
	}
	if err := tlb.LoadFromCell(&r, right); err != nil {
		return nil, err
	}
	return keyMaxLT(l.IsKey || r.IsKey, max(l.MaxEndLT, r.MaxEndLT)), nil
}

// emptyQueue is the out-message queue of a state: ours is always written as empty.
func emptyQueue() (*cell.Cell, error) {
	d, err := tlb.NewOutMsgQueueAugDict()
	if err != nil {
		return nil, err
	}
	c, err := d.ToCell()
	if err != nil {
		return nil, err
	}
	const noProcessed, noExtra = false, false
	return cell.BeginCell().MustStoreBuilder(c.ToBuilder()).MustStoreBoolBit(noProcessed).MustStoreBoolBit(noExtra).EndCell(), nil
}

// emptyStats is the second part of a state: no history of load, no fees collected, no libraries.
func emptyStats() *cell.Cell {
	const noMasterRef = false
	b := cell.BeginCell().MustStoreUInt(0, 64).MustStoreUInt(0, 64) // overload and underload history
	noMoney(noMoney(b))                                             // total balance and validator fees
	return b.MustStoreMaybeRef(nil).MustStoreBoolBit(noMasterRef).EndCell()
}

// noMoney stores an empty CurrencyCollection.
func noMoney(b *cell.Builder) *cell.Builder { return b.MustStoreCoins(0).MustStoreMaybeRef(nil) }

// applyUpdate gives the state after a block from the state before it.
func applyUpdate(prev, blk *cell.Cell) (*cell.Cell, error) {
	const stateUpdate = 2
	update, err := blk.PeekRef(stateUpdate)
	if err != nil {
		return nil, err
	}
	next, _, err := cell.ApplyMerkleUpdate(prev, update)
	return next, err
}
