package broker

import (
	"bytes"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// TestMerge: of two brokers' words the one with more attempts stands, then the later end, in whatever order they come; and a
// job that has expired is not remembered for anybody.
func TestMerge(t *testing.T) {
	t.Parallel()
	old := lease{attempt: 1, worker: "a", until: begin.Add(time.Minute), expiry: begin.Add(time.Hour)}
	renewed := lease{attempt: 1, worker: "a", until: begin.Add(2 * time.Minute), expiry: begin.Add(time.Hour)}
	next := lease{attempt: 2, worker: "b", until: begin.Add(time.Second), expiry: begin.Add(time.Hour)}
	for _, order := range [][]lease{{old, renewed, next}, {next, renewed, old}, {renewed, next, old}, {next, old, renewed}} {
		l := newLeases(10)
		for _, word := range order {
			l.merge(jobKey{1}, word, begin)
		}
		if got := *l.jobs[jobKey{1}]; got != next {
			t.Errorf("%+v stands", got)
		}
	}
	l := newLeases(1)
	l.merge(jobKey{1}, old, begin.Add(time.Hour))
	if len(l.jobs) != 0 {
		t.Error("an expired job is remembered")
	}
	l.merge(jobKey{1}, old, begin)
	if l.merge(jobKey{2}, old, begin); len(l.jobs) != 1 {
		t.Error("the table grew beyond its limit")
	}
}

// FuzzState: a stored state that is read encodes again to the same bytes, and one that is refused is corrupt.
func FuzzState(f *testing.F) {
	f.Add(schemas.EncodeCBOR(&state{Version: 1, Epoch: 7, Length: 3600, Window: 86400, Policies: []schemas.Hash{{1}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseState(b)
		if err != nil {
			if schemas.KindOf(err) != schemas.KindCorrupt {
				t.Errorf("%v", err)
			}
			return
		}
		if !bytes.Equal(schemas.EncodeCBOR(s), b) {
			t.Errorf("%x encodes again as something else", b)
		}
	})
}
