package measure

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of a firmware image.
const (
	MaxFirmware = 64 << 20
	maxSections = 64
	// maxPages bounds the pages of all sections: 1 GiB, far above any firmware's needs.
	maxPages = 1 << 18
)

// Layout of a TDVF image. A table of GUIDs ends 32 bytes before the end of the image; one entry points at the metadata.
const (
	pageSize     = 4096
	chunkSize    = 256
	footerEnd    = 32
	guidSize     = 16
	entryTail    = 2 + guidSize
	headerSize   = 16
	sectionSize  = 32
	metaVersion  = 1
	attrMeasured = 1 << 0
	attrAugment  = 1 << 1 // the guest accepts these pages itself; nothing is added at launch
)

// The GUIDs of the table's footer and of the entry with the metadata's offset, as they stand in memory.
var (
	footerGUID   = [guidSize]byte{0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d}
	metadataGUID = [guidSize]byte{0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2}
)

// section is one region that the hypervisor loads.
type section struct {
	dataOffset, dataSize uint32
	address, size        uint64
	attributes           uint32
}

// MRTD computes the register of a firmware image as Linux's KVM launches it: each page is added and, where the metadata
// says so, its content measured before the next.
func MRTD(firmware []byte) (schemas.Measure, error) {
	if len(firmware) > MaxFirmware {
		return schemas.Measure{}, &schemas.Error{Kind: schemas.KindTooLarge, Field: "firmware", Message: "is larger than 64 MiB"}
	}
	sections, err := parseSections(firmware)
	if err != nil {
		return schemas.Measure{}, err
	}
	h, pages := sha512.New384(), uint64(0)
	for i, s := range sections {
		if s.attributes&attrAugment != 0 {
			continue
		}
		if pages += s.size / pageSize; pages > maxPages {
			return schemas.Measure{}, invalid("has more than 1 GiB of sections")
		}
		if err := addSection(h, firmware, s); err != nil {
			return schemas.Measure{}, fmt.Errorf("section %d: %w", i, err)
		}
	}
	return schemas.Measure(h.Sum(nil)), nil
}

// addSection hashes the launch of one section.
func addSection(h hash.Hash, firmware []byte, s section) error {
	measured := s.attributes&attrMeasured != 0
	if s.address%pageSize != 0 || s.size%pageSize != 0 {
		return invalid("is not aligned to pages")
	}
	if measured && uint64(s.dataSize) != s.size || uint64(s.dataOffset)+uint64(s.dataSize) > uint64(len(firmware)) {
		return invalid("has data of a wrong size")
	}
	data := firmware[s.dataOffset : uint64(s.dataOffset)+uint64(s.dataSize)]
	for offset := uint64(0); offset < s.size; offset += pageSize {
		h.Write(record("MEM.PAGE.ADD", s.address+offset))
		if !measured {
			continue
		}
		for chunk := offset; chunk < offset+pageSize; chunk += chunkSize {
			h.Write(record("MR.EXTEND", s.address+chunk))
			h.Write(data[chunk : chunk+chunkSize])
		}
	}
	return nil
}

// record is the block of 128 bytes that stands for one operation of the TDX module.
func record(operation string, address uint64) []byte {
	b := make([]byte, 128)
	copy(b, operation)
	binary.LittleEndian.PutUint64(b[16:], address)
	return b
}

// parseSections reads the TDVF metadata.
func parseSections(firmware []byte) ([]section, error) {
	at, err := metadataOffset(firmware)
	if err != nil {
		return nil, err
	}
	b, le := firmware[at:], binary.LittleEndian
	if len(b) < headerSize || !bytes.Equal(b[:4], []byte("TDVF")) || le.Uint32(b[8:]) != metaVersion {
		return nil, invalid("has no TDVF metadata of version 1")
	}
	count := le.Uint32(b[12:])
	if count == 0 || count > maxSections || uint64(len(b)) < headerSize+uint64(count)*sectionSize {
		return nil, invalid("has metadata of a wrong size")
	}
	sections := make([]section, count)
	for i := range sections {
		s := b[headerSize+i*sectionSize:]
		sections[i] = section{
			dataOffset: le.Uint32(s), dataSize: le.Uint32(s[4:]), address: le.Uint64(s[8:]), size: le.Uint64(s[16:]), attributes: le.Uint32(s[28:]),
		}
	}
	return sections, nil
}

// metadataOffset walks the table of GUIDs backwards from its footer.
func metadataOffset(firmware []byte) (int, error) {
	end := len(firmware) - footerEnd
	if end < entryTail || !bytes.Equal(firmware[end-guidSize:end], footerGUID[:]) {
		return 0, invalid("is not an OVMF image: it has no table of GUIDs")
	}
	le := binary.LittleEndian
	size := int(le.Uint16(firmware[end-entryTail:]))
	start := end - size
	if size < entryTail || start < 0 {
		return 0, invalid("has a table of GUIDs of a wrong size")
	}
	for at := end - entryTail; at-entryTail >= start; {
		length := int(le.Uint16(firmware[at-entryTail:]))
		if length < entryTail || at-length < start {
			return 0, invalid("has a damaged table of GUIDs")
		}
		if bytes.Equal(firmware[at-guidSize:at], metadataGUID[:]) {
			if length != entryTail+4 {
				return 0, invalid("has a metadata entry of a wrong size")
			}
			back := int64(le.Uint32(firmware[at-length:]))
			if back == 0 || back > int64(len(firmware)) {
				return 0, invalid("points at metadata outside of itself")
			}
			return len(firmware) - int(back), nil
		}
		at -= length
	}
	return 0, invalid("is not built for TDX: it has no TDVF metadata")
}

// invalid names the file in every refusal.
func invalid(message string) error { return schemas.FieldError("firmware", message) }
