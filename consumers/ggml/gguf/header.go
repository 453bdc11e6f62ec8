package gguf

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of a header.
const (
	MaxKeys     = 1 << 16
	MaxTensors  = 1 << 16
	MaxElements = 1 << 22 // of one array
	MaxString   = 1 << 20 // bytes
	MaxHeader   = 256 << 20
	MaxDims     = 4
	maxAlign    = 1 << 12
)

// Header is what stands before the weights.
type Header struct {
	// Version is 2 or 3; both have the same layout.
	Version uint32
	// Keys in the order of the file, no name twice.
	Keys []Key
	// Tensors in the order of the file, no name twice.
	Tensors []Tensor
	// Size is the length of the header in bytes and Data where the weights begin; both are set by Parse.
	Size, Data int64
}

// Key is one entry of the metadata. Value is a bool, string, intN, uintN, floatN or a slice of one of them.
type Key struct {
	Name  string
	Value any
}

// Tensor describes the weights of one name. Dims has the fastest dimension first. Offset counts from Header.Data.
type Tensor struct {
	Name   string
	Dims   []uint64
	Type   Type
	Offset uint64
}

// The numbers of the value types in the file.
const (
	kindUint8 = iota
	kindInt8
	kindUint16
	kindInt16
	kindUint32
	kindInt32
	kindFloat32
	kindBool
	kindString
	kindArray
	kindUint64
	kindInt64
	kindFloat64
)

var magic = [4]byte{'G', 'G', 'U', 'F'}

// Parse reads the header of a file of the given size. Damage is KindCorrupt, an unknown version KindUnsupported and a
// header beyond a limit KindTooLarge; Error.Field is the key or tensor at fault.
func Parse(r io.ReaderAt, size int64) (*Header, error) {
	p := &parser{
		r:    bufio.NewReaderSize(io.NewSectionReader(r, 0, min(size, MaxHeader)), 64<<10),
		left: min(size, MaxHeader),
	}
	h := p.header()
	if p.err != nil {
		return nil, p.err
	}
	h.Size = min(size, MaxHeader) - p.left
	align, err := h.alignment()
	if err != nil {
		return nil, err
	}
	h.Data = (h.Size + align - 1) / align * align
	return h, nil
}

// alignment is what the start of the weights and of every tensor is a multiple of.
func (h *Header) alignment() (int64, error) {
	const usual = 32
	v, ok := h.Get("general.alignment")
	if !ok {
		return usual, nil
	}
	if n, ok := v.(uint32); ok && n > 0 && n <= maxAlign && n&(n-1) == 0 {
		return int64(n), nil
	}
	return 0, corrupt("general.alignment", "must be a power of two up to 4096")
}

// Get is the value of a key.
func (h *Header) Get(name string) (any, bool) {
	for _, k := range h.Keys {
		if k.Name == name {
			return k.Value, true
		}
	}
	return nil, false
}

