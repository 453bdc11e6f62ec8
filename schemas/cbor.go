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
var cborModes = sync.OnceValues(func() (cbor.EncMode, cbor.DecMode) {
	eo := cbor.CoreDetEncOptions()
	eo.NilContainers = cbor.NilContainerAsEmpty
	enc, err := eo.EncMode()
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
	if w, ok := v.(walker); ok {
		return writeForm(w)
	}
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
	if w, ok := v.(walker); ok {
		return readForm(b, w)
	}
	_, dec := cborModes()
	if err := dec.Unmarshal(b, v); err != nil {
		return &Error{Kind: KindInvalid, Message: "is not the CBOR message expected: " + err.Error(), Err: err}
	}
	if !bytes.Equal(EncodeCBOR(v), b) {
		return &Error{Kind: KindInvalid, Message: "is not deterministically encoded"}
	}
	return nil
}
