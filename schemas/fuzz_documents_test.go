package schemas_test

import (
	"bytes"
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"testing"

	"github.com/cocoon-network/cocoon/schemas"
)

// settled fuzzes a parser of JSON that people write, with white space and order as they please: whatever parses encodes
// to one form, which parses to the same again, and whatever does not has a kind.
func settled[T any](f *testing.F, seeds [][]byte, parse func([]byte) (T, error)) {
	f.Helper()
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parse(b)
		if err != nil {
			if schemas.KindOf(err) == schemas.KindUnknown {
				t.Errorf("%v has no kind", err)
			}
			return
		}
		one, err := schemas.EncodeJSON(v)
		if err != nil {
			t.Fatalf("%q parses and does not encode: %v", b, err)
		}
		again, err := parse(one)
		if err != nil {
			t.Fatalf("%s, its own encoding, is refused: %v", one, err)
		}
		if two, err := schemas.EncodeJSON(again); err != nil || !bytes.Equal(one, two) {
			t.Fatalf("%s encodes again as %s (%v)", one, two, err)
		}
	})
}

// encoded is a value as a seed.
func encoded(f *testing.F, v any) []byte {
	f.Helper()
	b, err := schemas.EncodeJSON(v)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

func FuzzCatalogue(f *testing.F) {
	settled(f, [][]byte{encoded(f, sampleCatalogue(f))}, schemas.ParseCatalogue)
}

func FuzzTrust(f *testing.F) { settled(f, [][]byte{encoded(f, trustOf(f, 1, 2))}, schemas.ParseTrust) }

func FuzzRootKeys(f *testing.F) {
	settled(f, [][]byte{encoded(f, trustOf(f, 1, 2).Roots)}, schemas.ParseRootKeys)
}

// FuzzOutcome fuzzes one header value after another, and the body: what parses is spelled again as it was.
func FuzzOutcome(f *testing.F) {
	o := schemas.Outcome{
		Job: schemas.NewJobID(), Tenant: "taaaaaaaaaaaaaaaa", Model: someModel, Status: schemas.Succeeded, Grant: "a.b.c", Receipt: "d.e.f", Body: []byte("sealed"),
	}
	for name, values := range o.Header() {
		f.Add(name, values[0], o.Body)
	}
	f.Add("ce-cocoonstatus", "failed", []byte(nil))
	f.Fuzz(func(t *testing.T, name, value string, body []byte) {
		h := o.Header()
		h[name] = []string{value}
		parsed, err := schemas.ParseOutcome(h, body)
		if err != nil {
			if schemas.KindOf(err) == schemas.KindUnknown {
				t.Errorf("%v has no kind", err)
			}
			return
		}
		again := parsed.Header()
		for name, values := range again {
			if !reflect.DeepEqual(values, h[name]) {
				t.Errorf("%s: %q is spelled again as %q", name, h[name], values)
			}
		}
		if !bytes.Equal(parsed.Body, body) {
			t.Errorf("body %q became %q", body, parsed.Body)
		}
	})
}

// FuzzNames fuzzes every id, name and number that is spelled as one word: what parses is spelled again as it was.
func FuzzNames(f *testing.F) {
	for _, s := range []string{
		string(schemas.NewJobID()), "taaaaaaaaaaaaaaaa", "waaaaaaaaaaaaaaaa", "0:0000000000000000000000000000000000000000000000000000000000000001",
		"00112233445566778899aabbccddeeff", schemas.HashOf(nil).String(), string(someModel), "batch", "-12", "0x00000000000000ff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, parse := range namesOf() {
			again, err := parse(s)
			if err != nil {
				if schemas.KindOf(err) != schemas.KindInvalid {
					t.Errorf("%s of %q: %v has no kind", name, s, err)
				}
			} else if again != s {
				t.Errorf("%s: %q is spelled again as %q", name, s, again)
			}
		}
		if n, err := schemas.ParseTON(s); err == nil {
			if again, err := schemas.ParseTON(n.String()); err != nil || again != n {
				t.Errorf("%q is %d nanoTON, which is spelled %s: %d, %v", s, n, n, again, err)
			}
		}
		if kind, err := schemas.ParseKind(s); err == nil && kind.String() != s && strconv.Itoa(int(kind)) != s {
			t.Errorf("kind %q is spelled again as %q", s, kind)
		}
	})
}

// namesOf lists the parsers of words; each returns how it spells what it read.
func namesOf() map[string]func(string) (string, error) {
	text := func(v interface {
		encoding.TextUnmarshaler
		encoding.TextMarshaler
	},
	) func(string) (string, error) {
		return func(s string) (string, error) {
			if err := v.UnmarshalText([]byte(s)); err != nil {
				return "", err
			}
			b, err := v.MarshalText()
			return string(b), err
		}
	}
	return map[string]func(string) (string, error){
		"job":    word(schemas.ParseJobID),
		"tenant": word(schemas.ParseTenantID),
		"worker": word(schemas.ParseWorkerID),
		"owner":  word(schemas.ParseOwner),
		"key":    word(schemas.ParseKeyID),
		"class":  word(schemas.ParseClass),
		"model": func(s string) (string, error) {
			r, err := schemas.ParseModelID(s)
			return string(r.ID()), err
		},
		"hash":    text(new(schemas.Hash)),
		"measure": text(new(schemas.Measure)),
		"boot":    text(new(schemas.BootID)),
		"mask":    text(new(schemas.Bits64)),
		"ppid":    text(new(schemas.PPID)),
		"amount":  text(new(schemas.NanoTON)),
	}
}

// word is a parser of a string type, with the string it returned.
func word[T ~string](parse func(string) (T, error)) func(string) (string, error) {
	return func(s string) (string, error) {
		v, err := parse(s)
		return fmt.Sprint(v), err
	}
}
