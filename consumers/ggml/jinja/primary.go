package jinja

// postfix compiles a value with what follows it: attributes, indexes, calls, filters and tests.
func (p *parser) postfix() (expr, error) {
	e, err := p.primary()
	for err == nil {
		switch {
		case p.is(op, "."):
			e, err = p.attribute(e)
		case p.is(op, "["):
			e, err = p.index(e)
		case p.is(op, "|"):
			e, err = p.filter(e)
		case p.is(name, "is"):
			e, err = p.test(e)
		default:
			return e, nil
		}
	}
	return nil, err
}

// primary compiles a literal, a name, a call or something in brackets.
func (p *parser) primary() (expr, error) {
	switch t := p.take(); t.kind {
	case str:
		s := t.s
		for p.peek().kind == str { // adjacent strings are one
			s += p.take().s
		}
		return constant(s), nil
	case number:
		v, err := numberValue(t)
		return constant(v), err
	case name:
		return p.word(t)
	case op:
		switch t.s {
		case "(":
			e, err := p.tuple()
			if err != nil {
				return nil, err
			}
			_, err = p.want(op, ")")
			return e, err
		case "[":
			items, err := p.items("]")
			return listOf(items), err
		case "{":
			return p.dict()
		}
		return nil, bad(t.at, "unexpected %q", t.s)
	default:
		return nil, bad(t.at, "an expression is missing")
	}
}

// word compiles a constant, a variable or a call of a function.
func (p *parser) word(t token) (expr, error) {
	switch t.s {
	case "true", "True":
		return constant(true), nil
	case "false", "False":
		return constant(false), nil
	case "none", "None":
		return constant(nil), nil
	}
	if !p.is(op, "(") {
		return func(r *run) (any, error) {
			if v, ok := r.vars[t.s]; ok {
				return v, nil
			}
			return undefined{t.s}, nil
		}, nil
	}
	f, ok := functions[t.s]
	if !ok {
		return nil, bad(t.at, "the function %q is not known", t.s)
	}
	args, err := p.args()
	return func(r *run) (any, error) {
		a, err := args.eval(r)
		if err != nil {
			return nil, err
		}
		return f(r, a)
	}, err
}

// items compiles expressions up to a closing bracket.
func (p *parser) items(shut string) ([]expr, error) {
	var items []expr
	for !p.is(op, shut) {
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		items = append(items, e)
		if !p.is(op, ",") {
			_, err := p.want(op, shut)
			return items, err
		}
	}
	return items, nil
}

func (p *parser) dict() (expr, error) {
	var keys, values []expr
	for !p.is(op, "}") {
		k, err := p.expression()
		if err != nil {
			return nil, err
		}
		if _, err := p.want(op, ":"); err != nil {
			return nil, err
		}
		v, err := p.expression()
		if err != nil {
			return nil, err
		}
		keys, values = append(keys, k), append(values, v)
		if !p.is(op, ",") {
			if _, err := p.want(op, "}"); err != nil {
				return nil, err
			}
			break
		}
	}
	return func(r *run) (any, error) {
		d := map[string]any{}
		for i := range keys {
			k, err := keys[i](r)
			if err != nil {
				return nil, err
			}
			name, ok := k.(string)
			if !ok {
				return nil, failure("the key of a dictionary must be a string")
			}
			if d[name], err = values[i](r); err != nil {
				return nil, err
			}
		}
		return d, nil
	}, nil
}

// arguments of a call, compiled and evaluated.
type arguments struct {
	list  []expr
	named map[string]expr
}

type args struct {
	list  []any
	named map[string]any
}

// at is the argument at a position or under a name, false if it is not given.
func (a args) at(i int, name string) (any, bool) {
	if i < len(a.list) {
		return a.list[i], true
	}
	v, ok := a.named[name]
	return v, ok
}

// text is a string argument, or missing.
func (a args) text(i int, name, missing string) (string, error) {
	v, ok := a.at(i, name)
	if !ok || v == nil {
		return missing, nil
	}
	s, ok := v.(string)
	if !ok {
		return "", failure("an argument must be a string")
	}
	return s, nil
}

