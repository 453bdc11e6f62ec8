package slice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/schemas"
)

func TestCut(t *testing.T) {
	t.Parallel()
	paragraphs := numbered(110, func(i int) string {
		if i%11 == 10 {
			return ".\n\n"
		}
		return " "
	})
	for _, tt := range []struct {
		name, document string
		size, overlap  int
	}{
		{"short", "one piece", 100, 0},
		{"paragraphs", paragraphs, 150, 0},
		{"overlap", paragraphs, 150, 40},
		{"no borders", numbered(300, func(int) string { return "x" }), 64, 0},
		{"no borders, overlap", numbered(300, func(int) string { return "x" }), 64, 32},
		{"many bytes a character", numbered(300, func(int) string { return "é世🙂" }), 64, 10},
		{"sentences", numbered(100, func(int) string { return ". " }), 64, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pieces, err := Cut(tt.document, tt.size, tt.overlap)
			if err != nil {
				t.Fatal(err)
			}
			whole(t, tt.document, pieces, tt.size)
			if tt.overlap == 0 && strings.Join(pieces, "") != tt.document {
				t.Error("the pieces are not the document")
			}
		})
	}
	if pieces, err := Cut("", 100, 0); err != nil || len(pieces) != 0 {
		t.Errorf("an empty document = %q, %v", pieces, err)
	}
	pieces, err := Cut(paragraphs, 150, 0)
	if err != nil || !strings.HasSuffix(pieces[0], "\n\n") {
		t.Errorf("not cut between paragraphs: %q, %v", pieces, err)
	}
}

// numbered is a text in which every number is once, so that a piece has one place in it.
func numbered(n int, between func(i int) string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprint(&b, 1000+i, between(i))
	}
	return b.String()
}

// whole checks that pieces are parts of a document that cover it in order.
func whole(t *testing.T, document string, pieces []string, size int) {
	t.Helper()
	covered := 0
	for i, p := range pieces {
		if len(p) > size || p == "" || !utf8.ValidString(p) {
			t.Fatalf("piece %d has %d bytes", i, len(p))
		}
		at := strings.Index(document[max(0, covered-size):], p)
		if at < 0 {
			t.Fatalf("piece %d is not in the document", i)
		}
		if at += max(0, covered-size); at > covered {
			t.Fatalf("between piece %d and the one before, bytes %d to %d are lost", i, covered, at)
		}
		covered = max(covered, at+len(p))
	}
	if covered != len(document) {
		t.Fatalf("the pieces cover %d of %d bytes", covered, len(document))
	}
}

func FuzzCut(f *testing.F) {
	f.Add("some text. And more\n\nand more", 64, 10)
	f.Add(strings.Repeat("é", 200), 64, 32)
	f.Fuzz(func(t *testing.T, document string, size, overlap int) {
		pieces, err := Cut(document, size, overlap)
		if err != nil {
			return
		}
		for _, p := range pieces {
			if len(p) > size || !utf8.ValidString(p) || !strings.Contains(document, p) {
				t.Fatalf("piece %q", p)
			}
		}
		if overlap == 0 && strings.Join(pieces, "") != document {
			t.Fatal("the pieces are not the document")
		}
	})
}

