package jinja

import (
	"slices"
	"strconv"

	"github.com/cocoon-network/cocoon/schemas"
)

// expr and stmt are compiled code.
type (
	expr func(*run) (any, error)
	stmt func(*run) error
)

// parser compiles tokens.
type parser struct {
	tokens []token
	pos    int
	depth  int
}

// Template is a compiled chat template. It may be used by several goroutines.
type Template struct{ body []stmt }

// Parse compiles a template. KindUnsupported says what in it is not understood.
func Parse(src string) (*Template, error) {
	if len(src) > MaxTemplate {
		return nil, &schemas.Error{Kind: schemas.KindTooLarge, Field: "tokenizer.chat_template", Message: "the template is too long"}
	}
	tokens, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	body, err := p.block()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != end {
		return nil, bad(t.at, "a tag that closes nothing")
	}
	return &Template{body}, nil
}

func (p *parser) peek() token { return p.tokens[p.pos] }

// ahead is the token n places further.
func (p *parser) ahead(n int) token { return p.tokens[min(p.pos+n, len(p.tokens)-1)] }

func (p *parser) take() token {
	t := p.tokens[p.pos]
	if t.kind != end {
		p.pos++
	}
	return t
}

// is reports whether the next token is this operator or word, and takes it then.
func (p *parser) is(k kind, s string) bool {
	if t := p.peek(); t.kind == k && t.s == s {
		p.pos++
		return true
	}
	return false
}

func (p *parser) want(k kind, s string) (token, error) {
	t := p.take()
	if t.kind != k || s != "" && t.s != s {
		return t, bad(t.at, "unexpected %q, want %q", t.s, s)
	}
	return t, nil
}

// enter counts nesting.
func (p *parser) enter() error {
	if p.depth++; p.depth > maxDepth {
		return bad(p.peek().at, "nested too deeply")
	}
	return nil
}

// block compiles statements until a tag that it does not know, such as endif.
func (p *parser) block() ([]stmt, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	var body []stmt
	for {
		switch t := p.peek(); t.kind {
		case text:
			p.take()
			body = append(body, func(r *run) error { return r.write(t.s) })
		case openExpr:
			p.take()
			e, err := p.expression()
			if err != nil {
				return nil, err
			}
			if _, err := p.want(closeExpr, ""); err != nil {
				return nil, err
			}
			body = append(body, output(e))
		case openStmt:
			s, more, err := p.statement()
			if err != nil || !more {
				return body, err
			}
			body = append(body, s)
		default:
			return body, nil
		}
	}
}

func output(e expr) stmt {
	return func(r *run) error {
		v, err := e(r)
		if err != nil {
			return err
		}
		s, err := display(v)
		if err != nil {
			return err
		}
		return r.write(s)
	}
}

// statement compiles the tag that follows. more is false if it belongs to an outer statement; it is not taken then.
func (p *parser) statement() (s stmt, more bool, err error) {
	word := p.ahead(1)
	begin := func() { p.take(); p.take() }
	switch word.s {
	case "if":
		begin()
		s, err = p.ifStatement()
	case "for":
		begin()
		s, err = p.forStatement()
	case "set":
		begin()
		s, err = p.setStatement()
	case "break", "continue":
		begin()
		cause := map[string]error{"break": errBreak, "continue": errContinue}[word.s]
		s = func(*run) error { return cause }
		_, err = p.want(closeStmt, "")
	case "generation", "endgeneration": // marks what is trained on; nothing to do
		begin()
		s = func(*run) error { return nil }
		_, err = p.want(closeStmt, "")
	case "elif", "else", "endif", "endfor", "endset":
		return nil, false, nil
	default:
		err = bad(word.at, "the tag %q is not known", word.s)
	}
	return s, true, err
}

// closing takes a tag that ends a block.
func (p *parser) closing(word string) error {
	if _, err := p.want(openStmt, ""); err != nil {
		return err
	}
	if _, err := p.want(name, word); err != nil {
		return err
	}
	_, err := p.want(closeStmt, "")
	return err
}

