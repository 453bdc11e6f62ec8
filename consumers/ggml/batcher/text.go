package batcher

import (
	"strings"
	"unicode/utf8"
)

// text turns the pieces of an answer into what may be shown. It holds back bytes that could still turn out otherwise: an
// unfinished rune, and the beginning of a stop string.
type text struct {
	stop    []string
	held    []byte
	tokens  []heldToken
	stopped bool
}

// heldToken is a token whose text has not been let go yet. end is where its text ends, counted from the start of held.
type heldToken struct {
	Token
	end int
}

// push takes the text of one more token and returns what has become certain, with the tokens that lie in it entirely.
// Once a stop string is complete, stopped is true and everything from it on is gone.
func (t *text) push(piece string, tok Token) (string, []Token) {
	t.held = append(t.held, piece...)
	t.tokens = append(t.tokens, heldToken{tok, len(t.held)})
	if at := t.findStop(len(piece)); at >= 0 {
		t.stopped = true
		out, tokens := t.release(at)
		t.held, t.tokens = nil, nil
		return out, tokens
	}
	return t.release(len(t.held) - t.uncertain())
}

// flush returns all that is held: the answer ends here.
func (t *text) flush() (string, []Token) { return t.release(len(t.held)) }

// findStop is where the first stop string begins, -1 if there is none. Only the end of the text is new.
func (t *text) findStop(fresh int) int {
	first := -1
	for _, s := range t.stop {
		from := max(0, len(t.held)-fresh-len(s)+1)
		if i := strings.Index(string(t.held[from:]), s); i >= 0 && (first < 0 || from+i < first) {
			first = from + i
		}
	}
	return first
}

// uncertain is the number of bytes at the end that have to wait.
func (t *text) uncertain() int {
	wait := unfinishedRune(t.held)
	for _, s := range t.stop {
		for n := min(len(s)-1, len(t.held)); n > wait; n-- {
			if strings.HasPrefix(s, string(t.held[len(t.held)-n:])) {
				wait = n
				break
			}
		}
	}
	return wait
}

// unfinishedRune is the length of a rune at the end of b that lacks bytes.
func unfinishedRune(b []byte) int {
	for n := 1; n <= min(utf8.UTFMax-1, len(b)); n++ {
		c := b[len(b)-n]
		if utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

// release lets the first n bytes go. Bytes that are no UTF-8 become U+FFFD.
func (t *text) release(n int) (string, []Token) {
	out := strings.ToValidUTF8(string(t.held[:n]), "\uFFFD")
	t.held = t.held[:copy(t.held, t.held[n:])]
	var done []Token
	keep := t.tokens[:0]
	for _, h := range t.tokens {
		if h.end <= n {
			done = append(done, h.Token)
		} else {
			h.end -= n
			keep = append(keep, h)
		}
	}
	t.tokens = keep
	return out, done
}
