package tonnet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
)

// A snapshot is the state of both chains after one block, so that a start need not apply all blocks. The blocks remain
// the truth: a snapshot that they do not confirm is ignored.
//
//	magic "TNS1" 4 | CRC-32C of the rest 4 | seqno 4 | bag of cells: shard state, masterchain state
const (
	snapshotMagic  = "TNS1"
	snapshotHeader = 4 + 4 + 4
)

// encodeSnapshot writes a snapshot.
func encodeSnapshot(seqno uint32, w *world) []byte {
	b := append([]byte(snapshotMagic), 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, seqno)
	b = append(b, cell.ToBOCWithOptions([]*cell.Cell{w.shard, w.master}, cell.BOCSerializeOptions{})...)
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	return b
}

// parseSnapshot reads a snapshot.
func parseSnapshot(b []byte) (seqno uint32, w *world, err error) {
	bad := schemas.Errorf(schemas.KindCorrupt, "tonnet: snapshot does not parse")
	if len(b) < snapshotHeader || string(b[:4]) != snapshotMagic || crc32.Checksum(b[8:], castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return 0, nil, bad
	}
	roots, err := cell.FromBOCMultiRoot(b[snapshotHeader:])
	if err != nil || len(roots) != 2 {
		return 0, nil, bad
	}
	return binary.LittleEndian.Uint32(b[8:]), &world{shard: roots[0], master: roots[1]}, nil
}

// snapshot keeps the newest state on disk.
func (n *Net) snapshot() error {
	if n.cfg.Dir == "" || n.chain.last() == 0 {
		return nil
	}
	return writeFile(filepath.Join(n.cfg.Dir, snapshotFile), encodeSnapshot(n.chain.last(), n.chain.head()))
}

// restore makes the newest state: from the snapshot if there is a good one, else from the first block.
func (n *Net) restore() error {
	seqno, w := uint32(0), &world{shard: emptyState(), master: emptyState()}
	if n.cfg.Dir != "" {
		s, kept, err := n.loadSnapshot()
		switch {
		case err == nil:
			seqno, w = s, kept
			n.chain.keep(seqno, w)
		case !errors.Is(err, fs.ErrNotExist):
			n.log.Warn("snapshot ignored, applying all blocks", "error", err)
		}
	}
	return n.chain.replay(seqno, w)
}

// loadSnapshot reads the snapshot and compares it with the block that it claims to follow.
func (n *Net) loadSnapshot() (uint32, *world, error) {
	b, err := os.ReadFile(filepath.Join(n.cfg.Dir, snapshotFile))
	if err != nil {
		return 0, nil, fmt.Errorf("tonnet: %w", err)
	}
	seqno, w, err := parseSnapshot(b)
	if err != nil {
		return 0, nil, err
	}
	if seqno == 0 || seqno > n.chain.last() {
		return 0, nil, schemas.Errorf(schemas.KindCorrupt, "tonnet: snapshot of block %d, newest is %d", seqno, n.chain.last())
	}
	blk, err := n.chain.block(seqno)
	if err != nil {
		return 0, nil, err
	}
	for _, workchain := range []int32{basechain, masterchain} {
		after, err := stateHash(blk.root(workchain))
		if err != nil {
			return 0, nil, err
		}
		if !bytes.Equal(after, w.of(workchain).Hash()) {
			return 0, nil, schemas.Errorf(schemas.KindCorrupt, "tonnet: snapshot is not the state after block %d", seqno)
		}
	}
	return seqno, w, nil
}

// stateHash is the hash of the state after a block, as the block commits to it.
func stateHash(blk *cell.Cell) ([]byte, error) {
	const stateUpdate, after = 2, 1
	update, err := blk.PeekRef(stateUpdate)
	if err != nil {
		return nil, err
	}
	next, err := update.PeekRef(after)
	if err != nil {
		return nil, err
	}
	return next.Hash(0), nil
}
