package enclave

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/cocoon-network/cocoon/schemas"
)

// Floors of padded sizes in bytes: everything shorter looks alike.
const (
	requestFloor = 4 << 10
	resultFloor  = 2 << 10
)

// lengthPrefix is the size of the length before padded content.
const lengthPrefix = 4

// gcm makes the AEAD of envelope version 1.
func gcm(key [secretSize]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("enclave: AES refuses only wrong key sizes: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("enclave: GCM refuses only wrong block sizes: " + err.Error())
	}
	return aead
}

// frameNonce is the nonce of one frame: its number and whether it is the last. A frame in another place, or a payload
// that was cut after a frame, does not open.
func frameNonce(number uint32, last bool) (nonce [12]byte) {
	binary.BigEndian.PutUint32(nonce[7:11], number)
	if last {
		nonce[11] = 1
	}
	return nonce
}

// sealFrames seals plaintext in frames under a key that seals nothing else, and overwrites it: in place when it has
// sealedRoom beyond its end. plaintext is not empty.
func sealFrames(key [secretSize]byte, plaintext []byte) []byte {
	const size = schemas.FrameSize + schemas.TagSize
	aead := gcm(key)
	length, count := len(plaintext), frameCount(len(plaintext))
	sealed := slices.Grow(plaintext, sealedRoom(length))[:length+sealedRoom(length)]
	for i := count - 1; i >= 0; i-- { // the last first: each moves towards the end by the tags of those before it
		frame := sealed[i*size:][:min(schemas.FrameSize, length-i*schemas.FrameSize)]
		copy(frame, sealed[i*schemas.FrameSize:length])
		nonce := frameNonce(uint32(i), i == count-1)
		aead.Seal(frame[:0], nonce[:], frame, nil)
	}
	return sealed
}

// frameCount is the number of frames of a plaintext of n bytes, and sealedRoom what their tags take.
func frameCount(n int) int { return (n + schemas.FrameSize - 1) / schemas.FrameSize }
func sealedRoom(n int) int { return frameCount(n) * schemas.TagSize }

// openFrames is the inverse of sealFrames, in place; it gives nothing when any frame does not open.
func openFrames(key [secretSize]byte, sealed []byte) ([]byte, error) {
	const size = schemas.FrameSize + schemas.TagSize
	aead := gcm(key)
	count := (len(sealed) + size - 1) / size
	if count == 0 {
		return nil, errSealed()
	}
	length := 0
	for i := range count {
		frame := sealed[i*size : min((i+1)*size, len(sealed))]
		nonce := frameNonce(uint32(i), i == count-1)
		plain, err := aead.Open(frame[:0], nonce[:], frame, nil)
		if err != nil {
			clear(sealed)
			return nil, errSealed()
		}
		length += copy(sealed[length:], plain)
	}
	return sealed[:length], nil
}

// paddedSize is the size that content of n bytes is padded to: Padmé, which leaks O(log log n) bits of the size and adds
// at most 12 %, but never less than floor.
func paddedSize(n, floor int) int {
	n = max(n+lengthPrefix, floor)
	exponent := bits.Len(uint(n)) - 1
	mantissa := bits.Len(uint(exponent))
	mask := 1<<(exponent-mantissa) - 1
	return (n + mask) &^ mask
}

// pad puts the length before content and zeros after it, and leaves room to seal the whole in place.
func pad(content []byte, floor int) []byte {
	return padTo(content, paddedSize(len(content), floor))
}

// padTo is pad to a size that is known.
func padTo(content []byte, size int) []byte {
	padded := make([]byte, size, size+sealedRoom(size))
	binary.BigEndian.PutUint32(padded, uint32(len(content)))
	copy(padded[lengthPrefix:], content)
	return padded
}

// unpad is the inverse of pad.
func unpad(padded []byte, floor int) ([]byte, error) {
	return unpadTo(padded, func(n int) int { return paddedSize(n, floor) })
}

// unpadTo takes content out of its padding; another amount of padding than size says, or a byte other than zero in it, is
// refused. It needs no constant time: what it reads has been authenticated.
func unpadTo(padded []byte, size func(content int) int) ([]byte, error) {
	if len(padded) < lengthPrefix {
		return nil, errSealed()
	}
	n := binary.BigEndian.Uint32(padded)
	if uint64(n)+lengthPrefix > uint64(len(padded)) || size(int(n)) != len(padded) {
		return nil, errSealed()
	}
	content, zeros := padded[lengthPrefix:lengthPrefix+n], padded[lengthPrefix+n:]
	for _, b := range zeros {
		if b != 0 {
			return nil, errSealed()
		}
	}
	return content, nil
}