// parser reads the header piece by piece. After the first error it only returns zero values.
type parser struct {
	r    *bufio.Reader
	left int64 // bytes that may still be read
	err  error
	buf  [8]byte
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// need reports whether n more bytes exist. It comes before every allocation.
func (p *parser) need(n int64) bool {
	if p.err == nil && (n < 0 || n > p.left) {
		p.fail(corrupt("", "the file ends inside its header"))
	}
	return p.err == nil
}

func (p *parser) read(b []byte) {
	if !p.need(int64(len(b))) {
		return
	}
	if _, err := io.ReadFull(p.r, b); err != nil {
		p.fail(&schemas.Error{Kind: schemas.KindCorrupt, Message: "the header cannot be read", Err: err})
	}
	p.left -= int64(len(b))
}

func (p *parser) u32() uint32 { p.read(p.buf[:4]); return binary.LittleEndian.Uint32(p.buf[:4]) }
func (p *parser) u64() uint64 { p.read(p.buf[:8]); return binary.LittleEndian.Uint64(p.buf[:8]) }

// count reads a number of things, each of at least size bytes.
func (p *parser) count(limit uint64, size int64, what string) int {
	n := p.u64()
	if p.err == nil && n > limit {
		p.fail(&schemas.Error{Kind: schemas.KindTooLarge, Message: fmt.Sprintf("the header has %d %s, at most %d are read", n, what, limit)})
	}
	if p.err != nil || !p.need(int64(n)*size) {
		return 0
	}
	return int(n)
}

func (p *parser) str() string {
	n := p.count(MaxString, 1, "bytes in a string")
	if p.err != nil || n == 0 {
		return ""
	}
	b := make([]byte, n)
	p.read(b)
	return string(b)
}

func (p *parser) header() *Header {
	h := &Header{}
	var m [4]byte
	p.read(m[:])
	if p.err == nil && m != magic {
		p.fail(corrupt("", "this is not a GGUF file"))
	}
	h.Version = p.u32()
	if p.err == nil && h.Version != 2 && h.Version != 3 {
		p.fail(&schemas.Error{Kind: schemas.KindUnsupported, Message: fmt.Sprintf("GGUF version %d, little endian, is not read", h.Version)})
	}
	const leastTensor, leastKey = 8 + 4 + 8 + 4 + 8, 8 + 4 + 1
	tensors := p.count(MaxTensors, leastTensor, "tensors")
	keys := p.count(MaxKeys, leastKey, "keys")
	seen := map[string]bool{}
	for range keys {
		k := Key{Name: p.str()}
		k.Value = p.value(k.Name)
		if p.err != nil {
			return h
		}
		if seen[k.Name] {
			p.fail(corrupt(k.Name, "stands twice in the header"))
		}
		seen[k.Name] = true
		h.Keys = append(h.Keys, k)
	}
	clear(seen)
	for range tensors {
		t := p.tensor()
		if p.err != nil {
			return h
		}
		if seen[t.Name] {
			p.fail(corrupt(t.Name, "stands twice in the header"))
		}
		seen[t.Name] = true
		h.Tensors = append(h.Tensors, t)
	}
	return h
}

func (p *parser) tensor() Tensor {
	t := Tensor{Name: p.str()}
	n := p.u32()
	if p.err == nil && (n == 0 || n > MaxDims) {
		p.fail(corrupt(t.Name, "must have 1 to 4 dimensions"))
	}
	if p.err != nil {
		return t
	}
	for range n {
		t.Dims = append(t.Dims, p.u64())
	}
	t.Type = Type(p.u32())
	t.Offset = p.u64()
	return t
}

// value reads the type and the value of a key.
func (p *parser) value(name string) any {
	kind := p.u32()
	if kind == kindArray {
		kind = p.u32()
		return p.array(name, kind)
	}
	return p.scalar(name, kind)
}

func (p *parser) scalar(name string, kind uint32) any {
	switch kind {
	case kindUint8, kindInt8, kindBool:
		p.read(p.buf[:1])
		return p.byteValue(name, kind, p.buf[0])
	case kindUint16, kindInt16:
		p.read(p.buf[:2])
		v := binary.LittleEndian.Uint16(p.buf[:2])
		if kind == kindInt16 {
			return int16(v)
		}
		return v
	case kindUint32:
		return p.u32()
	case kindInt32:
		return int32(p.u32())
	case kindFloat32:
		return math.Float32frombits(p.u32())
	case kindUint64:
		return p.u64()
	case kindInt64:
		return int64(p.u64())
	case kindFloat64:
		return math.Float64frombits(p.u64())
	case kindString:
		return p.str()
	}
	p.fail(corrupt(name, "has a value of unknown type"))
	return nil
}

// byteValue makes a one-byte value. A bool is 0 or 1, so that a header has one spelling only.
func (p *parser) byteValue(name string, kind uint32, b byte) any {
	switch kind {
	case kindUint8:
		return b
	case kindInt8:
		return int8(b)
	}
	if b > 1 {
		p.fail(corrupt(name, "is neither true nor false"))
	}
	return b == 1
}

// kindSize is the least size of an array's element in the file.
var kindSize = [...]int64{1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8}

func (p *parser) array(name string, kind uint32) any {
	if kind >= uint32(len(kindSize)) || kind == kindArray {
		p.fail(corrupt(name, "has elements of unknown type"))
		return nil
	}
	n := p.count(MaxElements, kindSize[kind], "elements in an array")
	switch kind {
	case kindUint8:
		return elements[uint8](p, name, kind, n)
	case kindInt8:
		return elements[int8](p, name, kind, n)
	case kindUint16:
		return elements[uint16](p, name, kind, n)
	case kindInt16:
		return elements[int16](p, name, kind, n)
	case kindUint32:
		return elements[uint32](p, name, kind, n)
	case kindInt32:
		return elements[int32](p, name, kind, n)
	case kindFloat32:
		return elements[float32](p, name, kind, n)
	case kindBool:
		return elements[bool](p, name, kind, n)
	case kindUint64:
		return elements[uint64](p, name, kind, n)
	case kindInt64:
		return elements[int64](p, name, kind, n)
	case kindFloat64:
		return elements[float64](p, name, kind, n)
	}
	return elements[string](p, name, kind, n)
}

func elements[T any](p *parser, name string, kind uint32, n int) []T {
	list := make([]T, 0, n)
	for range n {
		v := p.scalar(name, kind)
		if p.err != nil {
			return nil
		}
		list = append(list, v.(T))
	}
	return list
}

// corrupt is the error of a file that is not what it says.
func corrupt(field, message string) error {
	return &schemas.Error{Kind: schemas.KindCorrupt, Field: field, Message: message}
}
