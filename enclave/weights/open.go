package weights

import (
	"bufio"
	"context"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"io"

	"github.com/cocoon-network/cocoon/schemas"
)

// Package is a sealed package whose head has been read.
type Package struct {
	head head
	raw  []byte
	r    *bufio.Reader
}

// Read reads the head of a package. The key that opens the rest comes from a broker: see Enc and Wrapped.
func Read(r io.Reader) (*Package, error) {
	b := bufio.NewReaderSize(r, FrameSize+tagSize)
	start := make([]byte, len(Magic)+4)
	if _, err := io.ReadFull(b, start); err != nil {
		return nil, cut(err)
	}
	if string(start[:len(Magic)]) != Magic {
		return nil, &schemas.Error{Kind: schemas.KindUnsupported, Field: "magic", Message: "is not a package of sealed weights, version 1"}
	}
	n := binary.BigEndian.Uint32(start[len(Magic):])
	if n > maxHead {
		return nil, &schemas.Error{Kind: schemas.KindTooLarge, Field: "head", Message: "is longer than 8 KiB"}
	}
	p := &Package{raw: make([]byte, n), r: b}
	if _, err := io.ReadFull(b, p.raw); err != nil {
		return nil, cut(err)
	}
	if err := schemas.DecodeCBOR(p.raw, &p.head, maxHead); err != nil {
		return nil, err
	}
	return p, p.head.check()
}

// cut tells a package that ends too early from a failure to read it.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &schemas.Error{Kind: schemas.KindCorrupt, Field: "package", Message: "is cut short"}
	}
	return readFailure(err)
}

// Model is the full id of the model that the package says it is; Extract verifies it.
func (p *Package) Model() schemas.ModelID { return p.head.Model }

// Size is the size of the whole package in bytes.
func (p *Package) Size() uint64 { return uint64(len(Magic)+4+len(p.raw)) + p.head.Size }

// ID tells packages apart: every one has a key of its own, sealed afresh, in its head.
func (p *Package) ID() schemas.Hash { return schemas.HashOf(p.raw) }

// Key is the brokers' weights key that the package's key is sealed to.
func (p *Package) Key() schemas.KeyID { return p.head.Key }

// Wrapped is what a broker opens for an admitted worker; the arguments of enclave.Session.WeightKey.
func (p *Package) Wrapped() (enc, wrapped []byte) { return p.head.Enc, p.head.Wrapped }

// Extract opens the package into an empty private folder (memory that the host cannot read) and verifies that the files
// are those that the model's id names. It can be called once. Changed, moved or missing frames are KindSealed, files that
// do not hash to the root KindCorrupt; then the folder is empty again.
func (p *Package) Extract(ctx context.Context, key [32]byte, dir string) ([]File, error) {
	w, err := newWriter(p.head.Model, dir)
	if err != nil {
		return nil, err
	}
	frames := &frameReader{r: io.LimitReader(p.r, int64(p.head.Size)), left: p.head.Size, aead: packageAEAD(key), head: schemas.HashOf(p.raw)}
	files, err := readIndex(frames)
	if err != nil {
		return nil, w.abort(err)
	}
	found := make([]File, len(files))
	for i := range files {
		found[i].Path = files[i].Path
		if err := w.put(ctx, &found[i], io.LimitReader(frames, int64(files[i].Size))); err != nil {
			return nil, w.abort(err)
		}
	}
	if err := frames.end(); err != nil {
		return nil, w.abort(err)
	}
	if err := w.finish(found); err != nil {
		return nil, w.abort(err)
	}
	return found, nil
}

// readIndex reads the list of files.
func readIndex(r io.Reader) ([]File, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, cut(err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxIndex {
		return nil, &schemas.Error{Kind: schemas.KindTooLarge, Field: "index", Message: "is longer than 4 MiB"}
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, cut(err)
	}
	var files []File
	if err := schemas.DecodeCBOR(raw, &files, maxIndex); err != nil {
		return nil, err
	}
	return files, checkFiles(files)
}

// frameReader opens frames one after another. It gives a frame's content only after the frame has been authenticated.
type frameReader struct {
	r      io.Reader
	left   uint64
	aead   cipher.AEAD
	head   schemas.Hash
	sealed [FrameSize + tagSize]byte
	plain  []byte
	rest   []byte
	number uint64
}

// Read implements io.Reader.
func (f *frameReader) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		if f.left == 0 {
			return 0, io.EOF
		}
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// next opens one frame.
func (f *frameReader) next() error {
	size := min(f.left, uint64(len(f.sealed)))
	frame := f.sealed[:size]
	if _, err := io.ReadFull(f.r, frame); err != nil {
		return cut(err)
	}
	f.left -= size
	nonce := frameNonce(f.number, f.left == 0)
	plain, err := f.aead.Open(f.plain[:0], nonce[:], frame, f.head[:])
	if err != nil {
		return &schemas.Error{Kind: schemas.KindSealed, Field: "package", Message: "cannot be opened with this key, or was changed"}
	}
	f.plain, f.rest, f.number = plain, plain, f.number+1
	return nil
}

// end demands that everything was read.
func (f *frameReader) end() error {
	if len(f.rest) > 0 || f.left > 0 {
		return &schemas.Error{Kind: schemas.KindCorrupt, Field: "package", Message: "has more content than files"}
	}
	return nil
}
