package jinja

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// truth is Python's idea of it.
func truth(v any) bool {
	switch v := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return v
	case int:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

// kindOf names the type of a value for a message.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "none"
	case undefined:
		return "missing value"
	case []any:
		return "list"
	case map[string]any, namespace:
		return "dictionary"
	}
	return fmt.Sprintf("%T", v)
}

// display is how a value prints.
func display(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case undefined:
		return "", nil
	case nil:
		return "None", nil
	case bool:
		if v {
			return "True", nil
		}
		return "False", nil
	case int:
		return strconv.Itoa(v), nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1e15 {
			return strconv.FormatFloat(v, 'f', 1, 64), nil
		}
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	}
	return toJSON(v, "")
}

// toJSON writes a value as JSON with Python's separators.
func toJSON(v any, indent string) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return "", failure("a value has no JSON form")
	}
	s := strings.TrimSuffix(b.String(), "\n")
	if indent == "" {
		s = spaced(s)
	}
	return s, nil
}

// spaced puts a space after each comma and colon that is not inside a string.
func spaced(s string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		b.WriteByte(s[i])
		switch {
		case quoted && s[i] == '\\':
			i++
			b.WriteByte(s[i])
		case s[i] == '"':
			quoted = !quoted
		case !quoted && (s[i] == ',' || s[i] == ':'):
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// item looks up an attribute, a key or an index.
func item(of, key any) (any, error) {
	switch v := of.(type) {
	case map[string]any:
		if k, ok := key.(string); ok {
			if x, ok := v[k]; ok {
				return x, nil
			}
		}
	case namespace:
		if k, ok := key.(string); ok {
			if x, ok := v[k]; ok {
				return x, nil
			}
		}
	case []any:
		if i, ok := key.(int); ok {
			if i < 0 {
				i += len(v)
			}
			if i >= 0 && i < len(v) {
				return v[i], nil
			}
		}
	case string:
		return item(runes(v), key)
	case undefined, nil:
		return nil, failure("%s of a %s", label(key), kindOf(of))
	}
	return undefined{label(key)}, nil
}

func label(key any) string {
	if s, ok := key.(string); ok {
		return strconv.Quote(s)
	}
	return "an item"
}

func runes(s string) []any {
	list, _ := iterate(s)
	return list
}

// cut takes a slice as Python does.
func cut(of any, at [3]any) (any, error) {
	var list []any
	switch v := of.(type) {
	case []any:
		list = v
	case string:
		list = runes(v)
	default:
		return nil, failure("a %s cannot be sliced", kindOf(of))
	}
	step := 1
	if n, ok := at[2].(int); ok {
		step = n
	}
	if step == 0 {
		return nil, failure("a slice with step 0")
	}
	from, to := 0, len(list)
	if step < 0 {
		from, to = len(list)-1, -1
	}
	place := func(v any, missing int) int {
		i, ok := v.(int)
		if !ok {
			return missing
		}
		if i < 0 {
			i += len(list)
		}
		if step > 0 {
			return max(0, min(i, len(list)))
		}
		return max(-1, min(i, len(list)-1))
	}
	from, to = place(at[0], from), place(at[1], to)
	var part []any
	for i := from; step > 0 && i < to || step < 0 && i > to; i += step {
		part = append(part, list[i])
	}
	if _, ok := of.(string); !ok {
		return part, nil
	}
	var b strings.Builder
	for _, c := range part {
		b.WriteString(c.(string))
	}
	return b.String(), nil
}

// compareValues evaluates a comparison or membership.
func compareValues(o string, a, b any) (bool, error) {
	switch o {
	case "==":
		return equal(a, b), nil
	case "!=":
		return !equal(a, b), nil
	case "in":
		return contains(b, a)
	}
	var order int
	x, xok := numeric(a)
	y, yok := numeric(b)
	s, sok := a.(string)
	t, tok := b.(string)
	switch {
	case xok && yok:
		order = map[bool]int{true: -1}[x < y] + map[bool]int{true: 1}[x > y]
	case sok && tok:
		order = strings.Compare(s, t)
	default:
		return false, failure("a %s cannot be compared with a %s", kindOf(a), kindOf(b))
	}
	switch o {
	case "<":
		return order < 0, nil
	case ">":
		return order > 0, nil
	case "<=":
		return order <= 0, nil
	}
	return order >= 0, nil
}

func equal(a, b any) bool {
	if x, ok := numeric(a); ok {
		if y, ok := numeric(b); ok {
			return x == y
		}
	}
	if _, ok := a.(undefined); ok {
		_, ok := b.(undefined)
		return ok
	}
	return reflect.DeepEqual(a, b)
}

func contains(in, v any) (bool, error) {
	switch c := in.(type) {
	case string:
		s, ok := v.(string)
		if !ok {
			return false, failure("only a string can be in a string")
		}
		return strings.Contains(c, s), nil
	case []any:
		return slices.ContainsFunc(c, func(x any) bool { return equal(x, v) }), nil
	case map[string]any:
		k, ok := v.(string)
		_, has := c[k]
		return ok && has, nil
	case undefined:
		return false, nil
	}
	return false, failure("nothing can be in a %s", kindOf(in))
}

// numeric is the value of a number; true and false count as 1 and 0.
func numeric(v any) (float64, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case float64:
		return v, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

// calculate evaluates an arithmetic operator.
func calculate(o string, a, b any) (any, error) {
	if o == "~" {
		s, err := display(a)
		if err != nil {
			return nil, err
		}
		t, err := display(b)
		return joinTexts(s, t, err)
	}
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok && o == "+" {
			return joinTexts(x, y, nil)
		}
	case []any:
		if y, ok := b.([]any); ok && o == "+" {
			return slices.Concat(x, y), nil
		}
	case int:
		if y, ok := b.(int); ok {
			return integers(o, x, y)
		}
	}
	x, xok := numeric(a)
	y, yok := numeric(b)
	if !xok || !yok {
		return nil, failure("%s of a %s and a %s", o, kindOf(a), kindOf(b))
	}
	return floats(o, x, y)
}

// joinTexts concatenates within the limit.
func joinTexts(a, b string, err error) (any, error) {
	if err == nil && len(a)+len(b) > MaxOutput {
		err = failure("a string is too long")
	}
	return a + b, err
}

func integers(o string, x, y int) (any, error) {
	switch o {
	case "+":
		return x + y, nil
	case "-":
		return x - y, nil
	case "*":
		return x * y, nil
	case "/":
		return floats(o, float64(x), float64(y))
	}
	if y == 0 {
		return nil, failure("division by zero")
	}
	q := int(math.Floor(float64(x) / float64(y)))
	if o == "//" {
		return q, nil
	}
	return x - q*y, nil
}

func floats(o string, x, y float64) (any, error) {
	switch {
	case o == "+":
		return x + y, nil
	case o == "-":
		return x - y, nil
	case o == "*":
		return x * y, nil
	case y == 0:
		return nil, failure("division by zero")
	case o == "/":
		return x / y, nil
	case o == "//":
		return math.Floor(x / y), nil
	}
	return x - math.Floor(x/y)*y, nil
}
