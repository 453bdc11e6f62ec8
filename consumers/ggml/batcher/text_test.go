package batcher

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// play feeds pieces and returns each release, then the rest.
func play(stop []string, pieces ...string) (out []string, stopped bool) {
	t := text{stop: stop}
	for i, p := range pieces {
		s, _ := t.push(p, Token{ID: int32(i)})
		out = append(out, s)
		if t.stopped {
			return out, true
		}
	}
	rest, _ := t.flush()
	return append(out, rest), false
}

func TestText(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stop    []string
		pieces  []string
		want    string // releases, separated by |
		stopped bool
	}{
		"plain":                     {nil, []string{"ab", "c"}, "ab|c|", false},
		"rune over tokens":          {nil, []string{"a\xe2", "\x82", "\xac!"}, "a||€!|", false},
		"rune never completed":      {nil, []string{"a\xe2\x82"}, "a|\uFFFD", false},
		"no UTF-8":                  {nil, []string{"a\xff", "b"}, "a\uFFFD|b|", false},
		"emoji bytes":               {nil, []string{"\xf0", "\x9f", "\x98", "\x80"}, "|||😀|", false},
		"stop in one":               {[]string{"END"}, []string{"abENDcd"}, "ab", true},
		"stop over three":           {[]string{"END"}, []string{"aE", "N", "Db"}, "a||", true},
		"false start":               {[]string{"END"}, []string{"aE", "N", "X"}, "a||ENX|", false},
		"overlapping false start":   {[]string{"aab"}, []string{"a", "a", "a", "b"}, "||a|", true},
		"held at the end":           {[]string{"END"}, []string{"aEN"}, "a|EN", false},
		"first of two":              {[]string{"cd", "bc"}, []string{"a", "b", "c", "d"}, "a||", true},
		"stop inside a rune's hold": {[]string{"€€"}, []string{"x€\xe2", "\x82", "\xacy"}, "x||", true},
		"whole answer is the stop":  {[]string{"\n"}, []string{"\n"}, "", true},
	} {
		out, stopped := play(c.stop, c.pieces...)
		if got := strings.Join(out, "|"); got != c.want || stopped != c.stopped {
			t.Errorf("%s: %q %v, want %q %v", name, got, stopped, c.want, c.stopped)
		}
	}
}

// TestTextTokens: a token comes with the release that shows the last of it.
func TestTextTokens(t *testing.T) {
	t.Parallel()
	x := text{stop: []string{"--"}}
	var ids []int32
	note := func(_ string, tokens []Token) {
		for _, k := range tokens {
			ids = append(ids, k.ID)
		}
		ids = append(ids, -1)
	}
	note(x.push("a-", Token{ID: 0}))
	note(x.push("b\xc3", Token{ID: 1}))
	note(x.push("\xa9", Token{ID: 2}))
	note(x.push("-", Token{ID: 3}))
	note(x.push("-", Token{ID: 4}))
	want := []int32{-1, 0, -1, 1, 2, -1, -1, -1}
	if len(ids) != len(want) {
		t.Fatalf("%v, want %v", ids, want)
	}
	for i := range want {
		if ids[i] != want[i] {
			t.Fatalf("%v, want %v", ids, want)
		}
	}
}

// FuzzText: however the bytes are cut into tokens, what comes out is the cleaned text up to the stop string, whole runes
// at a time.
func FuzzText(f *testing.F) {
	f.Add([]byte("hello END world"), "END", uint64(3))
	f.Add([]byte("\xf0\x9f\x98\x80aaab"), "aab", uint64(1))
	f.Fuzz(func(t *testing.T, data []byte, stop string, cuts uint64) {
		if len(stop) > MaxStopBytes || !utf8.ValidString(stop) || len(data) > 4096 {
			return
		}
		var stops []string
		if stop != "" {
			stops = []string{stop}
		}
		var pieces []string
		for rest := data; len(rest) > 0; cuts = cuts>>2 | cuts<<62 {
			n := min(int(cuts%4)+1, len(rest))
			pieces = append(pieces, string(rest[:n]))
			rest = rest[n:]
		}
		out, stopped := play(stops, pieces...)
		for _, s := range out {
			if !utf8.ValidString(s) {
				t.Fatalf("released %q", s)
			}
		}
		before, _, found := strings.Cut(string(data), stop)
		if stop == "" {
			before, found = string(data), false
		}
		if stopped != found {
			t.Fatalf("stopped %v, want %v", stopped, found)
		}
		if got, want := clean(strings.Join(out, "")), clean(before); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}

// clean compares texts up to how many U+FFFD stand for a run of bad bytes: that depends on the cuts.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	for strings.Contains(s, "\uFFFD\uFFFD") {
		s = strings.ReplaceAll(s, "\uFFFD\uFFFD", "\uFFFD")
	}
	return s
}
