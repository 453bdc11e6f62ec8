package settlement

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"github.com/cocoon-network/cocoon/schemas"
)

// The trees here are those of RFC 6962 (certificate transparency): leaf = SHA-256(0x00 ‖ data), node = SHA-256(0x01 ‖
// left ‖ right), the left subtree of n leaves holding the largest power of two below n. Two levels are used: the
// receipts of one payout item, and the items of one payout batch. The root of the second stands on chain.

// receiptLeaf is the leaf of a receipt: the hash of its compact JWS and what its worker's owner earned with it.
func receiptLeaf(receipt schemas.Hash, earned schemas.NanoTON) schemas.Hash {
	b := append([]byte{0}, receipt[:]...)
	return sha256.Sum256(binary.BigEndian.AppendUint64(b, uint64(earned)))
}

// leaf is the leaf of a payout item. Strings are preceded by their length, so that no two items have one encoding.
func (s *StatementItem) leaf() schemas.Hash {
	b := []byte{0}
	for _, text := range []string{string(s.To), s.Purpose} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	for _, n := range []uint64{uint64(s.Amount), uint64(s.Earned), uint64(s.Carried), s.Receipts} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return sha256.Sum256(append(b, s.Root[:]...))
}

// node hashes two subtrees together.
func node(left, right schemas.Hash) schemas.Hash {
	b := append([]byte{1}, left[:]...)
	return sha256.Sum256(append(b, right[:]...))
}

// tree computes a root, and on request the path of one leaf, while leaves are added one by one. It keeps one hash per
// level, so ten million receipts need no more memory than ten.
type tree struct {
	size uint64
	// peaks are the roots of the complete subtrees so far, one for each bit set in size, largest first.
	peaks []schemas.Hash
	// want is the index of the leaf whose path is kept, when wanted.
	want   uint64
	wanted bool
	path   []schemas.Hash
}

// add appends a leaf.
func (t *tree) add(leaf schemas.Hash) {
	first, h := t.size, leaf // the subtree that is growing covers leaves first … t.size
	for n := t.size; n&1 == 1; n >>= 1 {
		left := t.peaks[len(t.peaks)-1]
		t.peaks = t.peaks[:len(t.peaks)-1]
		width := t.size + 1 - first
		t.note(first-width, left, first, h, t.size+1)
		first -= width
		h = node(left, h)
	}
	t.peaks = append(t.peaks, h)
	t.size++
}

// note keeps the sibling when the wanted leaf lies in one of two subtrees that become one: left covers leaves from …
// middle, right middle … end.
func (t *tree) note(from uint64, left schemas.Hash, middle uint64, right schemas.Hash, end uint64) {
	switch {
	case !t.wanted || t.want < from || t.want >= end:
	case t.want < middle:
		t.path = append(t.path, right)
	default:
		t.path = append(t.path, left)
	}
}

// root is the root of the leaves added so far, zero for none. It completes the path, so it is called once, at the end.
func (t *tree) root() schemas.Hash {
	if t.size == 0 {
		return schemas.Hash{}
	}
	last := len(t.peaks) - 1
	h, end := t.peaks[last], t.size
	first := end - end&-end // where the smallest complete subtree begins
	for i := last - 1; i >= 0; i-- {
		width := first & -first
		t.note(first-width, t.peaks[i], first, h, end)
		first -= width
		h = node(t.peaks[i], h)
	}
	return h
}

// maxPath is the longest path that any tree of 2^64 leaves has.
const maxPath = 64

// rootOf climbs from a leaf to the root of a tree of the given size; ok is false when the path does not fit the shape.
func rootOf(leaf schemas.Hash, index, size uint64, path []schemas.Hash) (root schemas.Hash, ok bool) {
	if index >= size || len(path) > maxPath {
		return root, false
	}
	inner := bits.Len64(index ^ (size - 1)) // below this level the leaf's subtree is complete
	border := bits.OnesCount64(index >> inner)
	if len(path) != inner+border {
		return root, false
	}
	h := leaf
	for i, sibling := range path {
		if i >= inner || index>>i&1 == 1 {
			h = node(sibling, h)
		} else {
			h = node(h, sibling)
		}
	}
	return h, true
}
