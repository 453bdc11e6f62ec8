package tonnet

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"math/big"

	"github.com/xssnick/tonutils-go/adnl/keys"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// fileHash is the hash of a serialised block.
func fileHash(boc []byte) [32]byte { return sha256.Sum256(boc) }

// serialize writes a block as block files are written.
func serialize(root *cell.Cell) []byte {
	return root.ToBOCWithOptions(cell.BOCSerializeOptions{WithIndex: true, WithCRC32C: true})
}

// seal turns a draft into a shard block and the masterchain block that registers it.
func (n *Net) seal(d *draft) (*record, *block, *world, error) {
	prev := &world{shard: emptyState(), master: emptyState()}
	if d.prev != nil {
		prev = n.chain.head()
	}
	next := &world{}
	b := &block{entry: entry{seqno: d.seqno, utime: d.utime, startLT: d.startLT, endLT: d.lt}, carry: d.carry}
	r := &record{}
	var err error
	if b.shard, next.shard, err = n.sealChain(prev.shard, basechain, d); err != nil {
		return nil, nil, nil, fmt.Errorf("tonnet: shard block %d: %w", d.seqno, err)
	}
	r.shardBoC = serialize(b.shard)
	b.entry.shard = blockID{root: [32]byte(b.shard.Hash()), file: fileHash(r.shardBoC)}
	if d.shardHashes, err = b.shardHashes(); err != nil {
		return nil, nil, nil, fmt.Errorf("tonnet: shard block %d: %w", d.seqno, err)
	}
	if b.master, next.master, err = n.sealChain(prev.master, masterchain, d); err != nil {
		return nil, nil, nil, fmt.Errorf("tonnet: masterchain block %d: %w", d.seqno, err)
	}
	r.masterBoC = serialize(b.master)
	b.entry.master = blockID{root: [32]byte(b.master.Hash()), file: fileHash(r.masterBoC)}
	if len(d.carry) > 0 {
		r.carryBoC = cell.ToBOCWithOptions(d.carry, cell.BOCSerializeOptions{})
	}
	r.entry = b.entry
	return r, b, next, nil
}

// sealChain makes the block of one chain and the state after it.
func (n *Net) sealChain(prev *cell.Cell, workchain int32, d *draft) (blk, next *cell.Cell, err error) {
	update, next, err := n.transition(prev, workchain, d)
	if err != nil {
		return nil, nil, err
	}
	head, err := n.blockHeader(workchain, d).ToCell()
	if err != nil {
		return nil, nil, err
	}
	extra, err := n.blockExtra(workchain, d)
	if err != nil {
		return nil, nil, err
	}
	const magic = 0x11ef55aa
	flow := fields(0xb8e48dfb, 32) // a value flow without values
	b := cell.BeginCell().MustStoreUInt(magic, 32).MustStoreInt(GlobalID, 32)
	return b.MustStoreRef(head).MustStoreRef(flow).MustStoreRef(update).MustStoreRef(extra).EndCell(), next, nil
}

// blockHeader describes the block.
func (n *Net) blockHeader(workchain int32, d *draft) tlb.BlockHeader {
	var h tlb.BlockHeader
	h.NotMaster = workchain != masterchain
	h.KeyBlock = workchain == masterchain
	h.SeqNo, h.GenUtime, h.StartLt, h.EndLt = d.seqno, d.utime, d.startLT, d.lt
	h.Shard = tlb.ShardIdent{WorkchainID: workchain}
	h.GenValidatorListHashShort = n.setHash
	h.MinRefMcSeqno = d.seqno
	h.PrevKeyBlockSeqno = d.seqno - 1
	none := tlb.ExtBlkRef{RootHash: make([]byte, 32), FileHash: make([]byte, 32)}
	h.PrevRef.Prev1 = none
	if d.prev != nil {
		h.PrevRef.Prev1 = d.prev.ref(workchain)
	}
	if h.NotMaster {
		h.MasterRef = &none
		if d.prev != nil {
			ref := d.prev.ref(masterchain)
			h.MasterRef = &ref
		}
	}
	return h
}

// blockExtra holds the transactions and, on the masterchain, the shard blocks and the config.
func (n *Net) blockExtra(workchain int32, d *draft) (*cell.Cell, error) {
	in, err := tlb.NewInMsgDescrAugDict()
	if err != nil {
		return nil, err
	}
	out, err := tlb.NewOutMsgDescrAugDict()
	if err != nil {
		return nil, err
	}
	accounts, err := d.accountBlocks(workchain)
	if err != nil {
		return nil, err
	}
	custom, err := n.masterBlockExtra(workchain, d)
	if err != nil {
		return nil, err
	}
	const magic = 0x4a33f6fd
	b := cell.BeginCell().MustStoreUInt(magic, 32)
	for _, dict := range []interface{ ToCell() (*cell.Cell, error) }{in, out, accounts} {
		c, err := dict.ToCell()
		if err != nil {
			return nil, err
		}
		b.MustStoreRef(c)
	}
	createdBy := n.validator.Public().(ed25519.PublicKey)
	return b.MustStoreSlice(d.seed[:], 256).MustStoreSlice(createdBy, 256).MustStoreMaybeRef(custom).EndCell(), nil
}

