package nvidia

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
)

// Layout of an SPDM 1.1 GET_MEASUREMENTS exchange as NVML hands it out: request, response, signature.
const (
	requestSize   = 37 // version, code, two parameters, nonce of 32 bytes, slot
	signatureSize = 96 // ECDSA P-384, r‖s
	minReport     = requestSize + 8 + 32 + 2 + signatureSize

	spdmVersion     = 0x11
	getMeasurements = 0xE0
	measurements    = 0x60
	allIndexes      = 0xFF
	wantSignature   = 1
	measureSize     = 48
)

// Opaque fields of the response that are read.
const (
	fieldDriver     = 3
	fieldVBIOS      = 6
	fieldChipSKU    = 15
	fieldProject    = 17
	fieldProjectSKU = 18
	fieldFWID       = 20
)

// message is a report taken apart. Its slices alias the raw bytes.
type message struct {
	nonce [32]byte
	// measurements is keyed by index from 0, as NVIDIA's reference files count (SPDM counts from 1).
	measurements map[int]schemas.Measure
	opaque       map[uint16][]byte
	signed       []byte
	signature    []byte
}

// reader takes bytes from the front of a buffer; after the first shortage it gives zeros and remembers.
type reader struct {
	b     []byte
	short bool
}

// take returns the next n bytes, or zeros when there are too few; enough of them for every fixed field.
func (r *reader) take(n int) []byte {
	if r.short || n > len(r.b) {
		r.short = true
		return make([]byte, min(n, 64))
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// uint16 reads a little-endian number.
func (r *reader) uint16() int { return int(binary.LittleEndian.Uint16(r.take(2))) }

// parseMessage accounts for every byte of a report.
func parseMessage(raw []byte) (*message, error) {
	if len(raw) < minReport || len(raw) > schemas.MaxGPUReport {
		return nil, refuse("report", "has %d bytes, must have between %d and %d", len(raw), minReport, schemas.MaxGPUReport)
	}
	m := &message{signed: raw[:len(raw)-signatureSize], signature: raw[len(raw)-signatureSize:]}
	request := m.signed[:requestSize]
	if request[0] != spdmVersion || request[1] != getMeasurements || request[2]&wantSignature == 0 || request[3] != allIndexes {
		return nil, refuse("report.request", "% x is not an SPDM 1.1 request for all measurements and a signature", request[:4])
	}
	m.nonce = [32]byte(request[4:36])
	r := &reader{b: m.signed[requestSize:]}
	head := r.take(8)
	if head[0] != spdmVersion || head[1] != measurements {
		return nil, refuse("report.response", "% x is not an SPDM 1.1 measurements response", head[:2])
	}
	record := r.take(int(head[5]) | int(head[6])<<8 | int(head[7])<<16)
	r.take(32) // the responder's nonce
	opaque := r.take(r.uint16())
	if r.short || len(r.b) != 0 {
		return nil, refuse("report.response", "is truncated or has bytes before the signature")
	}
	if err := m.parseMeasurements(record, int(head[4])); err != nil {
		return nil, err
	}
	return m, m.parseOpaque(opaque)
}

// parseMeasurements reads the blocks of the measurement record.
func (m *message) parseMeasurements(record []byte, count int) error {
	m.measurements = make(map[int]schemas.Measure, count)
	r := &reader{b: record}
	for range count {
		index, kind := int(r.take(1)[0])-1, r.take(1)[0]
		block := &reader{b: r.take(r.uint16())}
		block.take(1)
		value := block.take(block.uint16())
		if r.short || block.short || len(block.b) != 0 || kind != 1 || len(value) != measureSize || index < 0 {
			return refuse("report.measurements", "has a block that is not a DMTF measurement of 48 bytes")
		}
		if _, dup := m.measurements[index]; dup {
			return refuse("report.measurements", "has index %d twice", index)
		}
		m.measurements[index] = schemas.Measure(value)
	}
	if len(r.b) != 0 {
		return refuse("report.measurements", "has bytes after the last block")
	}
	return nil
}

// parseOpaque reads the list of opaque fields.
func (m *message) parseOpaque(b []byte) error {
	m.opaque = map[uint16][]byte{}
	r := &reader{b: b}
	for len(r.b) > 0 {
		id := uint16(r.uint16())
		value := r.take(r.uint16())
		if r.short {
			return refuse("report.opaque", "is truncated")
		}
		if _, dup := m.opaque[id]; dup {
			return refuse("report.opaque", "has field %d twice", id)
		}
		m.opaque[id] = value
	}
	return nil
}

// text reads a field that is a string padded with zeros.
func (m *message) text(field uint16) string {
	return strings.TrimSpace(strings.TrimRight(string(m.opaque[field]), "\x00"))
}

// vbios spells eight little-endian bytes as NVML does: 96.00.5E.00.01.
func (m *message) vbios() string {
	v := slices.Clone(m.opaque[fieldVBIOS])
	if len(v) != 8 {
		return ""
	}
	slices.Reverse(v)
	return fmt.Sprintf("%02X.%02X.%02X.%02X.%02X", v[4], v[5], v[6], v[7], v[3])
}
