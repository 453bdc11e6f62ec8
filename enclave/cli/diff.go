//go:build !worker

package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// change is one difference between two documents.
type change struct {
	// Path names the place: fields by name, list entries by what they are called.
	Path string `json:"path"`
	// Old and New are the values as compact JSON; empty when there is none.
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
}

// differences compares two documents by content: lists of names and hashes as sets, lists of objects by the name or id
// of their entries.
func differences(old, new any) ([]change, error) {
	a, err := tree(old)
	if err != nil {
		return nil, err
	}
	b, err := tree(new)
	if err != nil {
		return nil, err
	}
	return compare("", a, b), nil
}

// tree is a document as maps, lists and scalars.
func tree(v any) (any, error) {
	b, err := schemas.EncodeJSON(v)
	if err != nil {
		return nil, err
	}
	var t any
	return t, json.Unmarshal(b, &t)
}

// compare lists the differences below a path.
func compare(path string, a, b any) []change {
	x, xIsMap := keyed(a)
	y, yIsMap := keyed(b)
	if !xIsMap || !yIsMap {
		if compact(a) == compact(b) {
			return nil
		}
		return []change{{path, compact(a), compact(b)}}
	}
	names := map[string]bool{}
	for name := range x {
		names[name] = true
	}
	for name := range y {
		names[name] = true
	}
	var changes []change
	for _, name := range slices.Sorted(maps.Keys(names)) {
		below := name
		if path != "" {
			below = path + "." + name
		}
		old, had := x[name]
		new, has := y[name]
		switch {
		case had && has:
			changes = append(changes, compare(below, old, new)...)
		case had:
			changes = append(changes, change{Path: below, Old: compact(old)})
		default:
			changes = append(changes, change{Path: below, New: compact(new)})
		}
	}
	return changes
}

// keyed turns objects and lists into maps: objects by field, lists by what their entries are called.
func keyed(v any) (map[string]any, bool) {
	switch v := v.(type) {
	case map[string]any:
		return v, true
	case []any:
		m := make(map[string]any, len(v))
		for _, entry := range v {
			name := called(entry)
			for n := 2; m[name] != nil; n++ {
				name = fmt.Sprintf("%s#%d", called(entry), n)
			}
			m[name] = entry
		}
		return m, true
	}
	return nil, false
}

// called is the name of a list's entry: its id, its name, its driver, or itself.
func called(entry any) string {
	if object, ok := entry.(map[string]any); ok {
		for _, field := range []string{"id", "name", "driver"} {
			if s, ok := object[field].(string); ok {
				return "[" + s + "]"
			}
		}
	}
	if s, ok := entry.(string); ok {
		return "[" + s + "]"
	}
	return "[" + compact(entry) + "]"
}

// compact is a value on one line.
func compact(v any) string {
	if v == nil {
		return ""
	}
	b, err := schemas.EncodeJSON(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// changesTable is a list of differences for people.
func changesTable(changes []change) cli.Table {
	t := cli.Table{Header: []string{"WHERE", "OLD", "NEW"}}
	for _, c := range changes {
		t.Rows = append(t.Rows, []string{c.Path, shorten(c.Old), shorten(c.New)})
	}
	return t
}

// shorten keeps a cell readable; JSON output has it whole.
func shorten(s string) string {
	const limit = 60
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return s
}