func (p *parser) ifStatement() (stmt, error) {
	cond, err := p.expression()
	if err != nil {
		return nil, err
	}
	if _, err := p.want(closeStmt, ""); err != nil {
		return nil, err
	}
	then, err := p.block()
	if err != nil {
		return nil, err
	}
	var otherwise []stmt
	switch p.ahead(1).s {
	case "elif":
		p.take()
		p.take()
		if err := p.enter(); err != nil {
			return nil, err
		}
		next, err := p.ifStatement()
		p.depth--
		if err != nil {
			return nil, err
		}
		otherwise = []stmt{next}
	case "else":
		if err := p.closing("else"); err != nil {
			return nil, err
		}
		if otherwise, err = p.block(); err != nil {
			return nil, err
		}
		fallthrough
	default:
		if err := p.closing("endif"); err != nil {
			return nil, err
		}
	}
	return func(r *run) error {
		v, err := cond(r)
		if err != nil {
			return err
		}
		if truth(v) {
			return r.exec(then)
		}
		return r.exec(otherwise)
	}, nil
}

func (p *parser) forStatement() (stmt, error) {
	var names []string
	for {
		t, err := p.want(name, "")
		if err != nil {
			return nil, err
		}
		names = append(names, t.s)
		if !p.is(op, ",") {
			break
		}
	}
	if _, err := p.want(name, "in"); err != nil {
		return nil, err
	}
	list, err := p.or() // no conditional expression: "if" filters here
	if err != nil {
		return nil, err
	}
	var filter expr
	if p.is(name, "if") {
		if filter, err = p.expression(); err != nil {
			return nil, err
		}
	}
	if _, err := p.want(closeStmt, ""); err != nil {
		return nil, err
	}
	body, err := p.block()
	if err != nil {
		return nil, err
	}
	var none []stmt
	if p.ahead(1).s == "else" {
		if err := p.closing("else"); err != nil {
			return nil, err
		}
		if none, err = p.block(); err != nil {
			return nil, err
		}
	}
	l := &forLoop{names, list, filter, body, none}
	return l.exec, p.closing("endfor")
}

func (p *parser) setStatement() (stmt, error) {
	first, err := p.want(name, "")
	if err != nil {
		return nil, err
	}
	if p.is(op, ".") {
		attr, err := p.want(name, "")
		if err != nil {
			return nil, err
		}
		return p.assign(func(r *run, v any) error { return r.setAttr(first.s, attr.s, v) })
	}
	names := []string{first.s}
	for p.is(op, ",") {
		t, err := p.want(name, "")
		if err != nil {
			return nil, err
		}
		names = append(names, t.s)
	}
	if p.peek().kind == closeStmt && len(names) == 1 {
		return p.setBlock(first.s)
	}
	return p.assign(func(r *run, v any) error { return r.bind(names, v) })
}

// assign compiles "= value %}".
func (p *parser) assign(to func(*run, any) error) (stmt, error) {
	if _, err := p.want(op, "="); err != nil {
		return nil, err
	}
	e, err := p.tuple()
	if err != nil {
		return nil, err
	}
	_, err = p.want(closeStmt, "")
	return func(r *run) error {
		v, err := e(r)
		if err != nil {
			return err
		}
		return to(r, v)
	}, err
}

// setBlock compiles {% set x %}…{% endset %}.
func (p *parser) setBlock(variable string) (stmt, error) {
	p.take()
	body, err := p.block()
	if err != nil {
		return nil, err
	}
	return func(r *run) error {
		s, err := r.capture(body)
		if err != nil {
			return err
		}
		r.vars[variable] = s
		return nil
	}, p.closing("endset")
}

// tuple is one expression, or several with commas between.
func (p *parser) tuple() (expr, error) {
	e, err := p.expression()
	if err != nil || p.peek().kind != op || p.peek().s != "," {
		return e, err
	}
	items := []expr{e}
	for p.is(op, ",") {
		if e, err = p.expression(); err != nil {
			return nil, err
		}
		items = append(items, e)
	}
	return listOf(items), nil
}

