package gguf

import "fmt"

// Type is how the weights of a tensor are stored.
type Type uint32

// The types that the engine computes with, under their numbers in the file.
const (
	F32   Type = 0
	F16   Type = 1
	Q4_0  Type = 2
	Q4_1  Type = 3
	Q5_0  Type = 6
	Q5_1  Type = 7
	Q8_0  Type = 8
	Q2_K  Type = 10
	Q3_K  Type = 11
	Q4_K  Type = 12
	Q5_K  Type = 13
	Q6_K  Type = 14
	IQ4NL Type = 20
	IQ4XS Type = 23
	BF16  Type = 30
)

// layout of a type: its name, how many weights form a block and how many bytes a block has.
var layouts = map[Type]struct {
	name          string
	weights, size uint64
}{
	F32: {"F32", 1, 4}, F16: {"F16", 1, 2}, BF16: {"BF16", 1, 2},
	Q4_0: {"Q4_0", 32, 18}, Q4_1: {"Q4_1", 32, 20}, Q5_0: {"Q5_0", 32, 22}, Q5_1: {"Q5_1", 32, 24}, Q8_0: {"Q8_0", 32, 34},
	Q2_K: {"Q2_K", 256, 84}, Q3_K: {"Q3_K", 256, 110}, Q4_K: {"Q4_K", 256, 144}, Q5_K: {"Q5_K", 256, 176}, Q6_K: {"Q6_K", 256, 210},
	IQ4NL: {"IQ4_NL", 32, 18}, IQ4XS: {"IQ4_XS", 256, 136},
}

// String is the usual name.
func (t Type) String() string {
	if l, ok := layouts[t]; ok {
		return l.name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Bytes is the size of a tensor, false if the type is unknown, a row is no whole number of blocks or the size overflows.
func (t *Tensor) Bytes() (uint64, bool) {
	const most = 1 << 46 // weights and bytes; keeps every product below in range
	l, ok := layouts[t.Type]
	if !ok || len(t.Dims) == 0 || t.Dims[0] == 0 || t.Dims[0] > most || t.Dims[0]%l.weights != 0 {
		return 0, false
	}
	n := t.Dims[0] / l.weights * l.size
	for _, d := range t.Dims[1:] {
		if d == 0 || n > most/d {
			return 0, false
		}
		n *= d
	}
	return n, n <= most
}
