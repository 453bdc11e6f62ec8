package openai

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/schemas"
)

// MaxDepth is how deep arrays and objects of a request may be nested. Real requests stay below 20; tool schemas are the
// deepest part.
const MaxDepth = 128

// maxFieldName is how many bytes of a key are repeated in an error.
const maxFieldName = 64

// scanner checks one JSON document. Keys of the open objects lie on one stack, so that checking takes no memory per
// object.
type scanner struct {
	data []byte
	pos  int
	// keys holds the keys of all open objects; an object's own start at its base.
	keys [][]byte
	// path is where the scanner is, for error messages.
	path []step
	// member, when not nil, is told of every member of the outermost object; inner of every member of the object that is
	// the outermost one's value of the key innerOf.
	member, inner func(name string, value []byte)
	innerOf       string
}

// step is one level of a path: a key, or an index when key is nil.
type step struct {
	key   []byte
	index int
}

// check reads the whole document.
func (s *scanner) check() error {
	if !utf8.Valid(s.data) {
		return s.fail("is not valid UTF-8")
	}
	s.space()
	if s.pos == len(s.data) {
		return s.fail("is empty")
	}
	if err := s.value(0); err != nil {
		return err
	}
	s.space()
	if s.pos != len(s.data) {
		s.path = s.path[:0]
		return s.fail("has data after the JSON value, at byte " + strconv.Itoa(s.pos))
	}
	return nil
}

// value reads one value that starts at pos.
func (s *scanner) value(depth int) error {
	if s.pos == len(s.data) {
		return s.fail("ends in the middle of a value")
	}
	switch c := s.data[s.pos]; c {
	case '{':
		return s.object(depth)
	case '[':
		return s.array(depth)
	case '"':
		_, _, err := s.str()
		return err
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return s.number()
		}
		return s.unexpected("a value")
	}
}

// object reads from "{" to "}".
func (s *scanner) object(depth int) error {
	if depth == MaxDepth {
		return s.tooDeep()
	}
	s.pos++
	base := len(s.keys)
	var many map[string]struct{}
	s.space()
	if s.take('}') {
		return nil
	}
	for {
		s.space()
		if s.pos == len(s.data) || s.data[s.pos] != '"' {
			return s.unexpected("a key")
		}
		key, err := s.key()
		if err != nil {
			return err
		}
		s.path = append(s.path, step{key: key})
		if err := s.newKey(base, &many, key); err != nil {
			return err
		}
		s.space()
		if !s.take(':') {
			return s.unexpected(`":"`)
		}
		s.space()
		start := s.pos
		if err := s.value(depth + 1); err != nil {
			return err
		}
		switch {
		case depth == 0 && s.member != nil:
			s.member(string(key), s.data[start:s.pos])
		case depth == 1 && s.inner != nil && s.path[0].key != nil && string(s.path[0].key) == s.innerOf:
			s.inner(string(key), s.data[start:s.pos])
		}
		s.path = s.path[:len(s.path)-1]
		s.space()
		if s.take(',') {
			continue
		}
		if s.take('}') {
			s.keys = s.keys[:base]
			return nil
		}
		return s.unexpected(`"," or "}"`)
	}
}

// fewKeys is up to how many keys of an object a linear search is quicker than a set.
const fewKeys = 32

// newKey refuses a key that the object already has: few keys lie on the scanner's stack from base on, many in a set.
func (s *scanner) newKey(base int, many *map[string]struct{}, key []byte) error {
	own := s.keys[base:]
	if *many == nil && len(own) == fewKeys {
		*many = make(map[string]struct{}, 4*fewKeys)
		for _, k := range own {
			(*many)[string(k)] = struct{}{}
		}
	}
	if *many != nil {
		if _, twice := (*many)[string(key)]; twice {
			return s.fail("appears twice in one object")
		}
		(*many)[string(key)] = struct{}{}
		return nil
	}
	for _, k := range own {
		if bytes.Equal(k, key) {
			return s.fail("appears twice in one object")
		}
	}
	s.keys = append(s.keys, key)
	return nil
}

// array reads from "[" to "]".
func (s *scanner) array(depth int) error {
	if depth == MaxDepth {
		return s.tooDeep()
	}
	s.pos++
	s.space()
	if s.take(']') {
		return nil
	}
	s.path = append(s.path, step{})
	for i := 0; ; i++ {
		s.path[len(s.path)-1].index = i
		s.space()
		if err := s.value(depth + 1); err != nil {
			return err
		}
		s.space()
		if s.take(',') {
			continue
		}
		if s.take(']') {
			s.path = s.path[:len(s.path)-1]
			return nil
		}
		return s.unexpected(`"," or "]"`)
	}
}

// str reads a string and returns the bytes between its quotes; escaped tells that they hold escapes, all of them good.
func (s *scanner) str() (raw []byte, escaped bool, err error) {
	start := s.pos + 1
	s.pos = start
	for {
		if s.pos += ordinary(s.data[s.pos:]); s.pos == len(s.data) {
			return nil, false, s.fail("ends in the middle of a string")
		}
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return s.data[start : s.pos-1], escaped, nil
		case c == '\\':
			escaped = true
			if _, err := s.escape(); err != nil {
				return nil, false, err
			}
		default:
			return nil, false, s.fail("has a control character in a string, at byte " + strconv.Itoa(s.pos))
		}
	}
}

