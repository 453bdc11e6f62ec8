package jinja

import (
	"fmt"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of a template.
const (
	// MaxTemplate is the longest template, in bytes.
	MaxTemplate = 256 << 10
	// MaxOutput is the longest prompt, in bytes.
	MaxOutput = 16 << 20
	// MaxSteps is the most expressions and statements evaluated for one prompt.
	MaxSteps = 1 << 20
	// maxDepth is the deepest nesting of statements, and of expressions.
	maxDepth = 100
)

// kind of a token.
type kind uint8

const (
	end kind = iota
	text
	openExpr // {{
	closeExpr
	openStmt // {%
	closeStmt
	name
	str
	number
	op
)

// token is a piece of a template; at is its offset, for messages.
type token struct {
	kind kind
	s    string
	at   int
}

// lexer cuts a template into tokens.
type lexer struct {
	src    string
	pos    int
	tokens []token
}

// bad is the error of a template that cannot be read.
func bad(at int, format string, args ...any) error {
	return &schemas.Error{Kind: schemas.KindUnsupported, Field: "tokenizer.chat_template", Message: fmt.Sprintf("at byte %d: ", at) + fmt.Sprintf(format, args...)}
}

// lex cuts the whole template, with the whitespace around tags treated.
func lex(src string) ([]token, error) {
	l := &lexer{src: src}
	for {
		i := l.nextTag()
		if i < 0 {
			l.text(len(l.src))
			l.tokens = append(l.tokens, token{kind: end, at: len(src)})
			return l.tokens, nil
		}
		l.text(i)
		if err := l.tag(); err != nil {
			return nil, err
		}
	}
}

// nextTag is where the next tag begins.
func (l *lexer) nextTag() int {
	for i := l.pos; i+1 < len(l.src); i++ {
		if l.src[i] == '{' && strings.IndexByte("{%#", l.src[i+1]) >= 0 {
			return i
		}
	}
	return -1
}

// text adds what stands before a tag that begins at i, and moves there.
func (l *lexer) text(i int) {
	s := l.src[l.pos:i]
	if i+2 < len(l.src) {
		switch {
		case l.src[i+2] == '-':
			s = strings.TrimRight(s, " \t\r\n")
		case l.src[i+1] != '{' && l.src[i+2] != '+': // lstrip_blocks: a tag that is first on its line takes the indentation
			line := strings.TrimRight(s, " \t")
			if line == "" && (l.pos == 0 || l.src[l.pos-1] == '\n') || strings.HasSuffix(line, "\n") {
				s = line
			}
		}
	}
	if s != "" {
		l.tokens = append(l.tokens, token{text, s, l.pos})
	}
	l.pos = i
}

// tag reads the tag at pos, and the whitespace after it that it takes.
func (l *lexer) tag() error {
	start, second := l.pos, l.src[l.pos+1]
	l.pos += 2
	if second == '#' {
		i := strings.Index(l.src[l.pos:], "#}")
		if i < 0 {
			return bad(start, "a comment does not end")
		}
		l.after(l.src[l.pos+max(0, i-1)] == '-', true, l.pos+i+2)
		return nil
	}
	open, shut, mark := openExpr, closeExpr, "}}"
	if second == '%' {
		open, shut, mark = openStmt, closeStmt, "%}"
	}
	if l.pos < len(l.src) && (l.src[l.pos] == '-' || l.src[l.pos] == '+') {
		l.pos++
	}
	l.tokens = append(l.tokens, token{open, "", start})
	for {
		l.pos += len(l.src[l.pos:]) - len(strings.TrimLeft(l.src[l.pos:], " \t\r\n"))
		rest := l.src[l.pos:]
		switch {
		case rest == "":
			return bad(start, "a tag does not end")
		case strings.HasPrefix(rest, "-"+mark):
			l.tokens = append(l.tokens, token{shut, "", l.pos})
			l.after(true, second == '%', l.pos+3)
			return nil
		case strings.HasPrefix(rest, mark):
			l.tokens = append(l.tokens, token{shut, "", l.pos})
			l.after(false, second == '%', l.pos+2)
			return nil
		}
		if err := l.inner(); err != nil {
			return err
		}
	}
}

// after moves to pos and further, over whitespace that the tag before takes: all of it, or (trim_blocks) one newline.
func (l *lexer) after(all, block bool, pos int) {
	l.pos = pos
	switch rest := l.src[pos:]; {
	case all:
		l.pos += len(rest) - len(strings.TrimLeft(rest, " \t\r\n"))
	case block && strings.HasPrefix(rest, "\n"):
		l.pos++
	case block && strings.HasPrefix(rest, "\r\n"):
		l.pos += 2
	}
}

// operators, the longer ones first.
var operators = []string{"==", "!=", "<=", ">=", "//", "**", "<", ">", "=", "+", "-", "*", "/", "%", "~", "|", ".", ",", ":", "(", ")", "[", "]", "{", "}"}

// inner reads one token inside a tag.
func (l *lexer) inner() error {
	start, c := l.pos, l.src[l.pos]
	switch {
	case c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		for l.pos < len(l.src) && wordByte(l.src[l.pos]) {
			l.pos++
		}
		l.tokens = append(l.tokens, token{name, l.src[start:l.pos], start})
		return nil
	case c >= '0' && c <= '9':
		for l.pos < len(l.src) && (l.src[l.pos] >= '0' && l.src[l.pos] <= '9' || l.src[l.pos] == '.' && l.digitAt(l.pos+1)) {
			l.pos++
		}
		l.tokens = append(l.tokens, token{number, l.src[start:l.pos], start})
		return nil
	case c == '\'' || c == '"':
		return l.quoted(c)
	}
	for _, o := range operators {
		if strings.HasPrefix(l.src[start:], o) {
			l.pos += len(o)
			l.tokens = append(l.tokens, token{op, o, start})
			return nil
		}
	}
	return bad(start, "unexpected character %q", c)
}

func (l *lexer) digitAt(i int) bool { return i < len(l.src) && l.src[i] >= '0' && l.src[i] <= '9' }

func wordByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// quoted reads a string with its escapes.
func (l *lexer) quoted(quote byte) error {
	start := l.pos
	var b strings.Builder
	for l.pos++; l.pos < len(l.src); l.pos++ {
		c := l.src[l.pos]
		switch {
		case c == quote:
			l.pos++
			l.tokens = append(l.tokens, token{str, b.String(), start})
			return nil
		case c == '\\' && l.pos+1 < len(l.src):
			l.pos++
			b.WriteString(escape(l.src[l.pos]))
		default:
			b.WriteByte(c)
		}
	}
	return bad(start, "a string does not end")
}

// escape is what a backslash and c stand for. As in Python, an unknown escape stands for itself.
func escape(c byte) string {
	switch c {
	case 'n':
		return "\n"
	case 't':
		return "\t"
	case 'r':
		return "\r"
	case '\\', '\'', '"':
		return string(c)
	}
	return `\` + string(c)
}
