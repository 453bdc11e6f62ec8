package tonnet

import (
	"fmt"
	"sort"

	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
)

// Workchains.
const (
	masterchain = -1
	basechain   = 0
)

// wholeShard is the one shard of each chain.
const wholeShard = -1 << 63

// world is the state of both chains after a block.
type world struct {
	shard, master *cell.Cell
}

// of returns the state of one chain.
func (w *world) of(workchain int32) *cell.Cell {
	if workchain == masterchain {
		return w.master
	}
	return w.shard
}

// placed is an entry and where its record lies.
type placed struct {
	entry
	off, size int64
}

// archive is every block there is, and the states after the last KeepStates of them.
type archive struct {
	log *blockLog
	// index holds the blocks in order: index[i] has seqno i+1.
	index []placed
	// byRoot finds a block of either chain by its root hash.
	byRoot map[[32]byte]uint32
	// blocks caches parsed blocks; fifo says which to forget first.
	blocks map[uint32]*block
	fifo   []uint32
	states map[uint32]*world
}

// openArchive reads the index of the blocks on a medium.
func openArchive(on medium, sync bool) (*archive, error) {
	a := &archive{byRoot: map[[32]byte]uint32{}, blocks: map[uint32]*block{}, states: map[uint32]*world{}}
	var err error
	a.log, err = openLog(on, sync, func(h header, off int64) error {
		if h.seqno != uint32(len(a.index))+1 {
			return schemas.Errorf(schemas.KindCorrupt, "tonnet: block log: block %d after block %d", h.seqno, len(a.index))
		}
		a.add(placed{entry: h.entry, off: off, size: h.size()})
		return nil
	})
	return a, err
}

// add puts a block into the index.
func (a *archive) add(p placed) {
	a.index = append(a.index, p)
	a.byRoot[p.shard.root] = p.seqno
	a.byRoot[p.master.root] = p.seqno
}

// last is the seqno of the newest block, 0 before the first.
func (a *archive) last() uint32 { return uint32(len(a.index)) }

// entry returns the index entry of a block that exists.
func (a *archive) entry(seqno uint32) *placed { return &a.index[seqno-1] }

// block returns a block with its cells.
func (a *archive) block(seqno uint32) (*block, error) {
	if b := a.blocks[seqno]; b != nil {
		return b, nil
	}
	p := a.entry(seqno)
	r, err := a.log.read(p.off, p.size)
	if err != nil {
		return nil, fmt.Errorf("tonnet: block %d: %w", seqno, err)
	}
	if r.entry != p.entry {
		return nil, schemas.Errorf(schemas.KindCorrupt, "tonnet: block %d is not the block of the index", seqno)
	}
	b, err := r.open()
	if err != nil {
		return nil, err
	}
	a.remember(b)
	return b, nil
}

// remember caches a parsed block.
func (a *archive) remember(b *block) {
	a.blocks[b.seqno] = b
	a.fifo = append(a.fifo, b.seqno)
	if len(a.fifo) > keepBlocks {
		delete(a.blocks, a.fifo[0])
		a.fifo = a.fifo[1:]
	}
}

// bytes returns a block of one chain as it was serialised.
func (a *archive) bytes(seqno uint32, workchain int32) ([]byte, error) {
	p := a.entry(seqno)
	r, err := a.log.read(p.off, p.size)
	if err != nil {
		return nil, fmt.Errorf("tonnet: block %d: %w", seqno, err)
	}
	if workchain == masterchain {
		return r.masterBoC, nil
	}
	return r.shardBoC, nil
}

// commit appends a block with the state after it.
//
// Commit point: once the record is in the log the block is part of the chain, and only then does anybody see it. A crash
// before loses the block and whatever was in it; nobody knew of it. A crash in the middle leaves a torn record that the
// next start cuts off.
func (a *archive) commit(r *record, b *block, w *world) error {
	off, size, err := a.log.append(r)
	if err != nil {
		return err
	}
	a.add(placed{entry: r.entry, off: off, size: size})
	a.remember(b)
	a.keep(b.seqno, w)
	return nil
}

// keep stores the state after a block and forgets the oldest.
func (a *archive) keep(seqno uint32, w *world) {
	a.states[seqno] = w
	if seqno > KeepStates {
		delete(a.states, seqno-KeepStates)
	}
}

// replay applies the Merkle updates of all blocks after from to the state after it.
func (a *archive) replay(from uint32, w *world) error {
	for seqno := from + 1; seqno <= a.last(); seqno++ {
		b, err := a.block(seqno)
		if err != nil {
			return err
		}
		next := &world{}
		if next.shard, err = applyUpdate(w.shard, b.shard); err == nil {
			next.master, err = applyUpdate(w.master, b.master)
		}
		if err != nil {
			return schemas.Errorf(schemas.KindCorrupt, "tonnet: block %d does not follow: %w", seqno, err)
		}
		a.keep(seqno, next)
		w = next
	}
	return nil
}

// head returns the state after the newest block.
func (a *archive) head() *world { return a.states[a.last()] }

// at finds the block whose transactions include logical time lt.
func (a *archive) at(lt uint64) (uint32, bool) {
	i := sort.Search(len(a.index), func(i int) bool { return a.index[i].endLT >= lt })
	if i == len(a.index) || a.index[i].startLT > lt {
		return 0, false
	}
	return uint32(i + 1), true
}

// id is the name of a block of one chain, as it goes over the wire.
func (e *entry) id(workchain int32) *tonapi.BlockIDExt {
	h := e.shard
	if workchain == masterchain {
		h = e.master
	}
	return &tonapi.BlockIDExt{Workchain: workchain, Shard: wholeShard, SeqNo: e.seqno, RootHash: h.root[:], FileHash: h.file[:]}
}

// ref is how later blocks name a block.
func (e *entry) ref(workchain int32) tlb.ExtBlkRef {
	id := e.id(workchain)
	return tlb.ExtBlkRef{EndLt: e.endLT, SeqNo: e.seqno, RootHash: id.RootHash, FileHash: id.FileHash}
}

// root is the block's cell of one chain.
func (b *block) root(workchain int32) *cell.Cell {
	if workchain == masterchain {
		return b.master
	}
	return b.shard
}
