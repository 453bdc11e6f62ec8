package schemas

import (
	"bytes"
	"encoding/binary"
	"sync"
	"unicode/utf8"
)

// form writes or reads a CBOR message field by field. The messages that every job needs go through it, because a general
// decoder, which then has to encode again to see whether the spelling was the one, costs more than their cryptography. As
// with statement, both directions follow one list, and a reader takes nothing that a writer would not have written.
// The bytes are those of the library in cbor.go; the tests hold them against each other.
//
// The first failure is kept; what is called after it does nothing.
type form struct {
	b       []byte // written so far, or still to be read
	reading bool
	failed  bool
}

// walker is a message that a form can write and read. Its walk is called on a value to be written, or on a zero value to
// be read into.
type walker interface{ walk(f *form) }

// The major types of CBOR in use.
const (
	cborUnsigned = 0 << 5
	cborNegative = 1 << 5
	cborBytes    = 2 << 5
	cborText     = 3 << 5
	cborArray    = 4 << 5
	cborFalse    = 0xf4
	cborTrue     = 0xf5
)

// writeForm spells a message.
func writeForm(w walker) []byte {
	room := spellings.Get().(*[]byte)
	f := form{b: (*room)[:0]}
	w.walk(&f)
	spelled := bytes.Clone(f.b)
	clear(f.b) // some messages are secrets
	if cap(f.b) <= maxSpelling {
		*room = f.b
		spellings.Put(room)
	}
	return spelled
}

// spellings are buffers to write in; those that a large message has grown are not kept.
var spellings = sync.Pool{New: func() any { return new([]byte) }}

// maxSpelling bounds the buffers that are kept, in bytes.
const maxSpelling = 64 << 10

// readForm reads a message and demands that nothing follows it.
func readForm(b []byte, w walker) error {
	f := form{b: b, reading: true}
	w.walk(&f)
	if f.failed || len(f.b) > 0 {
		return &Error{Kind: KindInvalid, Message: "is not the deterministic CBOR message expected"}
	}
	return nil
}

// fail ends the reading.
func (f *form) fail() { f.failed, f.b = true, nil }

// head writes the head of an item: its major type and a number in the shortest form.
func (f *form) head(major byte, n uint64) {
	switch {
	case n < 24:
		f.b = append(f.b, major|byte(n))
	case n < 1<<8:
		f.b = append(f.b, major|24, byte(n))
	case n < 1<<16:
		f.b = binary.BigEndian.AppendUint16(append(f.b, major|25), uint16(n))
	case n < 1<<32:
		f.b = binary.BigEndian.AppendUint32(append(f.b, major|26), uint32(n))
	default:
		f.b = binary.BigEndian.AppendUint64(append(f.b, major|27), n)
	}
}

// readHead reads a head of the given major type and refuses numbers that are not in their shortest form.
func (f *form) readHead(major byte) (n uint64) {
	if len(f.b) == 0 || f.b[0]&0xe0 != major {
		f.fail()
		return 0
	}
	info := f.b[0] & 0x1f
	if f.b = f.b[1:]; info < 24 {
		return uint64(info)
	}
	size := 1 << (info - 24)
	if info > 27 || len(f.b) < size {
		f.fail()
		return 0
	}
	for _, c := range f.b[:size] {
		n = n<<8 | uint64(c)
	}
	f.b = f.b[size:]
	if least := [...]uint64{24, 1 << 8, 1 << 16, 1 << 32}[info-24]; n < least {
		f.fail()
		return 0
	}
	return n
}

// fields begins an array of a fixed number of items: a struct.
func (f *form) fields(n uint64) {
	if !f.reading {
		f.head(cborArray, n)
	} else if f.readHead(cborArray) != n {
		f.fail()
	}
}

// unsigned is a whole number that is not negative.
func unsigned[T ~uint8 | ~uint16 | ~uint32 | ~uint64](f *form, v *T) {
	if !f.reading {
		f.head(cborUnsigned, uint64(*v))
		return
	}
	n := f.readHead(cborUnsigned)
	if *v = T(n); uint64(*v) != n {
		f.fail()
	}
}

// signed is a whole number.
func signed[T ~int | ~int64](f *form, v *T) {
	switch {
	case !f.reading && *v >= 0:
		f.head(cborUnsigned, uint64(*v))
	case !f.reading:
		f.head(cborNegative, uint64(-1-*v))
	case len(f.b) > 0 && f.b[0]&0xe0 == cborNegative:
		n := f.readHead(cborNegative)
		if *v = -1 - T(n); *v >= 0 || uint64(-1-*v) != n {
			f.fail()
		}
	default:
		n := f.readHead(cborUnsigned)
		if *v = T(n); *v < 0 || uint64(*v) != n {
			f.fail()
		}
	}
}

// flag is true or false.
func (f *form) flag(v *bool) {
	switch {
	case !f.reading && *v:
		f.b = append(f.b, cborTrue)
	case !f.reading:
		f.b = append(f.b, cborFalse)
	case len(f.b) > 0 && (f.b[0] == cborTrue || f.b[0] == cborFalse):
		*v, f.b = f.b[0] == cborTrue, f.b[1:]
	default:
		f.fail()
	}
}

// take reads the content of a byte or text string; it is part of what is read.
func (f *form) take(major byte) []byte {
	n := f.readHead(major)
	if n > uint64(len(f.b)) {
		f.fail()
		return nil
	}
	content := f.b[:n]
	f.b = f.b[n:]
	return content
}

// octets is a byte string; a copy is read.
func (f *form) octets(v *[]byte) {
	if f.reading {
		*v = bytes.Clone(f.take(cborBytes))
		return
	}
	f.head(cborBytes, uint64(len(*v)))
	f.b = append(f.b, *v...)
}

// fixed is a byte string of exactly the length of v.
func (f *form) fixed(v []byte) {
	if !f.reading {
		f.head(cborBytes, uint64(len(v)))
		f.b = append(f.b, v...)
		return
	}
	content := f.take(cborBytes)
	if len(content) != len(v) {
		f.fail()
	}
	copy(v, content)
}

// str is a text string.
func str[T ~string](f *form, v *T) {
	if !f.reading {
		f.head(cborText, uint64(len(*v)))
		f.b = append(f.b, *v...)
		return
	}
	content := f.take(cborText)
	if !utf8.Valid(content) {
		f.fail()
	}
	*v = T(content)
}

// list is an array of any number of items up to maxCBORItems.
func list[T any](f *form, v *[]T, item func(*form, *T)) {
	if !f.reading {
		f.head(cborArray, uint64(len(*v)))
		for i := range *v {
			item(f, &(*v)[i])
		}
		return
	}
	n := f.readHead(cborArray)
	if n > maxCBORItems || n > uint64(len(f.b)) { // every item has at least one byte
		f.fail()
		return
	}
	*v = make([]T, 0, min(n, maxListRoom))
	for i := 0; uint64(i) < n && !f.failed; i++ {
		var zero T
		*v = append(*v, zero)
		item(f, &(*v)[i])
	}
}

// maxListRoom bounds the items that memory is taken for before they were read.
const maxListRoom = 64
