package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Append adds the header's bytes to b. A header that came from Parse gives the same bytes again. It panics when a value
// has a type that the format does not know: that is a mistake in the program.
func (h *Header) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, magic[:]...)
	b = le.AppendUint32(b, h.Version)
	b = le.AppendUint64(b, uint64(len(h.Tensors)))
	b = le.AppendUint64(b, uint64(len(h.Keys)))
	for _, k := range h.Keys {
		b = appendString(b, k.Name)
		b = appendValue(b, k.Value)
	}
	for _, t := range h.Tensors {
		b = appendString(b, t.Name)
		b = le.AppendUint32(b, uint32(len(t.Dims)))
		for _, d := range t.Dims {
			b = le.AppendUint64(b, d)
		}
		b = le.AppendUint32(b, uint32(t.Type))
		b = le.AppendUint64(b, t.Offset)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// appendValue adds type and value of a key.
func appendValue(b []byte, v any) []byte {
	if kind, n := arrayKind(v); n >= 0 {
		b = binary.LittleEndian.AppendUint32(b, kindArray)
		b = binary.LittleEndian.AppendUint32(b, kind)
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
		return appendElements(b, v)
	}
	return appendScalar(binary.LittleEndian.AppendUint32(b, scalarKind(v)), v)
}

// scalarKind is the number of a value's type.
func scalarKind(v any) uint32 {
	switch v.(type) {
	case uint8:
		return kindUint8
	case int8:
		return kindInt8
	case uint16:
		return kindUint16
	case int16:
		return kindInt16
	case uint32:
		return kindUint32
	case int32:
		return kindInt32
	case float32:
		return kindFloat32
	case bool:
		return kindBool
	case string:
		return kindString
	case uint64:
		return kindUint64
	case int64:
		return kindInt64
	case float64:
		return kindFloat64
	}
	panic(fmt.Sprintf("gguf: a value cannot be a %T", v))
}

// arrayKind is the element type and the length of an array, -1 if v is none.
func arrayKind(v any) (kind uint32, n int) {
	switch v := v.(type) {
	case []uint8:
		return kindUint8, len(v)
	case []int8:
		return kindInt8, len(v)
	case []uint16:
		return kindUint16, len(v)
	case []int16:
		return kindInt16, len(v)
	case []uint32:
		return kindUint32, len(v)
	case []int32:
		return kindInt32, len(v)
	case []float32:
		return kindFloat32, len(v)
	case []bool:
		return kindBool, len(v)
	case []string:
		return kindString, len(v)
	case []uint64:
		return kindUint64, len(v)
	case []int64:
		return kindInt64, len(v)
	case []float64:
		return kindFloat64, len(v)
	}
	return 0, -1
}

func appendElements(b []byte, v any) []byte {
	switch v := v.(type) {
	case []string:
		return appendEach(b, v)
	case []bool:
		return appendEach(b, v)
	case []float32:
		return appendEach(b, v)
	case []float64:
		return appendEach(b, v)
	}
	b, _ = binary.Append(b, binary.LittleEndian, v) // integers, which have a fixed size
	return b
}

func appendEach[T any](b []byte, list []T) []byte {
	for _, v := range list {
		b = appendScalar(b, v)
	}
	return b
}

func appendScalar(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return appendString(b, v)
	case bool:
		if v {
			return append(b, 1)
		}
		return append(b, 0)
	case float32:
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	case float64:
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	b, _ = binary.Append(b, binary.LittleEndian, v)
	return b
}