// args compiles the arguments of a call; the opening bracket is taken.
func (p *parser) args() (*arguments, error) {
	a := &arguments{named: map[string]expr{}}
	for !p.is(op, ")") {
		key := ""
		if p.peek().kind == name && p.ahead(1).kind == op && p.ahead(1).s == "=" {
			key = p.take().s
			p.take()
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		if key == "" {
			a.list = append(a.list, e)
		} else {
			a.named[key] = e
		}
		if !p.is(op, ",") {
			_, err := p.want(op, ")")
			return a, err
		}
	}
	return a, nil
}

func (a *arguments) eval(r *run) (args, error) {
	v := args{named: map[string]any{}}
	for _, e := range a.list {
		x, err := e(r)
		if err != nil {
			return v, err
		}
		v.list = append(v.list, x)
	}
	for k, e := range a.named {
		x, err := e(r)
		if err != nil {
			return v, err
		}
		v.named[k] = x
	}
	return v, nil
}

// attribute compiles .name and .method(…).
func (p *parser) attribute(of expr) (expr, error) {
	t, err := p.want(name, "")
	if err != nil {
		return nil, err
	}
	if !p.is(op, "(") {
		return func(r *run) (any, error) {
			v, err := of(r)
			if err != nil {
				return nil, err
			}
			return item(v, t.s)
		}, nil
	}
	m, ok := methods[t.s]
	if !ok {
		return nil, bad(t.at, "the method %q is not known", t.s)
	}
	return p.call(of, m)
}

// builtin is a method, filter or test: it gets the value and the arguments.
type builtin func(r *run, v any, a args) (any, error)

// call compiles the arguments and the call of a builtin; the opening bracket is taken.
func (p *parser) call(of expr, f builtin) (expr, error) {
	arguments, err := p.args()
	return func(r *run) (any, error) {
		v, err := of(r)
		if err != nil {
			return nil, err
		}
		a, err := arguments.eval(r)
		if err != nil {
			return nil, err
		}
		if err := r.step(); err != nil {
			return nil, err
		}
		return f(r, v, a)
	}, err
}

func (p *parser) filter(of expr) (expr, error) {
	t, err := p.want(name, "")
	if err != nil {
		return nil, err
	}
	f, ok := filters[t.s]
	if !ok {
		return nil, bad(t.at, "the filter %q is not known", t.s)
	}
	if p.is(op, "(") {
		return p.call(of, f)
	}
	return apply(of, f), nil
}

// apply calls a builtin without arguments.
func apply(of expr, f builtin) expr {
	return func(r *run) (any, error) {
		v, err := of(r)
		if err != nil {
			return nil, err
		}
		if err := r.step(); err != nil {
			return nil, err
		}
		return f(r, v, args{})
	}
}

// test compiles "is name" and "is not name".
func (p *parser) test(of expr) (expr, error) {
	negate := p.is(name, "not")
	t, err := p.want(name, "")
	if err != nil {
		return nil, err
	}
	f, ok := tests[t.s]
	if !ok {
		return nil, bad(t.at, "the test %q is not known", t.s)
	}
	return func(r *run) (any, error) {
		v, err := of(r)
		return f(v) != negate, err
	}, nil
}

// index compiles [i] and [from:to:step].
func (p *parser) index(of expr) (expr, error) {
	var parts [3]expr
	slice, n := false, 0
	for !p.is(op, "]") {
		if p.is(op, ":") {
			if slice, n = true, n+1; n > 2 {
				return nil, bad(p.peek().at, "a slice has too many parts")
			}
			continue
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		if parts[n] != nil {
			return nil, bad(p.peek().at, "unexpected value in an index")
		}
		parts[n] = e
	}
	if !slice && parts[0] == nil {
		return nil, bad(p.peek().at, "an index is missing")
	}
	return func(r *run) (any, error) {
		v, err := of(r)
		if err != nil {
			return nil, err
		}
		var at [3]any
		for i, e := range parts {
			if e != nil {
				if at[i], err = e(r); err != nil {
					return nil, err
				}
			}
		}
		if err := r.step(); err != nil {
			return nil, err
		}
		if slice {
			return cut(v, at)
		}
		return item(v, at[0])
	}, nil
}
