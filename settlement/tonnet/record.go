package tonnet

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
)

// blockID names one block of either chain by its two hashes: of the root cell and of the serialised bytes.
type blockID struct {
	root, file [32]byte
}

// entry is what the index knows about one masterchain block and the shard block that it registers; both have the same
// seqno, time and logical times.
type entry struct {
	seqno, utime   uint32
	startLT, endLT uint64
	shard, master  blockID
}

// record is an entry with its blocks as they lie in the log.
type record struct {
	entry
	// shardBoC and masterBoC are the serialised blocks; entry's file hashes are theirs.
	shardBoC, masterBoC []byte
	// carryBoC holds the messages that the next block delivers, as the roots of one bag; empty when there are none.
	carryBoC []byte
}

// The layout of a record, all integers little-endian:
//
//	magic "TNB1"    4
//	header sum      4   CRC-32C of the rest of the header
//	bags' sum       4   CRC-32C of the three bags
//	lengths         3*4 of the shard block, the master block and the carried messages
//	seqno, utime    2*4
//	startLT, endLT  2*8
//	hashes          4*32 shard root, shard file, master root, master file
//	the three bags
const (
	recordMagic = "TNB1"
	summedFrom  = 8
	headerSize  = summedFrom + 4 + 3*4 + 2*4 + 2*8 + 4*32
)

// maxBag bounds each bag of a record: 64 MiB, some hundred times the largest block.
const maxBag = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the fixed part of a record.
type header struct {
	entry
	sum     uint32
	lengths [3]uint32
}

// size is the length of the whole record.
func (h *header) size() int64 {
	return headerSize + int64(h.lengths[0]) + int64(h.lengths[1]) + int64(h.lengths[2])
}

// encode writes the record.
func (r *record) encode() []byte {
	bags := [3][]byte{r.shardBoC, r.masterBoC, r.carryBoC}
	b := make([]byte, summedFrom+4, headerSize+len(bags[0])+len(bags[1])+len(bags[2]))
	copy(b, recordMagic)
	for _, bag := range bags {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(bag)))
	}
	b = binary.LittleEndian.AppendUint32(b, r.seqno)
	b = binary.LittleEndian.AppendUint32(b, r.utime)
	b = binary.LittleEndian.AppendUint64(b, r.startLT)
	b = binary.LittleEndian.AppendUint64(b, r.endLT)
	for _, h := range [][32]byte{r.shard.root, r.shard.file, r.master.root, r.master.file} {
		b = append(b, h[:]...)
	}
	for _, bag := range bags {
		b = append(b, bag...)
	}
	binary.LittleEndian.PutUint32(b[summedFrom:], crc32.Checksum(b[headerSize:], castagnoli))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[summedFrom:headerSize], castagnoli))
	return b
}

// Sentinels of the log.
var (
	// errTorn says that bytes are the beginning of a record: what a crash in the middle of a write leaves.
	errTorn = schemas.Errorf(schemas.KindCorrupt, "tonnet: torn record")
	// errNoRecord says that bytes are not a record.
	errNoRecord = schemas.Errorf(schemas.KindCorrupt, "tonnet: not a block record")
)

// parseHeader reads the fixed part.
func parseHeader(b []byte) (header, error) {
	if len(b) < headerSize {
		return header{}, errTorn
	}
	if string(b[:4]) != recordMagic || binary.LittleEndian.Uint32(b[4:]) != crc32.Checksum(b[summedFrom:headerSize], castagnoli) {
		return header{}, errNoRecord
	}
	var h header
	b = b[summedFrom:]
	h.sum, b = binary.LittleEndian.Uint32(b), b[4:]
	for i := range h.lengths {
		if h.lengths[i], b = binary.LittleEndian.Uint32(b), b[4:]; h.lengths[i] > maxBag {
			return header{}, errNoRecord
		}
	}
	h.seqno, h.utime, b = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), b[8:]
	h.startLT, h.endLT, b = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), b[16:]
	for i, dst := range []*[32]byte{&h.shard.root, &h.shard.file, &h.master.root, &h.master.file} {
		copy(dst[:], b[32*i:])
	}
	return h, nil
}

// parseRecord reads one record that fills b exactly.
func parseRecord(b []byte) (*record, error) {
	h, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != h.size() || crc32.Checksum(b[headerSize:], castagnoli) != h.sum {
		return nil, errTorn
	}
	r := &record{entry: h.entry}
	rest := b[headerSize:]
	for i, dst := range []*[]byte{&r.shardBoC, &r.masterBoC, &r.carryBoC} {
		*dst, rest = rest[:h.lengths[i]:h.lengths[i]], rest[h.lengths[i]:]
	}
	return r, nil
}

// block is a record with its cells.
type block struct {
	entry
	shard, master *cell.Cell
	// carry are the internal messages that the next block delivers.
	carry []*cell.Cell
}

// open parses the bags of a record and checks that they are the blocks that the entry names.
func (r *record) open() (*block, error) {
	b := &block{entry: r.entry}
	var err error
	if b.shard, err = openBag(r.shardBoC, r.entry.shard); err != nil {
		return nil, err
	}
	if b.master, err = openBag(r.masterBoC, r.entry.master); err != nil {
		return nil, err
	}
	if len(r.carryBoC) > 0 {
		if b.carry, err = cell.FromBOCMultiRoot(r.carryBoC); err != nil {
			return nil, schemas.Errorf(schemas.KindCorrupt, "tonnet: block %d: carried messages: %w", r.seqno, err)
		}
	}
	return b, nil
}

// openBag parses one block and compares both of its hashes.
func openBag(boc []byte, id blockID) (*cell.Cell, error) {
	root, err := cell.FromBOC(boc)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindCorrupt, "tonnet: block does not parse: %w", err)
	}
	if fileHash(boc) != id.file || !bytes.Equal(root.Hash(), id.root[:]) {
		return nil, schemas.Errorf(schemas.KindCorrupt, "tonnet: block does not match its hashes")
	}
	return root, nil
}