// ordinary counts the bytes at the start of b that a string holds as they are: no quote, no backslash and no control
// character. Nearly all of a request is such text, so it is looked at eight bytes at a time: in (x - ones) &^ x the top
// bit of every byte of x that is zero is set, and at worst that of bytes above one that is.
func ordinary(b []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; n+8 <= len(b); n += 8 {
		v := binary.LittleEndian.Uint64(b[n:])
		quote, backslash := v^(ones*'"'), v^(ones*'\\')
		if ((v-ones*' ')&^v|(quote-ones)&^quote|(backslash-ones)&^backslash)&tops != 0 {
			break
		}
	}
	for ; n < len(b); n++ {
		if c := b[n]; c == '"' || c == '\\' || c < ' ' {
			break
		}
	}
	return n
}

// key reads a key and resolves its escapes, so that two spellings of one key are seen to be the same.
func (s *scanner) key() ([]byte, error) {
	raw, escaped, err := s.str()
	if err != nil || !escaped {
		return raw, err
	}
	return unescape(raw), nil
}

// unescape resolves the escapes of a string that str has accepted.
func unescape(raw []byte) []byte {
	s := scanner{data: raw}
	b := make([]byte, 0, len(raw))
	for s.pos < len(raw) {
		if raw[s.pos] != '\\' {
			b = append(b, raw[s.pos])
			s.pos++
			continue
		}
		r, _ := s.escape() // str has read it before
		b = utf8.AppendRune(b, r)
	}
	return b
}

// escape reads one escape sequence, or the two that make a surrogate pair.
func (s *scanner) escape() (rune, error) {
	if s.pos+1 >= len(s.data) {
		return 0, s.fail("ends in the middle of a string")
	}
	c := s.data[s.pos+1]
	if c == 'u' {
		return s.unicode()
	}
	at := strings.IndexByte(`"\/bfnrt`, c)
	if at < 0 {
		return 0, s.fail("has an unknown escape in a string, at byte " + strconv.Itoa(s.pos))
	}
	s.pos += 2
	return rune("\"\\/\b\f\n\r\t"[at]), nil
}

// unicode reads \uXXXX. A surrogate must be the first of a pair.
func (s *scanner) unicode() (rune, error) {
	r, ok := s.hex(s.pos)
	if !ok {
		return 0, s.fail(`has a broken \u escape, at byte ` + strconv.Itoa(s.pos))
	}
	if !utf16.IsSurrogate(r) {
		s.pos += 6
		return r, nil
	}
	low, ok := s.hex(s.pos + 6)
	pair := utf16.DecodeRune(r, low)
	if !ok || pair == utf8.RuneError {
		return 0, s.fail("has half a surrogate pair in a string, at byte " + strconv.Itoa(s.pos))
	}
	s.pos += 12
	return pair, nil
}

// hex reads \uXXXX at a position without moving.
func (s *scanner) hex(at int) (rune, bool) {
	if at+6 > len(s.data) || s.data[at] != '\\' || s.data[at+1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(string(s.data[at+2:at+6]), 16, 16)
	if err != nil || s.data[at+2] == '+' || s.data[at+2] == '-' {
		return 0, false
	}
	return rune(v), true
}

// number reads a number by the grammar of RFC 8259 and refuses one that is infinite as a float64.
func (s *scanner) number() error {
	start := s.pos
	s.take('-')
	if !s.take('0') && !s.digits() {
		return s.unexpected("a digit")
	}
	if s.take('.') && !s.digits() {
		return s.unexpected("a digit")
	}
	exponent := false
	if s.take('e') || s.take('E') {
		exponent = true
		if !s.take('+') {
			s.take('-')
		}
		if !s.digits() {
			return s.unexpected("a digit")
		}
	}
	const surelyFinite = 300 // digits without exponent
	if exponent || s.pos-start > surelyFinite {
		if f, err := strconv.ParseFloat(string(s.data[start:s.pos]), 64); err != nil || math.IsInf(f, 0) {
			return s.fail("is a number too large for a 64-bit float")
		}
	}
	return nil
}

// digits reads one or more digits.
func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}

// literal reads true, false or null.
func (s *scanner) literal(word string) error {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return s.unexpected("a value")
	}
	s.pos += len(word)
	return nil
}

// space skips white space.
func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// take moves over c when it is next.
func (s *scanner) take(c byte) bool {
	if s.pos < len(s.data) && s.data[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// unexpected reports what stands where something else must.
func (s *scanner) unexpected(want string) error {
	if s.pos == len(s.data) {
		return s.fail("ends where " + want + " must be")
	}
	return s.fail("is not JSON: byte " + strconv.Itoa(s.pos) + " must be " + want)
}

// tooDeep refuses the nesting.
func (s *scanner) tooDeep() error {
	s.path = s.path[:min(len(s.path), 1)] // 128 steps help nobody
	return &schemas.Error{Kind: schemas.KindTooLarge, Field: s.where(), Message: "is nested deeper than " + strconv.Itoa(MaxDepth)}
}

// fail is a KindInvalid error at the current path.
func (s *scanner) fail(message string) error { return schemas.FieldError(s.where(), message) }

// where spells the path: messages[3].content.
func (s *scanner) where() string {
	var b strings.Builder
	for i, p := range s.path {
		switch {
		case p.key == nil:
			b.WriteString("[" + strconv.Itoa(p.index) + "]")
		case i > 0:
			b.WriteString("." + clip(p.key))
		default:
			b.WriteString(clip(p.key))
		}
	}
	return b.String()
}

// clip keeps hostile keys out of messages.
func clip(key []byte) string {
	plain := len(key) <= maxFieldName
	for i := 0; plain && i < len(key); i++ {
		c := key[i]
		plain = c == '_' || c == '-' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
	}
	if plain && len(key) > 0 {
		return string(key)
	}
	return strconv.QuoteToASCII(string(key[:min(len(key), maxFieldName)]))
}
