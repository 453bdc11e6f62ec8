package broker

import (
	"testing"
	"time"
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
