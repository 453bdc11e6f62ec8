package schemas

import (
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Measure is the value of a 384-bit measurement register, spelled as 96 lower-case hex digits.
type Measure [sha512.Size384]byte

// String spells the register as in JSON.
func (m Measure) String() string { return hex.EncodeToString(m[:]) }

// MarshalText spells the register.
func (m Measure) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText refuses everything but the canonical spelling.
func (m *Measure) UnmarshalText(b []byte) error {
	if len(b) != 2*len(m) || !lowerHex(string(b)) {
		return invalid("measure", "must be 96 lower-case hex digits")
	}
	_, err := hex.Decode(m[:], b)
	return err
}

// ParseMeasure is UnmarshalText as a function.
func ParseMeasure(s string) (m Measure, err error) {
	err = m.UnmarshalText([]byte(s))
	return m, err
}

// IsZero reports whether the register was never extended.
func (m Measure) IsZero() bool { return m == Measure{} }

// Extend returns the register after one more digest: SHA-384(register ‖ digest), as the hardware does it.
func (m Measure) Extend(digest Measure) Measure {
	return sha512.Sum384(append(m[:], digest[:]...))
}

// EventType names what an event of the boot log measures.
type EventType string

// The events, in the only order a verifier admits. Everything a process is told after boot-done cannot be measured.
const (
	// EventConfig: the SHA-256 of the configuration bundle. Exactly once, first.
	EventConfig EventType = "config"
	// EventPolicyRoot: the hash of the root key set that this enclave obeys. Exactly once.
	EventPolicyRoot EventType = "policy-root"
	// EventModel: the full id of a model whose weights were verified before boot-done. Any number.
	EventModel EventType = "model"
	// EventGPU: the digest of GPU evidence taken at boot. Any number.
	EventGPU EventType = "gpu"
	// EventBootDone: an empty payload. Exactly once, last. Identity keys are made after it.
	EventBootDone EventType = "boot-done"
)

// eventOrder is the fixed order; repeats marks the events that may come more than once.
var (
	eventOrder = [...]EventType{EventConfig, EventPolicyRoot, EventModel, EventGPU, EventBootDone}
	repeats    = map[EventType]bool{EventModel: true, EventGPU: true}
)

// Limits of an event log.
const (
	MaxEvents       = 64
	MaxEventPayload = 256
)

// Event is one entry of the boot log of RTMR3.
type Event struct {
	_ struct{} `cbor:",toarray"`
	// Type names the event.
	Type EventType
	// Payload is what is measured, at most MaxEventPayload bytes.
	Payload []byte
}

// ConfigEvent measures a configuration bundle.
func ConfigEvent(config Hash) Event { return Event{Type: EventConfig, Payload: config[:]} }

// PolicyRootEvent measures the root key set an enclave obeys.
func PolicyRootEvent(roots Hash) Event { return Event{Type: EventPolicyRoot, Payload: roots[:]} }

// ModelEvent measures a model.
func ModelEvent(id ModelID) Event { return Event{Type: EventModel, Payload: []byte(id)} }

// GPUEvent measures GPU evidence of the boot.
func GPUEvent(digest Hash) Event { return Event{Type: EventGPU, Payload: digest[:]} }

// BootDoneEvent closes the log.
func BootDoneEvent() Event { return Event{Type: EventBootDone, Payload: []byte{}} }

// Digest is what RTMR3 is extended with: SHA-384 over "cocoon/rtmr3/v1", a zero byte, the type preceded by its length
// as a 16-bit and the payload preceded by its length as a 32-bit big-endian number.
func (e Event) Digest() Measure {
	b := append([]byte("cocoon/rtmr3/v1"), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.Type)))
	b = append(b, e.Type...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Payload)))
	return sha512.Sum384(append(b, e.Payload...))
}

// check refuses payloads that do not fit their type.
func (e Event) check() error {
	if len(e.Payload) > MaxEventPayload {
		return &Error{Kind: KindTooLarge, Field: "payload", Message: "is longer than 256 bytes"}
	}
	switch e.Type {
	case EventConfig, EventPolicyRoot, EventGPU:
		if len(e.Payload) != len(Hash{}) {
			return invalid("payload", "must be a hash of 32 bytes")
		}
	case EventModel:
		_, err := ParseModelID(string(e.Payload))
		return err
	case EventBootDone:
		if len(e.Payload) != 0 {
			return invalid("payload", "must be empty")
		}
	}
	return nil
}

// EventLog is the boot log of RTMR3.
type EventLog []Event

// Facts is what a well-ordered log says.
type Facts struct {
	// Config and PolicyRoot are the payloads of their events.
	Config, PolicyRoot Hash
	// Models and GPUs are those of the repeated events, in order.
	Models []ModelID
	GPUs   []Hash
}

// Replay checks the order and every payload and returns what the log says and the value RTMR3 must have. A log that is
// unknown, repeated, out of order or not closed is refused.
func (l EventLog) Replay() (Facts, Measure, error) {
	var facts Facts
	var register Measure
	if len(l) > MaxEvents {
		return facts, register, &Error{Kind: KindTooLarge, Field: "log", Message: "has more than 64 events"}
	}
	at, seen := 0, map[EventType]int{}
	for i, e := range l {
		for at < len(eventOrder) && eventOrder[at] != e.Type {
			at++
		}
		if at == len(eventOrder) {
			return facts, register, invalid(logField(i, "type"), fmt.Sprintf("event %s is unknown or out of order", clip(string(e.Type))))
		}
		if seen[e.Type]++; seen[e.Type] > 1 && !repeats[e.Type] {
			return facts, register, invalid(logField(i, "type"), "a second "+string(e.Type))
		}
		if err := e.check(); err != nil {
			return facts, register, rename(err, logField(i, "payload"))
		}
		facts.add(e)
		register = register.Extend(e.Digest())
	}
	for _, t := range eventOrder {
		if seen[t] == 0 && !repeats[t] {
			return facts, register, invalid("log", "lacks the event "+string(t))
		}
	}
	return facts, register, nil
}

// add notes a checked event.
func (f *Facts) add(e Event) {
	switch e.Type {
	case EventConfig:
		f.Config = Hash(e.Payload)
	case EventPolicyRoot:
		f.PolicyRoot = Hash(e.Payload)
	case EventModel:
		f.Models = append(f.Models, ModelID(e.Payload))
	case EventGPU:
		f.GPUs = append(f.GPUs, Hash(e.Payload))
	}
}

// logField names a field of an event.
func logField(i int, name string) string { return fmt.Sprintf("log[%d].%s", i, name) }
