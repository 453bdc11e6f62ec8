package schemas

import (
	"crypto/sha256"
	"encoding/binary"
)

// AppendFields appends a label and fields to b, every one preceded by its length as a 32-bit big-endian number. No two
// different lists give the same bytes. It is the input of every hash, derivation and signature outside JWS.
func AppendFields(b []byte, label string, fields ...[]byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(label)))
	b = append(b, label...)
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// HashFields is SHA-256 over AppendFields.
func HashFields(label string, fields ...[]byte) Hash {
	const room = 2 << 10 // on the stack; enough for nearly all
	return sha256.Sum256(AppendFields(make([]byte, 0, room), label, fields...))
}

// be32 spells a number as a field.
func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// be64 spells a number as a field.
func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