func TestCutRefuses(t *testing.T) {
	t.Parallel()
	for field, call := range map[string]func() ([]string, error){
		"size":     func() ([]string, error) { return Cut("x", 10, 0) },
		"overlap":  func() ([]string, error) { return Cut("x", 100, 51) },
		"document": func() ([]string, error) { return Cut("\xff", 100, 0) },
	} {
		var e *schemas.Error
		if _, err := call(); !errors.As(err, &e) || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// counter answers with the first word of each text and counts jobs by key.
type counter struct {
	mu   sync.Mutex
	keys map[string]int
	fail func(body string) error
}

// Do implements Client.
func (c *counter) Do(_ context.Context, j producers.Job) (*producers.Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		if err := c.fail(string(j.Body)); err != nil {
			return nil, err
		}
	}
	c.keys[j.IdempotencyKey]++
	var q struct{ Messages []struct{ Content string } }
	if err := json.Unmarshal(j.Body, &q); err != nil {
		return nil, err
	}
	words := strings.Fields(q.Messages[1].Content)
	text := fmt.Sprint(words[0], "+", len(words))
	return &producers.Answer{
		Job: schemas.JobID(j.IdempotencyKey + string(j.Body)), HTTP: 200, Body: []byte(`{"choices":[{"message":{"content":"` + text + `"}}]}`), Usage: schemas.Usage{Prompt: 2}, Charge: schemas.Charge{Total: 3},
	}, nil
}

func TestRun(t *testing.T) {
	t.Parallel()
	document := "alpha " + numbered(400, func(int) string { return " " })
	c := &counter{keys: map[string]int{}}
	steps := map[string]int{}
	o := Options{Model: "m", Map: "map", Reduce: "reduce", Size: 200, MaxTokens: 8, Key: "run", OnPiece: func(step string, done, total int) { steps[step]++ }}
	r, err := Run(t.Context(), c, document, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Pieces < 10 || r.Jobs != len(c.keys) || r.Cost != schemas.NanoTON(3*r.Jobs) || r.Usage.Prompt != uint64(2*r.Jobs) || !strings.HasPrefix(r.Text, "alpha+") {
		t.Errorf("result = %+v with %d jobs", r, len(c.keys))
	}
	if steps["map"] != r.Pieces || steps["map"]+steps["reduce"] != r.Jobs {
		t.Errorf("steps = %v", steps)
	}
	// The same run makes the same jobs; another key makes others.
	if _, err := Run(t.Context(), c, document, o); err != nil {
		t.Fatal(err)
	}
	for key, n := range c.keys {
		if n != 2 || !strings.HasPrefix(key, "slice/") {
			t.Errorf("job %q was asked %d times", key, n)
		}
	}
	jobs := len(c.keys)
	o.Key = "another"
	if _, err := Run(t.Context(), c, document, o); err != nil || len(c.keys) != 2*jobs {
		t.Errorf("another run has %d jobs, %v", len(c.keys)-jobs, err)
	}
}

func TestRunWithoutReduce(t *testing.T) {
	t.Parallel()
	r, err := Run(t.Context(), &counter{keys: map[string]int{}}, strings.Repeat("one two three four five six. ", 10), Options{Model: "m", Map: "map", Size: 100})
	if err != nil || r.Text != "one+18\n\none+18\n\none+18\n\none+6" || r.Pieces != 4 || r.Jobs != 2 {
		t.Errorf("result = %+v, %v", r, err)
	}
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	broken := &schemas.Error{Kind: schemas.KindPoison, Message: "no"}
	c := &counter{keys: map[string]int{}, fail: func(string) error { return broken }}
	if _, err := Run(t.Context(), c, "text", Options{Model: "m", Map: "map"}); !errors.Is(err, schemas.KindPoison) {
		t.Errorf("Run = %v, want KindPoison", err)
	}
	// Answers that cannot be put together end the run, they do not loop.
	long := &fixed{strings.Repeat("x", 190)}
	if _, err := Run(t.Context(), long, strings.Repeat("word ", 100), Options{Model: "m", Map: "map", Reduce: "r", Size: 200}); !errors.Is(err, schemas.KindTooLarge) {
		t.Errorf("Run with long answers = %v, want KindTooLarge", err)
	}
	for field, o := range map[string]Options{"Model": {Map: "m"}, "Map": {Model: "m"}} {
		var e *schemas.Error
		if _, err := Run(t.Context(), c, "text", o); !errors.As(err, &e) || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// fixed always answers the same.
type fixed struct{ text string }

// Do implements Client.
func (f *fixed) Do(context.Context, producers.Job) (*producers.Answer, error) {
	return &producers.Answer{HTTP: 200, Body: []byte(`{"choices":[{"message":{"content":"` + f.text + `"}}]}`)}, nil
}

func TestLines(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	n, err := Lines(&b, strings.Repeat("word ", 100), "doc", Options{Model: "m", Map: "map", Size: 100})
	if err != nil || n != strings.Count(b.String(), "\n") || !strings.HasPrefix(b.String(), `{"custom_id":"doc-00001","method":"POST","url":"/v1/chat/completions","body":{"model":"m",`) {
		t.Errorf("%d lines, %v: %s", n, err, b.String())
	}
}
