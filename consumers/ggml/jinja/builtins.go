package jinja

import (
	"maps"
	"slices"
	"strings"
)

// functions that a template may call.
var functions = map[string]func(*run, args) (any, error){
	"raise_exception": func(_ *run, a args) (any, error) {
		s, err := a.text(0, "message", "")
		if err != nil {
			return nil, err
		}
		return nil, &Refusal{s}
	},
	"namespace": func(_ *run, a args) (any, error) { return namespace(a.named), nil },
	"dict":      func(_ *run, a args) (any, error) { return a.named, nil },
	"range":     rangeOf,
}

func rangeOf(_ *run, a args) (any, error) {
	const most = 1 << 16
	var n [3]int
	for i, v := range a.list {
		k, ok := v.(int)
		if i > 1 || !ok {
			return nil, failure("range wants one or two integers")
		}
		n[i] = k
	}
	from, to := n[0], n[1]
	if len(a.list) == 1 {
		from, to = 0, n[0]
	}
	if to-from > most {
		return nil, failure("a range is too long")
	}
	list := []any{}
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list, nil
}

// onText makes a builtin of a function on strings.
func onText(f func(string) any) builtin {
	return func(_ *run, v any, _ args) (any, error) {
		s, ok := v.(string)
		if !ok {
			return nil, failure("a %s is no string", kindOf(v))
		}
		return f(s), nil
	}
}

// stripped makes a builtin that trims, by default whitespace.
func stripped(trim func(s, cutset string) string) builtin {
	const space = " \t\n\r\v\f"
	return func(_ *run, v any, a args) (any, error) {
		s, ok := v.(string)
		if !ok {
			return nil, failure("a %s is no string", kindOf(v))
		}
		chars, err := a.text(0, "chars", space)
		return trim(s, chars), err
	}
}

// affix makes a builtin of a test on the beginning or end of a string.
func affix(f func(s, part string) bool) builtin {
	return func(_ *run, v any, a args) (any, error) {
		s, ok := v.(string)
		part, err := a.text(0, "prefix", "")
		if err != nil || !ok {
			return nil, failure("startswith and endswith want strings")
		}
		return f(s, part), nil
	}
}

// methods of strings, lists and dictionaries.
var methods = map[string]builtin{
	"strip":      stripped(strings.Trim),
	"lstrip":     stripped(strings.TrimLeft),
	"rstrip":     stripped(strings.TrimRight),
	"upper":      onText(func(s string) any { return strings.ToUpper(s) }),
	"lower":      onText(func(s string) any { return strings.ToLower(s) }),
	"title":      onText(func(s string) any { return titled(s) }),
	"capitalize": onText(func(s string) any { return capitalized(s) }),
	"startswith": affix(strings.HasPrefix),
	"endswith":   affix(strings.HasSuffix),
	"split":      split,
	"replace":    replace,
	"items":      pairs,
	"keys":       func(_ *run, v any, _ args) (any, error) { return listed(v) },
	"get": func(_ *run, v any, a args) (any, error) {
		key, _ := a.at(0, "key")
		x, err := item(v, key)
		if _, missing := x.(undefined); missing {
			x, _ = a.at(1, "default")
		}
		return x, err
	},
}

// filters, applied with "|".
var filters = map[string]builtin{
	"trim":       stripped(strings.Trim),
	"upper":      methods["upper"],
	"lower":      methods["lower"],
	"title":      methods["title"],
	"capitalize": methods["capitalize"],
	"replace":    replace,
	"items":      pairs,
	"length":     length,
	"count":      length,
	"list":       func(_ *run, v any, _ args) (any, error) { return listed(v) },
	"first":      func(_ *run, v any, _ args) (any, error) { return item(v, 0) },
	"last":       func(_ *run, v any, _ args) (any, error) { return item(v, -1) },
	"string":     func(_ *run, v any, _ args) (any, error) { return display(v) },
	"safe":       func(_ *run, v any, _ args) (any, error) { return v, nil },
	"join":       join,
	"reverse":    func(_ *run, v any, _ args) (any, error) { return cut(v, [3]any{2: -1}) },
	"tojson": func(_ *run, v any, a args) (any, error) {
		indent := ""
		if n, ok := a.at(0, "indent"); ok {
			if n, ok := n.(int); ok && n >= 0 && n <= 16 {
				indent = strings.Repeat(" ", n)
			}
		}
		return toJSON(v, indent)
	},
	"default": fallback, "d": fallback,
	"selectattr": func(r *run, v any, a args) (any, error) { return selected(v, a, true) },
	"rejectattr": func(r *run, v any, a args) (any, error) { return selected(v, a, false) },
	"map":        mapped,
}

