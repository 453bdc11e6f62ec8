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
	h := sha256.New()
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(label)))
	h.Write(n[:])
	h.Write([]byte(label))
	for _, f := range fields {
		binary.BigEndian.PutUint32(n[:], uint32(len(f)))
		h.Write(n[:])
		h.Write(f)
	}
	return Hash(h.Sum(nil))
}

// be32 spells a number as a field.
func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// be64 spells a number as a field.
func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
