package weights

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// Forge makes a package whose list of files is what the caller says, true or not.
func Forge(t testing.TB, files []File, content []byte, to schemas.WeightsKey) []byte {
	t.Helper()
	model := schemas.ModelRef{Name: "forged", Revision: "1", Root: RootOf(files)}.ID()
	key := [32]byte{1}
	index := schemas.EncodeCBOR(files)
	plain := uint64(4 + len(index) + len(content))
	h := head{Version: 1, Model: model, Key: to.Key, Size: plain + (plain+FrameSize-1)/FrameSize*tagSize}
	var err error
	if h.Enc, h.Wrapped, err = enclave.WrapWeightKey(to.PublicKey, model, key); err != nil {
		t.Fatal(err)
	}
	encoded := schemas.EncodeCBOR(&h)
	var out bytes.Buffer
	out.WriteString(Magic)
	out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(encoded))))
	out.Write(encoded)
	f := newFrameWriter(&out, packageAEAD(key), schemas.HashOf(encoded))
	for _, part := range [][]byte{binary.BigEndian.AppendUint32(nil, uint32(len(index))), index, content} {
		if _, err := f.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// EncodeHead spells everything of a package before its frames.
func (p *Package) EncodeHead() []byte {
	encoded := schemas.EncodeCBOR(&p.head)
	return append(binary.BigEndian.AppendUint32([]byte(Magic), uint32(len(encoded))), encoded...)
}

// ReadIndex reads a list of files, and EncodeIndex spells it.
var ReadIndex = readIndex

// EncodeIndex is the inverse of ReadIndex.
func EncodeIndex(files []File) []byte {
	index := schemas.EncodeCBOR(files)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(index))), index...)
}
