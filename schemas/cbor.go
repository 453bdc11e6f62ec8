package schemas

import (
	"bytes"
	"strconv"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// Limits of every CBOR form, checked by the decoder before it takes memory.
const (
	maxCBORDepth = 8
	maxCBORItems = 4096
)

// cborModes builds the one encoder and the one decoder of this package. The encoder is RFC 8949 §4.2.1 (core
// deterministic); a nil slice is written as an empty one, so that no value has two spellings.
var cborModes = sync.OnceValues(func() (cbor.UserBufferEncMode, cbor.DecMode) {
	eo := cbor.CoreDetEncOptions()
	eo.NilContainers = cbor.NilContainerAsEmpty
	enc, err := eo.UserBufferEncMode()
	if err != nil {
		panic("schemas: CBOR encoder options are constants and must be valid: " + err.Error())
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   maxCBORDepth,
		MaxArrayElements:  maxCBORItems,
		MaxMapPairs:       maxCBORItems,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		panic("schemas: CBOR decoder options are constants and must be valid: " + err.Error())
	}
	return enc, dec
})

// EncodeCBOR encodes a form of ours deterministically: the same value gives the same bytes everywhere.
func EncodeCBOR(v any) []byte {
	enc, _ := cborModes()
	b, err := enc.Marshal(v)
	if err != nil {
		panic("schemas: a form of ours must encode: " + err.Error())
	}
	return b
}

// DecodeCBOR reads one deterministic CBOR item of at most limit bytes into v. Whatever would not encode again to the
// same bytes is refused: trailing data, other lengths, other integer widths, indefinite items, tags, null for empty.
// Byte strings in v are copies; b may be reused.
func DecodeCBOR(b []byte, v any, limit int) error {
	if len(b) > limit {
		return &Error{Kind: KindTooLarge, Message: "message is longer than " + strconv.Itoa(limit) + " bytes"}
	}
	_, dec := cborModes()
	if err := dec.Unmarshal(b, v); err != nil {
		return &Error{Kind: KindInvalid, Message: "is not the CBOR message expected: " + err.Error(), Err: err}
	}
	if !encodesTo(v, b) {
		return &Error{Kind: KindInvalid, Message: "is not deterministically encoded"}
	}
	return nil
}

// spellings are buffers for encodesTo; those that a large message has grown are not kept.
var spellings = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxSpelling bounds the buffers that are kept, in bytes.
const maxSpelling = 64 << 10

// encodesTo reports whether v encodes to b.
func encodesTo(v any, b []byte) bool {
	buffer := spellings.Get().(*bytes.Buffer)
	enc, _ := cborModes()
	same := enc.MarshalToBuffer(v, buffer) == nil && bytes.Equal(buffer.Bytes(), b)
	clear(buffer.Bytes()) // some messages are secrets
	buffer.Reset()
	if buffer.Cap() <= maxSpelling {
		spellings.Put(buffer)
	}
	return same
}