// tests, applied with "is".
var tests = map[string]func(any) bool{
	"defined":   func(v any) bool { _, no := v.(undefined); return !no },
	"undefined": func(v any) bool { _, yes := v.(undefined); return yes },
	"none":      func(v any) bool { return v == nil },
	"string":    func(v any) bool { _, yes := v.(string); return yes },
	"number":    func(v any) bool { _, b := v.(bool); _, n := numeric(v); return n && !b },
	"integer":   func(v any) bool { _, yes := v.(int); return yes },
	"boolean":   func(v any) bool { _, yes := v.(bool); return yes },
	"mapping":   func(v any) bool { _, yes := v.(map[string]any); return yes },
	"iterable":  func(v any) bool { _, err := iterate(v); return err == nil },
	"sequence": func(v any) bool {
		switch v.(type) {
		case []any, string, map[string]any:
			return true
		}
		return false
	},
	"true":  func(v any) bool { return v == true },
	"false": func(v any) bool { return v == false },
	"odd":   func(v any) bool { n, ok := v.(int); return ok && n%2 != 0 },
	"even":  func(v any) bool { n, ok := v.(int); return ok && n%2 == 0 },
}

func capitalized(s string) string {
	r := []rune(strings.ToLower(s))
	if len(r) == 0 {
		return ""
	}
	return strings.ToUpper(string(r[0])) + string(r[1:])
}

func titled(s string) string {
	words := strings.Split(s, " ")
	for i := range words {
		words[i] = capitalized(words[i])
	}
	return strings.Join(words, " ")
}

func listed(v any) (any, error) {
	list, err := iterate(v)
	return slices.Clone(list), err
}

func length(_ *run, v any, _ args) (any, error) {
	list, err := iterate(v)
	return len(list), err
}

func split(_ *run, v any, a args) (any, error) {
	s, ok := v.(string)
	if !ok {
		return nil, failure("a %s is no string", kindOf(v))
	}
	sep, err := a.text(0, "sep", "")
	if err != nil {
		return nil, err
	}
	parts := strings.Fields(s)
	if sep != "" {
		parts = strings.Split(s, sep)
	}
	list := make([]any, len(parts))
	for i, p := range parts {
		list[i] = p
	}
	return list, nil
}

func replace(_ *run, v any, a args) (any, error) {
	s, ok := v.(string)
	from, err := a.text(0, "old", "")
	if err != nil || !ok || from == "" {
		return nil, failure("replace wants strings")
	}
	to, err := a.text(1, "new", "")
	if err != nil {
		return nil, err
	}
	if len(s)+strings.Count(s, from)*len(to) > MaxOutput {
		return nil, failure("a string is too long")
	}
	return strings.ReplaceAll(s, from, to), nil
}

func pairs(_ *run, v any, _ args) (any, error) {
	d, ok := v.(map[string]any)
	if !ok {
		return nil, failure("a %s has no items", kindOf(v))
	}
	list := []any{}
	for _, k := range slices.Sorted(maps.Keys(d)) {
		list = append(list, []any{k, d[k]})
	}
	return list, nil
}

func join(_ *run, v any, a args) (any, error) {
	list, err := iterate(v)
	if err != nil {
		return nil, err
	}
	sep, err := a.text(0, "d", "")
	if err != nil {
		return nil, err
	}
	size := 0
	parts := make([]string, len(list))
	for i, x := range list {
		if parts[i], err = display(x); err != nil {
			return nil, err
		}
		if size += len(parts[i]) + len(sep); size > MaxOutput {
			return nil, failure("a string is too long")
		}
	}
	return strings.Join(parts, sep), nil
}

// fallback is the default filter: for undefined values, or with true as second argument for all false ones.
func fallback(_ *run, v any, a args) (any, error) {
	all, _ := a.at(1, "boolean")
	if _, missing := v.(undefined); missing || truth(all) && !truth(v) {
		d, ok := a.at(0, "default_value")
		if !ok {
			return "", nil
		}
		return d, nil
	}
	return v, nil
}

// selected keeps the items whose attribute passes a test: truth, "equalto" a value, or a named test.
func selected(v any, a args, keep bool) (any, error) {
	list, err := iterate(v)
	if err != nil {
		return nil, err
	}
	attr, err := a.text(0, "attr", "")
	if err != nil {
		return nil, err
	}
	test, err := a.text(1, "test", "")
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, x := range list {
		y, err := item(x, attr)
		if err != nil {
			return nil, err
		}
		passes := truth(y)
		switch f := tests[test]; {
		case test == "equalto" || test == "==" || test == "eq":
			want, _ := a.at(2, "value")
			passes = equal(y, want)
		case f != nil:
			passes = f(y)
		case test != "":
			return nil, failure("the test %q is not known", test)
		}
		if passes == keep {
			out = append(out, x)
		}
	}
	return out, nil
}

// mapped is the map filter with an attribute; the form with a filter's name is not used by chat templates.
func mapped(_ *run, v any, a args) (any, error) {
	list, err := iterate(v)
	if err != nil {
		return nil, err
	}
	attr, ok := a.named["attribute"]
	if !ok {
		return nil, failure("map wants an attribute")
	}
	out := []any{}
	for _, x := range list {
		y, err := item(x, attr)
		if err != nil {
			return nil, err
		}
		out = append(out, y)
	}
	return out, nil
}
