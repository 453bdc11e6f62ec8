package schemas

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"
)

// statement writes or reads the JSON form of a grant or a receipt, field by field in their one order. Every job costs two
// statements that three parties read, so they are not left to a general JSON reader, and both directions follow one list of
// fields: a reader demands at each place exactly what a writer puts there. Unknown, repeated, reordered and missing
// fields, white space and second spellings have no place where they could be accepted.
//
// The first failure is kept in err; what is called after it does nothing.
type statement struct {
	b       []byte // written so far, or still to be read
	reading bool
	begun   bool // a field of this object came before
	err     error
}

// writeStatement spells the fields that walk visits.
func writeStatement(walk func(*statement)) ([]byte, error) {
	const room = 1 << 10 // enough for nearly all
	s := statement{b: append(make([]byte, 0, room), '{')}
	walk(&s)
	return append(s.b, '}'), s.err
}

// readStatement reads the fields that walk visits and demands that nothing else is there.
func readStatement(b []byte, walk func(*statement)) error {
	if len(b) > MaxSignedHeader {
		return &Error{Kind: KindTooLarge, Message: "statement is longer than " + strconv.Itoa(MaxSignedHeader) + " bytes"}
	}
	s := statement{b: b, reading: true}
	s.expect("", "{")
	walk(&s)
	s.expect("", "}")
	if len(s.b) > 0 {
		s.fail("", "has data after the statement")
	}
	return s.err
}

// fail keeps the first failure.
func (s *statement) fail(field, message string) {
	if s.err == nil {
		s.err = invalid(field, message)
	}
}

// expect takes a text that must stand next.
func (s *statement) expect(field, text string) {
	rest, ok := bytes.CutPrefix(s.b, []byte(text))
	if !ok {
		s.fail(field, "is not in its place in the canonical form")
		return
	}
	s.b = rest
}

// put writes a text, or demands it.
func (s *statement) put(field, text string) {
	if s.reading {
		s.expect(field, text)
		return
	}
	s.b = append(s.b, text...)
}

// key is the name of a field and all that stands before its value. It reports whether to go on.
func (s *statement) key(name string) bool {
	if s.begun {
		s.put(name, `,"`)
	} else {
		s.put(name, `"`)
	}
	s.begun = true
	s.put(name, name)
	s.put(name, `":`)
	return s.err == nil
}

// quoted is a string value without characters that JSON would escape; no field of a statement has any. write appends
// the value, read takes it.
func (s *statement) quoted(name string, write func(b []byte) []byte, read func(value []byte) error) {
	if !s.key(name) {
		return
	}
	s.put(name, `"`)
	if !s.reading {
		start := len(s.b)
		s.b = write(s.b)
		if plain(s.b[start:]) != len(s.b)-start {
			s.fail(name, "has characters that no statement may have")
		}
	} else {
		n := plain(s.b)
		if err := read(s.b[:n]); err != nil {
			s.fail(name, "is not in the canonical form")
		}
		s.b = s.b[n:]
	}
	s.put(name, `"`)
}

// plain is the length of the longest beginning of b that JSON spells as it is.
func plain(b []byte) int {
	for i, c := range b {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return i
		}
	}
	return len(b)
}

// text is a string.
func text[T ~string](s *statement, name string, v *T) {
	s.quoted(name, func(b []byte) []byte { return append(b, *v...) }, func(value []byte) error {
		*v = T(value)
		return nil
	})
}

// number is a whole number that is not negative.
func number[T ~int | ~uint32 | ~uint64](s *statement, name string, v *T) {
	if !s.key(name) {
		return
	}
	if !s.reading {
		s.b = strconv.AppendUint(s.b, uint64(*v), 10)
		return
	}
	n := 0
	for n < len(s.b) && s.b[n] >= '0' && s.b[n] <= '9' {
		n++
	}
	u, err := strconv.ParseUint(string(s.b[:n]), 10, 64)
	*v = T(u)
	if err != nil || s.b[0] == '0' && n > 1 || *v < 0 || uint64(*v) != u {
		s.fail(name, "must be a whole number in its shortest form")
	}
	s.b = s.b[n:]
}

// amount is money: a string of digits.
func (s *statement) amount(name string, v *NanoTON) {
	s.quoted(name, func(b []byte) []byte { return strconv.AppendInt(b, int64(*v), 10) }, v.UnmarshalText)
}

// hash is a hash in its textual form.
func (s *statement) hash(name string, v *Hash) {
	s.quoted(name, func(b []byte) []byte { return hex.AppendEncode(append(b, hashPrefix...), v[:]) }, v.UnmarshalText)
}

// binary is base64 in its standard form with padding.
func (s *statement) binary(name string, v *[]byte) {
	s.quoted(name, func(b []byte) []byte { return base64.StdEncoding.AppendEncode(b, *v) }, func(value []byte) (err error) {
		*v, err = base64.StdEncoding.Strict().AppendDecode(nil, value)
		return err
	})
}

// time is an instant in UTC with whole seconds.
func (s *statement) time(name string, v *time.Time) {
	s.quoted(name, func(b []byte) []byte { return v.AppendFormat(b, time.RFC3339Nano) }, func(value []byte) (err error) {
		*v, err = parseTime(string(value))
		return err
	})
}

// usage is an object of four counts.
func (s *statement) usage(name string, u *Usage) {
	if !s.key(name) {
		return
	}
	s.put(name, "{")
	s.begun = false
	number(s, "prompt", &u.Prompt)
	number(s, "cached", &u.Cached)
	number(s, "completion", &u.Completion)
	number(s, "reasoning", &u.Reasoning)
	s.put(name, "}")
}

// walk visits the fields of a grant in their order.
func (g *Grant) walk(s *statement) {
	number(s, "v", &g.V)
	text(s, "job", &g.Job)
	text(s, "tenant", &g.Tenant)
	text(s, "model", &g.Model)
	text(s, "class", &g.Class)
	s.hash("envelope", &g.Envelope)
	number(s, "attempt", &g.Attempt)
	text(s, "worker", &g.Worker)
	s.binary("worker_key", &g.WorkerKey)
	text(s, "owner", &g.Owner)
	number(s, "catalogue", &g.Catalogue)
	number(s, "multiplier", &g.Multiplier)
	s.amount("ceiling", &g.Ceiling)
	number(s, "policy", &g.Policy)
	text(s, "environment", &g.Environment)
	text(s, "broker", &g.Broker)
	s.time("issued", &g.Issued)
	s.time("lease", &g.Lease)
}

// Encode spells the grant; it is the payload of its JWS. It fails on texts that no grant may have.
func (g *Grant) Encode() ([]byte, error) { return writeStatement(g.walk) }

// walk visits the fields of a receipt in their order.
func (r *Receipt) walk(s *statement) {
	number(s, "v", &r.V)
	text(s, "job", &r.Job)
	s.hash("grant", &r.Grant)
	text(s, "worker", &r.Worker)
	text(s, "model", &r.Model)
	s.usage("usage", &r.Usage)
	text(s, "status", &r.Status)
	s.hash("result", &r.Result)
	number(s, "seq", &r.Seq)
	s.hash("prev", &r.Prev)
	s.time("started", &r.Started)
	s.time("finished", &r.Finished)
}

// Encode spells the receipt; it is the payload of its JWS. It fails on texts that no receipt may have.
func (r *Receipt) Encode() ([]byte, error) { return writeStatement(r.walk) }
