package openai

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/cocoon-network/cocoon/schemas"
)

// Object is a checked JSON object, taken apart one level deep. Values are the bytes as written; they share memory with
// what was parsed.
type Object []Member

// Member is one key of an object and its value.
type Member struct {
	// Name is the key with escapes resolved.
	Name string
	// Value is one JSON value without white space around it.
	Value []byte
}

// Check reports whether b is one acceptable JSON value: see the package's comment for what that means.
func Check(b []byte) error { return (&scanner{data: b}).check() }

// fewMembers is how many members objects of a request mostly have.
const fewMembers = 8

// ParseObject checks a whole document and takes its outermost object apart.
func ParseObject(b []byte) (Object, error) {
	o := make(Object, 0, fewMembers)
	s := scanner{data: b}
	s.member = func(name string, value []byte) { o = append(o, Member{name, value}) }
	return o, s.checkObject()
}

// ParseFrame is ParseObject for an object in an object: it takes the outermost object apart, and in the same pass the
// object that is its value of the key of. inner is nil when that value is not an object.
func ParseFrame(b []byte, of string) (frame, inner Object, err error) {
	frame, inner = make(Object, 0, fewMembers), make(Object, 0, fewMembers)
	s := scanner{data: b, innerOf: of}
	s.member = func(name string, value []byte) { frame = append(frame, Member{name, value}) }
	s.inner = func(name string, value []byte) { inner = append(inner, Member{name, value}) }
	if err := s.checkObject(); err != nil {
		return nil, nil, err
	}
	if v := frame.Get(of); v == nil || v[0] != '{' {
		inner = nil
	}
	return frame, inner, nil
}

// checkObject reads the whole document, which must be an object.
func (s *scanner) checkObject() error {
	if err := s.check(); err != nil {
		return err
	}
	s.pos = 0
	if s.space(); s.data[s.pos] != '{' {
		return schemas.FieldError("", "must be a JSON object")
	}
	return nil
}

// Get returns the value of a key, nil when the object has none. JSON null counts as none: OpenAI's clients send null for
// what they leave out.
func (o Object) Get(name string) []byte {
	for _, m := range o {
		if m.Name == name {
			if string(m.Value) == "null" {
				return nil
			}
			return m.Value
		}
	}
	return nil
}

// String reads an optional string: empty when the key is absent.
func (o Object) String(name string) (string, error) {
	v := o.Get(name)
	if v == nil {
		return "", nil
	}
	if v[0] == '"' && ordinary(v[1:]) == len(v)-2 {
		return string(v[1 : len(v)-1]), nil
	}
	var s string
	if v[0] != '"' || json.Unmarshal(v, &s) != nil {
		return "", schemas.FieldError(name, "must be a string")
	}
	return s, nil
}

// Bool reads an optional boolean: false when the key is absent.
func (o Object) Bool(name string) (bool, error) {
	switch v := o.Get(name); string(v) {
	case "true":
		return true, nil
	case "false", "":
		return false, nil
	}
	return false, schemas.FieldError(name, "must be true or false")
}

// Int reads an optional whole number in [low, high]; present tells whether the key is there.
func (o Object) Int(name string, low, high int64) (n int64, present bool, err error) {
	v := o.Get(name)
	if v == nil {
		return 0, false, nil
	}
	n, err = strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < low || n > high {
		return 0, true, schemas.FieldError(name, "must be a whole number between "+strconv.FormatInt(low, 10)+" and "+strconv.FormatInt(high, 10))
	}
	return n, true, nil
}

// Object reads an optional object, nil when the key is absent.
func (o Object) Object(name string) (Object, error) {
	v := o.Get(name)
	if v == nil {
		return nil, nil
	}
	if v[0] != '{' {
		return nil, schemas.FieldError(name, "must be an object")
	}
	return ParseObject(v)
}

// Append writes the object with its members in order. Values keep their bytes, white space between them goes.
func (o Object) Append(b []byte) []byte {
	b = append(b, '{')
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, m.Name)
		b = append(b, ':')
		b = append(b, m.Value...)
	}
	return append(b, '}')
}

// Without returns the object less the named keys.
func (o Object) Without(names ...string) Object {
	return slices.DeleteFunc(slices.Clone(o), func(m Member) bool { return slices.Contains(names, m.Name) })
}

// With returns the object with one key set, in its old place when it had one.
func (o Object) With(name string, value []byte) Object {
	out := slices.Clone(o)
	for i := range out {
		if out[i].Name == name {
			out[i].Value = value
			return out
		}
	}
	return append(out, Member{name, value})
}

// appendString writes a JSON string.
func appendString(b []byte, s string) []byte {
	q, _ := json.Marshal(s) // a string always marshals
	return append(b, q...)
}

// Quote spells a JSON string.
func Quote(s string) []byte { return appendString(nil, s) }
