package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/schemas"
)

// badJSON names documents that must be refused, and the field each refusal must name.
var badJSON = []struct {
	name, doc, field string
	kind             schemas.Kind
}{
	{"empty", "", "", schemas.KindInvalid},
	{"only space", " \n\t", "", schemas.KindInvalid},
	{"open object", `{`, "", schemas.KindInvalid},
	{"open array", `[1,`, "[1]", schemas.KindInvalid},
	{"open string", `{"a":"b`, "a", schemas.KindInvalid},
	{"trailing data", `{} {}`, "", schemas.KindInvalid},
	{"trailing comma", `{"a":1,}`, "", schemas.KindInvalid},
	{"no colon", `{"a" 1}`, "a", schemas.KindInvalid},
	{"no value", `{"a":}`, "a", schemas.KindInvalid},
	{"duplicate key", `{"a":1,"b":{"c":1,"c":2}}`, "b.c", schemas.KindInvalid},
	{"duplicate key, second spelling", `{"ab":1,"\u0061b":2}`, "ab", schemas.KindInvalid},
	{"duplicate among many", `{` + manyKeys(100) + `,"k7":1}`, "k7", schemas.KindInvalid},
	{"infinite number", `{"a":[0,1e999]}`, "a[1]", schemas.KindInvalid},
	{"endless digits", `{"a":1` + strings.Repeat("0", 400) + `}`, "a", schemas.KindInvalid},
	{"leading zero", `{"a":01}`, "", schemas.KindInvalid},
	{"plus", `{"a":+1}`, "a", schemas.KindInvalid},
	{"bare point", `{"a":1.}`, "a", schemas.KindInvalid},
	{"NaN", `{"a":NaN}`, "a", schemas.KindInvalid},
	{"lone high surrogate", `{"m":[{"c":"\ud800x"}]}`, "m[0].c", schemas.KindInvalid},
	{"lone low surrogate", `{"m":"\udc00"}`, "m", schemas.KindInvalid},
	{"two high surrogates", `{"m":"\ud800\ud800"}`, "m", schemas.KindInvalid},
	{"unknown escape", `{"m":"\x41"}`, "m", schemas.KindInvalid},
	{"short escape", `{"m":"\u12"}`, "m", schemas.KindInvalid},
	{"signed escape", `{"m":"\u+123"}`, "m", schemas.KindInvalid},
	{"control character", "{\"m\":\"a\nb\"}", "m", schemas.KindInvalid},
	{"not UTF-8", "{\"m\":\"\xff\"}", "", schemas.KindInvalid},
	{"UTF-8 surrogate", "{\"m\":\"\xed\xa0\x80\"}", "", schemas.KindInvalid},
	{"10,000 arrays", strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), "[0]", schemas.KindTooLarge},
	{"10,000 objects", strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000), "a", schemas.KindTooLarge},
	{"hostile key", `{"` + strings.Repeat(`\u0000`, 100) + `":nope}`, "", schemas.KindInvalid},
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"k` + strings.Repeat("7", i%5) + string(rune('a'+i%26)) + strings.Repeat("x", i/26) + `":0`)
	}
	return `"k7":0,` + b.String()
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range badJSON {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := Check([]byte(tt.doc))
			var e *schemas.Error
			if !errors.As(err, &e) {
				t.Fatalf("Check = %v, want a *schemas.Error", err)
			}
			if e.Kind != tt.kind || tt.field != "" && e.Field != tt.field {
				t.Errorf("Check = %v (kind %v, field %q), want kind %v, field %q", err, e.Kind, e.Field, tt.kind, tt.field)
			}
			if len(e.Error()) > 400 {
				t.Errorf("a refusal of %d bytes repeats hostile input", len(e.Error()))
			}
		})
	}
}

// goodJSON must pass, and encoding/json must agree.
var goodJSON = []string{
	`{}`, `[]`, `null`, ` "x" `, `-0`, `1e308`, `0.1E-400`, `{"":1}`, `{"a":{"a":{"a":[{"a":1},{"a":1}]}}}`,
	`{"s":"\ud83d\ude00 \u0000 \"\\\/\b\f\n\r\t"}`, "{\"s\":\"\u2028\u00e9\u4e16\"}",
	strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth), `{` + manyKeys(100) + `}`,
}

func TestCheckAccepts(t *testing.T) {
	t.Parallel()
	for _, doc := range goodJSON {
		if err := Check([]byte(doc)); err != nil {
			t.Errorf("Check(%.60q) = %v", doc, err)
		}
		if !json.Valid([]byte(doc)) {
			t.Errorf("encoding/json refuses %.60q", doc)
		}
	}
}

// FuzzCheck holds the scanner against encoding/json: it never accepts what that refuses, and an object that it takes
// apart goes together to the same value.
func FuzzCheck(f *testing.F) {
	for _, tt := range badJSON {
		f.Add([]byte(tt.doc))
	}
	for _, doc := range goodJSON {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		err := Check(doc)
		if err == nil && !json.Valid(doc) {
			t.Fatal("accepted what encoding/json refuses")
		}
		o, perr := ParseObject(doc)
		if perr != nil {
			return
		}
		if err != nil {
			t.Fatalf("ParseObject took what Check refuses: %v", err)
		}
		again, err := ParseObject(o.Append(nil))
		if err != nil {
			t.Fatalf("written again it does not parse: %v", err)
		}
		if string(again.Append(nil)) != string(o.Append(nil)) {
			t.Fatal("written twice it differs")
		}
	})
}

// TestOrdinary puts every byte at every place of a text of several words.
func TestOrdinary(t *testing.T) {
	t.Parallel()
	const length = 27
	for at := range length {
		for c := range 256 {
			text := bytes.Repeat([]byte{'~'}, length)
			text[at] = byte(c)
			want := length
			if c < ' ' || c == '"' || c == '\\' {
				want = at
			}
			if got := ordinary(text); got != want {
				t.Fatalf("byte %#x at %d: %d ordinary bytes, want %d", c, at, got, want)
			}
			copy(text, "\xff\x20\x80\x21\x23\x5b\x5d\x7f"[:min(at, 8)]) // neighbours of what ends a text
			if got := ordinary(text); got != want {
				t.Fatalf("byte %#x at %d behind its neighbours: %d ordinary bytes, want %d", c, at, got, want)
			}
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	line := []byte(`{"custom_id":"r-1","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"system","content":"` +
		strings.Repeat("You answer in one word. ", 40) + `"},{"role":"user","content":"` + strings.Repeat("What is the capital? ", 120) + `"}],"max_tokens":16}}`)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Check(line); err != nil {
			b.Fatal(err)
		}
	}
}
