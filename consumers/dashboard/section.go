package dashboard

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
)

// The sections of a view. A page asks for those that it shows.
const (
	secNetwork  = "network"
	secWorkers  = "workers"
	secRefusals = "refusals"
	secJobs     = "jobs"
	secBatches  = "batches"
	secDead     = "dead"
	secMoney    = "money"
	secTrust    = "trust"
	secHistory  = "history"
)

// sectionRows names, per section, the field that holds its rows in a whole view; empty for sections without rows. Rows are
// sorted by key, or the other way round where the newest comes first.
var sectionRows = map[string]struct {
	field  string
	newest bool
}{
	secNetwork: {"models", false}, secWorkers: {"workers", false}, secRefusals: {"refusals", true}, secJobs: {"jobs", true},
	secBatches: {"batches", false}, secDead: {"letters", true}, secMoney: {"", false}, secTrust: {"", false}, secHistory: {"points", false},
}

// keptGone bounds the removed rows that a section remembers. A browser that has missed more is sent the whole section.
const keptGone = 4096

// row is one encoded row and the revision at which it last changed.
type row struct {
	json json.RawMessage
	at   uint64
}

// gone is a removed row.
type gone struct {
	key string
	at  uint64
}

// section is the encoded form of one section: a head, and rows that have keys.
type section struct {
	head   json.RawMessage
	headAt uint64
	rows   map[string]row
	gone   []gone // oldest first
	forgot uint64 // the newest revision of a removed row that is not remembered any more
	last   uint64 // the newest revision of all
}

// set takes new contents over and reports whether anything changed; all that did gets the revision.
func (s *section) set(head json.RawMessage, rows map[string]json.RawMessage, revision uint64) bool {
	if s.last == 0 || !bytes.Equal(s.head, head) {
		s.head, s.headAt, s.last = head, revision, revision
	}
	if s.rows == nil {
		s.rows = make(map[string]row, len(rows))
	}
	for key, b := range rows {
		if old, ok := s.rows[key]; !ok || !bytes.Equal(old.json, b) {
			s.rows[key], s.last = row{b, revision}, revision
		}
	}
	if len(s.rows) != len(rows) {
		for key := range s.rows {
			if _, ok := rows[key]; !ok {
				delete(s.rows, key)
				s.gone, s.last = append(s.gone, gone{key, revision}), revision
			}
		}
	}
	if extra := len(s.gone) - keptGone; extra > 0 {
		s.forgot = s.gone[extra-1].at
		s.gone = slices.Delete(s.gone, 0, extra)
	}
	return s.last == revision
}

// delta is what a browser is sent of a section.
type delta struct {
	// Whole tells that the rows replace all that the browser has.
	Whole bool
	Head  json.RawMessage
	Rows  map[string]json.RawMessage
	Gone  []string
}

// encode spells the delta. What rows hold is encoded already, and encoding/json would read all of it again.
func (d *delta) encode(b []byte) []byte {
	b = append(b, '{')
	if d.Whole {
		b = append(b, `"whole":true,`...)
	}
	if d.Head != nil {
		b = append(append(append(b, `"head":`...), d.Head...), ',')
	}
	for i, key := range d.Gone {
		b = append(b, [...]string{`"gone":[`, `,`}[min(i, 1)]...)
		b = strconv.AppendQuote(b, key)
	}
	if len(d.Gone) > 0 {
		b = append(b, "],"...)
	}
	b = append(b, `"rows":{`...)
	first := true
	for key, r := range d.Rows {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(append(strconv.AppendQuote(b, key), ':'), r...)
	}
	return append(b, "}}"...)
}

// since is what has changed after a revision that a browser has seen, 0 for none; nil when nothing has.
func (s *section) since(seen uint64) *delta {
	if s.last <= seen {
		return nil
	}
	d := &delta{Whole: seen == 0 || seen < s.forgot, Rows: map[string]json.RawMessage{}}
	if d.Whole {
		seen = 0
	}
	if s.headAt > seen {
		d.Head = s.head
	}
	for key, r := range s.rows {
		if r.at > seen {
			d.Rows[key] = r.json
		}
	}
	if !d.Whole {
		for _, g := range s.gone {
			if _, back := s.rows[g.key]; g.at > seen && !back {
				d.Gone = append(d.Gone, g.key)
			}
		}
	}
	return d
}

// whole spells the section as one object, its rows as an array in the named field.
func (s *section) whole(name string) json.RawMessage {
	form := sectionRows[name]
	if form.field == "" || len(s.head) < 2 {
		return s.head
	}
	keys := make([]string, 0, len(s.rows))
	for key := range s.rows {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if form.newest {
		slices.Reverse(keys)
	}
	b := append([]byte(nil), s.head[:len(s.head)-1]...) // the head is an object without its closing brace
	if len(s.head) > 2 {
		b = append(b, ',')
	}
	b = append(b, `"`+form.field+`":[`...)
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, s.rows[key].json...)
	}
	return append(b, "]}"...)
}

// store holds the sections that browsers are shown.
type store struct {
	// mu guards the fields below. What a section holds is replaced, never changed, so what was read from it may be kept.
	mu       sync.Mutex
	revision uint64
	sections map[string]*section
	changed  chan struct{} // closed and replaced when a section changes
}

// newStore makes a store with empty sections.
func newStore() *store {
	s := &store{sections: map[string]*section{}, changed: make(chan struct{})}
	for name := range sectionRows {
		s.sections[name] = &section{head: json.RawMessage("{}")}
	}
	return s
}

// put takes a section's new contents over and wakes the browsers when something changed.
func (s *store) put(name string, head any, rows map[string]json.RawMessage) error {
	b, err := json.Marshal(head)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision++
	if s.sections[name].set(b, rows, s.revision) {
		close(s.changed)
		s.changed = make(chan struct{})
	}
	return nil
}

// since returns what has changed in the named sections after the revisions that a browser has seen, writes down the new
// revisions, and returns a channel that closes at the next change.
func (s *store) since(names []string, seen map[string]uint64) (map[string]*delta, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := map[string]*delta{}
	for _, name := range names {
		if d := s.sections[name].since(seen[name]); d != nil {
			fresh[name], seen[name] = d, s.sections[name].last
		}
	}
	return fresh, s.changed
}

// view spells the named sections as one object each.
func (s *store) view(names []string) map[string]json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]json.RawMessage, len(names))
	for _, name := range names {
		all[name] = s.sections[name].whole(name)
	}
	return all
}

// seqKey is the key of a row that is sorted by a position.
func seqKey(seq uint64) string {
	digits := strconv.FormatUint(seq, 10)
	return "00000000000000000000"[len(digits):] + digits
}
