package batch

import (
	"context"
	"errors"
	"io"
	"slices"
)

// MaxIssues bounds how many issues a report lists; it always counts all.
const MaxIssues = 1000

// Report is what a check of an input file found.
type Report struct {
	// Lines counts the good requests, Bytes the input as it lies on disk.
	Lines int   `json:"lines"`
	Bytes int64 `json:"bytes"`
	// Models and Endpoints count requests.
	Models    map[string]int `json:"models"`
	Endpoints map[string]int `json:"endpoints"`
	// Unknown counts body fields that OpenAI's API does not have; they are passed to the engine.
	Unknown map[string]int `json:"unknown_fields,omitempty"`
	// Issues are the first MaxIssues of all that is wrong, in order; Wrong counts all.
	Issues []Issue `json:"issues"`
	Wrong  int     `json:"wrong"`
}

// OK reports whether the file can be submitted.
func (r *Report) OK() bool { return r.Wrong == 0 }

// Err is the first issue of a file that cannot be submitted.
func (r *Report) Err() error {
	if r.OK() {
		return nil
	}
	first := r.Issues[0]
	return &first
}

// maxUnknown bounds how many different unknown fields a report counts.
const maxUnknown = 64

// add counts a good line.
func (r *Report) add(l Line) {
	r.Lines++
	r.Models[l.Call.Model]++
	r.Endpoints[l.Call.URL]++
	for _, name := range l.Call.Unknown {
		if _, known := r.Unknown[name]; known || len(r.Unknown) < maxUnknown {
			r.Unknown[name]++
		}
	}
}

// Validate reads a whole input file and reports everything that is wrong with it. The error is non-nil only when the
// input could not be read; a file that is wrong makes a report that is not OK. each, when not nil, sees every good
// line while it is read.
func Validate(ctx context.Context, src io.Reader, rules Rules, each func(Line) error) (*Report, error) {
	r := &Report{Models: map[string]int{}, Endpoints: map[string]int{}, Unknown: map[string]int{}, Issues: []Issue{}}
	counted := &bytesRead{src: src}
	for line, err := range Lines(counted, rules) {
		var i *Issue
		switch {
		case errors.As(err, &i):
			if r.Wrong++; len(r.Issues) < MaxIssues {
				r.Issues = append(r.Issues, *i)
			}
			continue
		case err != nil:
			return nil, err
		}
		r.add(line)
		if each != nil {
			if err := each(line); err != nil {
				return nil, err
			}
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
	}
	r.Bytes = counted.n
	slices.SortStableFunc(r.Issues, func(a, b Issue) int { return a.Line - b.Line })
	return r, nil
}

// bytesRead counts the input as it lies on disk.
type bytesRead struct {
	src io.Reader
	n   int64
}

// Read counts.
func (b *bytesRead) Read(p []byte) (int, error) {
	n, err := b.src.Read(p)
	b.n += int64(n)
	return n, err
}
