package measure

import (
	"encoding/binary"

	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of a boot log.
const (
	MaxCCEL     = 1 << 20
	maxEvents   = 4096
	maxDigests  = 8
	maxEventLen = 256 << 10
)

// The numbers of the log's form (TCG PC Client Platform Firmware Profile, and UEFI's confidential computing extension).
const (
	eventNoAction = 3
	algSHA384     = 0x000c
	noEvent       = 0xffffffff // an index of all ones fills the rest of the table
)

// digestSizes are those of the algorithms that may stand beside SHA-384.
var digestSizes = map[uint16]int{0x0004: 20, 0x000b: 32, algSHA384: 48, 0x000d: 64, 0x0012: 32}

// BootEvent is one event of the log.
type BootEvent struct {
	// RTMR is the register it was extended into, 0 to 3.
	RTMR int
	// Type is the event's number.
	Type uint32
	// Digest is what was measured.
	Digest schemas.Measure
}

// ReplayCCEL reads the data of the CCEL table (/sys/firmware/acpi/tables/data/CCEL) and returns the values that the four
// registers must have after its events. Padding at the end is allowed.
func ReplayCCEL(b []byte) (registers [4]schemas.Measure, events []BootEvent, err error) {
	if len(b) > MaxCCEL {
		return registers, nil, &schemas.Error{Kind: schemas.KindTooLarge, Field: "ccel", Message: "is larger than 1 MiB"}
	}
	r := &cursor{b: b}
	r.skipHeader()
	for !r.bad && len(r.b) >= 8 {
		index := binary.LittleEndian.Uint32(r.b)
		if index == noEvent || index == 0 && binary.LittleEndian.Uint32(r.b[4:]) == 0 {
			break // padding
		}
		event, ok := r.event()
		if r.bad {
			break
		}
		if !ok {
			continue
		}
		if len(events) == maxEvents {
			return registers, nil, &schemas.Error{Kind: schemas.KindTooLarge, Field: "ccel", Message: "has more than 4,096 events"}
		}
		events = append(events, event)
		registers[event.RTMR] = registers[event.RTMR].Extend(event.Digest)
	}
	if r.bad || len(events) == 0 {
		return registers, nil, schemas.FieldError("ccel", "is not a confidential computing event log")
	}
	return registers, events, nil
}

// cursor reads little-endian fields; after the first shortage it gives zeros and remembers.
type cursor struct {
	b   []byte
	bad bool
}

// take returns the next n bytes, or nil when there are too few.
func (c *cursor) take(n uint32) []byte {
	if c.bad || uint64(n) > uint64(len(c.b)) || n > maxEventLen {
		c.bad = true
		return nil
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

// uint32 reads a number.
func (c *cursor) uint32() uint32 {
	if v := c.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

// uint16 reads a short number.
func (c *cursor) uint16() uint16 {
	if v := c.take(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

// skipHeader passes the first event, which has the old form with one SHA-1 and describes the log.
func (c *cursor) skipHeader() {
	c.take(4)
	if c.uint32() != eventNoAction {
		c.bad = true
	}
	c.take(20)
	c.take(c.uint32())
}

// event reads one event; ok is false for those that extend nothing.
func (c *cursor) event() (e BootEvent, ok bool) {
	index := c.uint32()
	e.Type = c.uint32()
	count := c.uint32()
	if count == 0 || count > maxDigests {
		c.bad = true
		return e, false
	}
	found := false
	for range count {
		algorithm := c.uint16()
		size, known := digestSizes[algorithm]
		if !known {
			c.bad = true
			return e, false
		}
		digest := c.take(uint32(size))
		if algorithm == algSHA384 && digest != nil {
			e.Digest, found = schemas.Measure(digest), true
		}
	}
	c.take(c.uint32())
	if e.Type == eventNoAction {
		return e, false
	}
	// Index 0 is MRTD, which firmware cannot extend; 1 to 4 are the registers.
	if !found || index < 1 || index > 4 {
		c.bad = true
		return e, false
	}
	e.RTMR = int(index) - 1
	return e, true
}
