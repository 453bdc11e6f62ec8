package weights

import (
	"bufio"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"io"
	"io/fs"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// Magic begins every package and says its version.
const Magic = "cocoon-weights/v1\n"

// Sizes of the format.
const (
	// FrameSize is the plaintext of one frame; the last may be shorter.
	FrameSize = 1 << 20
	tagSize   = 16
	// maxHead bounds the head, maxIndex the list of files.
	maxHead  = 8 << 10
	maxIndex = 4 << 20
)

// head is the clear part of a package.
type head struct {
	_ struct{} `cbor:",toarray"`
	// Version is 1.
	Version uint8
	// Model is the full id of the model.
	Model schemas.ModelID
	// Key is the brokers' weights key; Enc and Wrapped are the package's key sealed to it.
	Key     schemas.KeyID
	Enc     []byte
	Wrapped []byte
	// Size is the size of the sealed frames in bytes.
	Size uint64
}

// check refuses heads that no one writes.
func (h *head) check() error {
	if h.Version != 1 {
		return &schemas.Error{Kind: schemas.KindUnsupported, Field: "version", Message: "is not 1"}
	}
	if _, err := schemas.ParseModelID(string(h.Model)); err != nil {
		return err
	}
	if _, err := schemas.ParseKeyID(string(h.Key)); err != nil {
		return err
	}
	if len(h.Enc) != schemas.EncSize || len(h.Wrapped) != 32+tagSize {
		return schemas.FieldError("enc", "enc must have 1,120 bytes and wrapped 48")
	}
	if h.Size == 0 || h.Size > MaxBytes+MaxBytes/FrameSize*tagSize+maxIndex+FrameSize {
		return schemas.FieldError("size", "is outside the limits")
	}
	return nil
}

// Sealed says what Seal made.
type Sealed struct {
	// Model is the full id, root included.
	Model schemas.ModelID `json:"model"`
	// Root is the root of the files, Files their number, Bytes their size together and Package that of the package.
	Root    schemas.Hash `json:"root"`
	Files   int          `json:"files"`
	Bytes   uint64       `json:"bytes"`
	Package uint64       `json:"package_bytes"`
	// Key is the brokers' key that it was sealed to.
	Key schemas.KeyID `json:"key"`
}

// Seal writes the package of a folder of weights: to w go a fresh key, sealed to the brokers' weights key for this model
// alone, and the files under it. The files are read twice and must not change in between: KindConflict if they do.
func Seal(ctx context.Context, w io.Writer, fsys fs.FS, name, revision string, to schemas.WeightsKey) (Sealed, error) {
	files, root, err := Root(ctx, fsys)
	if err != nil {
		return Sealed{}, err
	}
	model := schemas.ModelRef{Name: name, Revision: revision, Root: root}.ID()
	if _, err := schemas.ParseModelID(string(model)); err != nil {
		return Sealed{}, err
	}
	var key [32]byte
	rand.Read(key[:])
	defer clear(key[:])
	index := schemas.EncodeCBOR(files)
	plain := uint64(4 + len(index))
	sealed := Sealed{Model: model, Root: root, Files: len(files), Key: to.Key}
	for i := range files {
		sealed.Bytes += files[i].Size
	}
	plain += sealed.Bytes
	h := head{Version: 1, Model: model, Key: to.Key, Size: plain + (plain+FrameSize-1)/FrameSize*tagSize}
	if h.Enc, h.Wrapped, err = enclave.WrapWeightKey(to.PublicKey, model, key); err != nil {
		return Sealed{}, err
	}
	encoded := schemas.EncodeCBOR(&h)
	out := bufio.NewWriterSize(w, FrameSize)
	out.WriteString(Magic)
	out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(encoded))))
	out.Write(encoded)
	sealed.Package = uint64(len(Magic)+4+len(encoded)) + h.Size
	f := newFrameWriter(out, packageAEAD(key), schemas.HashOf(encoded))
	if err := writeContent(ctx, f, fsys, files, index); err != nil {
		return Sealed{}, err
	}
	if err := f.Close(); err != nil {
		return Sealed{}, readFailure(err)
	}
	if err := out.Flush(); err != nil {
		return Sealed{}, readFailure(err)
	}
	return sealed, nil
}

// writeContent writes index and files.
func writeContent(ctx context.Context, w io.Writer, fsys fs.FS, files []File, index []byte) error {
	if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(index))), index...)); err != nil {
		return readFailure(err)
	}
	for i := range files {
		n, err := copyFile(ctx, w, fsys, files[i].Path)
		if err != nil {
			return readFailure(err)
		}
		if uint64(n) != files[i].Size {
			return &schemas.Error{Kind: schemas.KindConflict, Field: files[i].Path, Message: "changed while it was sealed"}
		}
	}
	return nil
}

// copyFile writes one file.
func copyFile(ctx context.Context, w io.Writer, fsys fs.FS, path string) (int64, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return io.Copy(w, contextReader{ctx, f})
}

// packageAEAD is the cipher of a package's frames.
func packageAEAD(key [32]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("weights: AES refuses only wrong key sizes: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("weights: GCM refuses only wrong block sizes: " + err.Error())
	}
	return aead
}

// frameNonce is the number of a frame and whether it is the last.
func frameNonce(number uint64, last bool) (nonce [12]byte) {
	binary.BigEndian.PutUint64(nonce[3:11], number)
	if last {
		nonce[11] = 1
	}
	return nonce
}

// frameWriter seals what is written in frames. The last frame is sealed by Close.
type frameWriter struct {
	w      io.Writer
	aead   cipher.AEAD
	head   schemas.Hash // bound into every frame: a changed head opens nothing
	buffer []byte
	sealed []byte
	number uint64
}

// newFrameWriter begins a stream.
func newFrameWriter(w io.Writer, aead cipher.AEAD, head schemas.Hash) *frameWriter {
	return &frameWriter{w: w, aead: aead, head: head, buffer: make([]byte, 0, FrameSize), sealed: make([]byte, 0, FrameSize+tagSize)}
}

// Write implements io.Writer.
func (f *frameWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if len(f.buffer) == FrameSize {
			if err := f.flush(false); err != nil {
				return n, err
			}
		}
		room := min(FrameSize-len(f.buffer), len(p))
		f.buffer = append(f.buffer, p[:room]...)
		p, n = p[room:], n+room
	}
	return n, nil
}

// Close seals the last frame.
func (f *frameWriter) Close() error {
	defer clear(f.buffer[:cap(f.buffer)])
	return f.flush(true)
}

// flush seals one frame.
func (f *frameWriter) flush(last bool) error {
	nonce := frameNonce(f.number, last)
	f.sealed = f.aead.Seal(f.sealed[:0], nonce[:], f.buffer, f.head[:])
	f.buffer, f.number = f.buffer[:0], f.number+1
	_, err := f.w.Write(f.sealed)
	return err
}