// accountBlocks groups the transactions of one chain by account.
func (d *draft) accountBlocks(workchain int32) (*tlb.ShardAccountBlocksAugDict, error) {
	blocks, err := tlb.NewShardAccountBlocksAugDict()
	if err != nil {
		return nil, err
	}
	byAccount := map[accountKey][]transaction{}
	for _, t := range d.transactions {
		byAccount[t.account] = append(byAccount[t.account], t)
	}
	for _, key := range d.changed(workchain) {
		list, err := tlb.NewAccountTransactionsAugDict()
		if err != nil {
			return nil, err
		}
		for _, t := range byAccount[key] {
			if err = list.Set(fields(t.lt, 64), cell.BeginCell().MustStoreRef(t.cell).EndCell()); err != nil {
				return nil, err
			}
		}
		inline, err := list.InlineCell()
		if err != nil {
			return nil, err
		}
		const accountTag, hashUpdateTag = 0x5, 0x72
		update := cell.BeginCell().MustStoreUInt(hashUpdateTag, 8).MustStoreSlice(d.before[key], 256).MustStoreSlice(d.accounts[key].hash(), 256).EndCell()
		b := cell.BeginCell().MustStoreUInt(accountTag, 4).MustStoreSlice(key.id[:], 256).MustStoreBuilder(inline.ToBuilder()).MustStoreRef(update)
		if err = blocks.SetBuilder(accountID(key.id[:]), b); err != nil {
			return nil, err
		}
	}
	return blocks, nil
}

// masterBlockExtra is nil for shard blocks. Every masterchain block is a key block, as every block is signed anyway: a
// client can then go from any block it trusts to any later one in a single step.
func (n *Net) masterBlockExtra(workchain int32, d *draft) (*cell.Cell, error) {
	if workchain != masterchain {
		return nil, nil
	}
	fees, err := tlb.NewShardFeesAugDict()
	if err != nil {
		return nil, err
	}
	feesCell, err := fees.ToCell()
	if err != nil {
		return nil, err
	}
	const magic, keyBlock = 0xcca5, true
	noDetails := cell.BeginCell().MustStoreDict(nil).MustStoreMaybeRef(nil).MustStoreMaybeRef(nil).EndCell()
	return cell.BeginCell().MustStoreUInt(magic, 16).MustStoreBoolBit(keyBlock).MustStoreDict(d.shardHashes).
		MustStoreBuilder(feesCell.ToBuilder()).MustStoreRef(noDetails).
		MustStoreSlice(configAddress, 256).MustStoreRef(n.params).EndCell(), nil
}

// shardHashes names the block in the masterchain.
func (b *block) shardHashes() (*cell.Dictionary, error) {
	id := b.id(basechain)
	zero := tlb.CurrencyCollection{Coins: tlb.FromNanoTONU(0)}
	desc := tlb.ShardDesc{
		SeqNo: b.seqno, RegMcSeqno: b.seqno, StartLT: b.startLT, EndLT: b.endLT, RootHash: id.RootHash,
		FileHash: id.FileHash, NextValidatorShard: wholeShard, MinRefMcSeqNo: b.seqno, GenUTime: b.utime, SplitMergeAt: tlb.FutureSplitMergeNone{},
	}
	desc.Currencies.FeesCollected, desc.Currencies.FundsCreated = zero, zero
	c, err := tlb.ToCell(desc)
	if err != nil {
		return nil, err
	}
	const leaf = false // of a binary tree with one shard
	tree := cell.BeginCell().MustStoreBoolBit(leaf).MustStoreBuilder(c.ToBuilder()).EndCell()
	hashes := cell.NewDict(32)
	err = hashes.SetIntKey(big.NewInt(basechain), cell.BeginCell().MustStoreRef(tree).EndCell())
	return hashes, err
}

// validatorSetHash is the short hash by which headers and signatures name the validator set.
func validatorSetHash(key ed25519.PublicKey) (uint32, error) {
	item := tonapi.ValidatorItemHashable{Key: key, Weight: validatorWeight, Addr: make([]byte, 32)}
	b, err := tl.Serialize(tonapi.ValidatorSetHashable{Validators: []tonapi.ValidatorItemHashable{item}}, true)
	if err != nil {
		return 0, err
	}
	return crc32.Checksum(b, castagnoli), nil
}

// sign signs a masterchain block as the validators would.
func (n *Net) sign(id *tonapi.BlockIDExt) (tonapi.SignatureSetOrdinary, error) {
	key := n.validator.Public().(ed25519.PublicKey)
	msg, err := tl.Serialize(tonapi.BlockID{RootHash: id.RootHash, FileHash: id.FileHash}, true)
	if err != nil {
		return tonapi.SignatureSetOrdinary{}, err
	}
	node, err := tl.Hash(keys.PublicKeyED25519{Key: key})
	if err != nil {
		return tonapi.SignatureSetOrdinary{}, err
	}
	return tonapi.SignatureSetOrdinary{
		ValidatorSetHash: int32(n.setHash),
		Signatures:       []tonapi.Signature{{NodeIDShort: bytes.Clone(node), Signature: ed25519.Sign(n.validator, msg)}},
	}, nil
}