// expression is a conditional expression: a if b else c.
func (p *parser) expression() (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	then, err := p.or()
	if err != nil || !p.is(name, "if") {
		return then, err
	}
	cond, err := p.or()
	if err != nil {
		return nil, err
	}
	otherwise := constant(undefined{})
	if p.is(name, "else") {
		if otherwise, err = p.expression(); err != nil {
			return nil, err
		}
	}
	return func(r *run) (any, error) {
		v, err := cond(r)
		if err != nil {
			return nil, err
		}
		if truth(v) {
			return then(r)
		}
		return otherwise(r)
	}, nil
}

func (p *parser) or() (expr, error) {
	return p.chain((*parser).and, []string{"or"}, func(v any) bool { return truth(v) })
}

func (p *parser) and() (expr, error) {
	return p.chain((*parser).not, []string{"and"}, func(v any) bool { return !truth(v) })
}

// chain compiles "and" and "or", which stop at the first value that decides.
func (p *parser) chain(next func(*parser) (expr, error), words []string, decides func(any) bool) (expr, error) {
	e, err := next(p)
	for err == nil && p.peek().kind == name && slices.Contains(words, p.peek().s) {
		p.take()
		left := e
		var right expr
		right, err = next(p)
		e = func(r *run) (any, error) {
			v, err := left(r)
			if err != nil || decides(v) {
				return v, err
			}
			return right(r)
		}
	}
	return e, err
}

func (p *parser) not() (expr, error) {
	if !p.is(name, "not") {
		return p.compare()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	e, err := p.not()
	p.depth--
	return func(r *run) (any, error) {
		v, err := e(r)
		return !truth(v), err
	}, err
}

// compare compiles comparisons and membership.
func (p *parser) compare() (expr, error) {
	e, err := p.sum()
	for err == nil {
		o, negate := p.comparison()
		if o == "" {
			return e, nil
		}
		left := e
		var right expr
		right, err = p.sum()
		e = binary(left, right, func(a, b any) (any, error) {
			v, err := compareValues(o, a, b)
			return v != negate, err
		})
	}
	return e, err
}

// comparison takes a comparison operator; "not in" is "in", negated.
func (p *parser) comparison() (o string, negate bool) {
	switch t := p.peek(); {
	case t.kind == op && slices.Contains([]string{"==", "!=", "<", ">", "<=", ">="}, t.s):
		return p.take().s, false
	case t.kind == name && t.s == "in":
		return p.take().s, false
	case t.kind == name && t.s == "not" && p.ahead(1).s == "in":
		p.take()
		return p.take().s, true
	}
	return "", false
}

// Levels of arithmetic, the loosest first. "~" binds tighter than "+", as in Jinja.
func (p *parser) sum() (expr, error)    { return p.arithmetic((*parser).concat, "+", "-") }
func (p *parser) concat() (expr, error) { return p.arithmetic((*parser).product, "~") }
func (p *parser) product() (expr, error) {
	return p.arithmetic((*parser).unary, "*", "/", "//", "%")
}

func (p *parser) arithmetic(next func(*parser) (expr, error), ops ...string) (expr, error) {
	e, err := next(p)
	for err == nil && p.peek().kind == op && slices.Contains(ops, p.peek().s) {
		o := p.take().s
		left := e
		var right expr
		right, err = next(p)
		e = binary(left, right, func(a, b any) (any, error) { return calculate(o, a, b) })
	}
	return e, err
}

func (p *parser) unary() (expr, error) {
	if !p.is(op, "-") {
		return p.postfix()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	e, err := p.unary()
	p.depth--
	return binary(constant(0), e, func(a, b any) (any, error) { return calculate("-", a, b) }), err
}

// numberValue reads a literal.
func numberValue(t token) (any, error) {
	if n, err := strconv.Atoi(t.s); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(t.s, 64)
	if err != nil {
		return nil, bad(t.at, "%q is no number", t.s)
	}
	return f, nil
}
