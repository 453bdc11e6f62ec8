package jinja

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
)

// Values are nil, bool, int, float64, string, []any, map[string]any, namespace and undefined.
type (
	// undefined is the value of a name that nobody set. It is false, empty and prints nothing; looking into it fails.
	undefined struct{ name string }
	// namespace is what namespace() makes: attributes that can be set from inner blocks.
	namespace map[string]any
)

// Refusal is a template's own objection to a conversation. Message is the template's.
type Refusal struct{ Message string }

// Error implements error.
func (r *Refusal) Error() string { return "the chat template refuses: " + r.Message }

// Loop control.
var (
	errBreak    = errors.New("break outside a loop")
	errContinue = errors.New("continue outside a loop")
)

// failure is an error while a template runs.
func failure(format string, args ...any) error {
	return &schemas.Error{Kind: schemas.KindInvalid, Field: "messages", Message: "the chat template fails: " + fmt.Sprintf(format, args...)}
}

// run is one rendering.
type run struct {
	vars  map[string]any
	out   *strings.Builder
	steps int
}

// Render runs the template with variables. Its errors are a *Refusal, or KindInvalid for a conversation that the
// template cannot digest and KindTooLarge beyond a limit.
func (t *Template) Render(vars map[string]any) (string, error) {
	r := &run{vars: maps.Clone(vars), out: &strings.Builder{}}
	if r.vars == nil {
		r.vars = map[string]any{}
	}
	if err := r.exec(t.body); err != nil {
		if errors.Is(err, errBreak) || errors.Is(err, errContinue) {
			err = failure("%v", err)
		}
		return "", err
	}
	return r.out.String(), nil
}

// step counts work.
func (r *run) step() error {
	if r.steps++; r.steps > MaxSteps {
		return &schemas.Error{Kind: schemas.KindTooLarge, Field: "messages", Message: "the chat template takes too many steps"}
	}
	return nil
}

func (r *run) write(s string) error {
	if r.out.Len()+len(s) > MaxOutput {
		return &schemas.Error{Kind: schemas.KindTooLarge, Field: "messages", Message: "the prompt is too long"}
	}
	r.out.WriteString(s)
	return nil
}

func (r *run) exec(body []stmt) error {
	for _, s := range body {
		if err := r.step(); err != nil {
			return err
		}
		if err := s(r); err != nil {
			return err
		}
	}
	return nil
}

// capture runs statements and returns what they print.
func (r *run) capture(body []stmt) (string, error) {
	outer := r.out
	r.out = &strings.Builder{}
	err := r.exec(body)
	s := r.out.String()
	r.out = outer
	return s, err
}

// bind sets one name, or several from a list.
func (r *run) bind(names []string, v any) error {
	if len(names) == 1 {
		r.vars[names[0]] = v
		return nil
	}
	list, ok := v.([]any)
	if !ok || len(list) != len(names) {
		return failure("%d names cannot be set from this value", len(names))
	}
	for i, n := range names {
		r.vars[n] = list[i]
	}
	return nil
}

func (r *run) setAttr(of, attr string, v any) error {
	ns, ok := r.vars[of].(namespace)
	if !ok {
		return failure("%s is no namespace", of)
	}
	ns[attr] = v
	return nil
}

// forLoop is a compiled for statement.
type forLoop struct {
	names  []string
	list   expr
	filter expr
	body   []stmt
	none   []stmt
}

func (l *forLoop) exec(r *run) error {
	v, err := l.list(r)
	if err != nil {
		return err
	}
	items, err := iterate(v)
	if err != nil {
		return err
	}
	outer := r.vars
	defer func() { r.vars = outer }() // what a loop sets is gone after it
	if items, err = l.filtered(r, items); err != nil {
		return err
	}
	if len(items) == 0 {
		r.vars = outer
		return r.exec(l.none)
	}
	for i, x := range items {
		if err := r.step(); err != nil {
			return err
		}
		r.vars = maps.Clone(outer)
		if err := r.bind(l.names, x); err != nil {
			return err
		}
		r.vars["loop"] = loopVars(items, i)
		switch err := r.exec(l.body); {
		case errors.Is(err, errBreak):
			return nil
		case err != nil && !errors.Is(err, errContinue):
			return err
		}
	}
	return nil
}

// filtered keeps the items for which the loop's condition holds.
func (l *forLoop) filtered(r *run, items []any) ([]any, error) {
	if l.filter == nil {
		return items, nil
	}
	outer := r.vars
	var keep []any
	for _, x := range items {
		if err := r.step(); err != nil {
			return nil, err
		}
		r.vars = maps.Clone(outer)
		if err := r.bind(l.names, x); err != nil {
			return nil, err
		}
		v, err := l.filter(r)
		if err != nil {
			return nil, err
		}
		if truth(v) {
			keep = append(keep, x)
		}
	}
	r.vars = outer
	return keep, nil
}

// loopVars is the variable "loop" in round i.
func loopVars(items []any, i int) map[string]any {
	v := map[string]any{
		"index": i + 1, "index0": i, "first": i == 0, "last": i == len(items)-1, "length": len(items),
		"revindex": len(items) - i, "revindex0": len(items) - i - 1, "previtem": undefined{"previtem"}, "nextitem": undefined{"nextitem"},
	}
	if i > 0 {
		v["previtem"] = items[i-1]
	}
	if i+1 < len(items) {
		v["nextitem"] = items[i+1]
	}
	return v
}

// iterate lists what a loop goes over: items, characters, or the keys of a dictionary in order.
func iterate(v any) ([]any, error) {
	switch v := v.(type) {
	case []any:
		return v, nil
	case string:
		var list []any
		for _, c := range v {
			list = append(list, string(c))
		}
		return list, nil
	case map[string]any:
		var list []any
		for _, k := range slices.Sorted(maps.Keys(v)) {
			list = append(list, k)
		}
		return list, nil
	case undefined:
		return nil, nil
	}
	return nil, failure("a %s cannot be iterated", kindOf(v))
}

func constant(v any) expr { return func(*run) (any, error) { return v, nil } }

func listOf(items []expr) expr {
	return func(r *run) (any, error) {
		list := make([]any, 0, len(items))
		for _, e := range items {
			v, err := e(r)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}
}

// binary evaluates two operands and combines them.
func binary(left, right expr, f func(a, b any) (any, error)) expr {
	return func(r *run) (any, error) {
		if err := r.step(); err != nil {
			return nil, err
		}
		a, err := left(r)
		if err != nil {
			return nil, err
		}
		b, err := right(r)
		if err != nil {
			return nil, err
		}
		return f(a, b)
	}
}
