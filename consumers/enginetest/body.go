package enginetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/consumers"
)

// Body is a request body. Members are added and changed with With.
type Body map[string]any

// Chat asks one question, greedily.
func Chat(model, question string) Body {
	return Body{"model": model, "temperature": 0, "messages": []any{map[string]any{"role": "user", "content": question}}}
}

// With returns a copy with a member set; nil removes it.
func (b Body) With(name string, v any) Body {
	c := Body{}
	for k, x := range b {
		c[k] = x
	}
	if c[name] = v; v == nil {
		delete(c, name)
	}
	return c
}

// JSON is the body as it is sent.
func (b Body) JSON(t testing.TB) []byte {
	t.Helper()
	out, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Response is what the suite reads of an answer or a chunk.
type Response struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Model   string `json:"model"`
	Choices []struct {
		Index   int `json:"index"`
		Message struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		} `json:"message"`
		Delta struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		} `json:"delta"`
		Text   string  `json:"text"`
		Finish *string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		Prompt     uint64 `json:"prompt_tokens"`
		Completion uint64 `json:"completion_tokens"`
		Total      uint64 `json:"total_tokens"`
		Details    struct {
			Cached uint64 `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
}

// Answer is a whole answer.
type Answer struct {
	*consumers.Done
	Response Response
	// Chunks are the deltas before it.
	Chunks []Response
}

// Text is the content of the first choice.
func (a *Answer) Text() string {
	if len(a.Response.Choices) == 0 {
		return ""
	}
	return a.Response.Choices[0].Message.Content + a.Response.Choices[0].Text
}

// Streamed is the content of all chunks of the first choice.
func (a *Answer) Streamed() string { return a.StreamedChoice(0) }

// StreamedChoice is the content of all chunks of a choice.
func (a *Answer) StreamedChoice(index int) string {
	var b strings.Builder
	for _, c := range a.Chunks {
		for _, x := range c.Choices {
			if x.Index == index {
				b.WriteString(x.Delta.Content + x.Text)
			}
		}
	}
	return b.String()
}

// Read collects an answer and closes the stream.
func Read(s consumers.Stream) (*Answer, error) {
	defer s.Close()
	a := &Answer{}
	for {
		ev, err := s.Next()
		if err != nil {
			return a, err
		}
		if ev.Done == nil {
			var c Response
			if !utf8.Valid(ev.Delta) {
				return a, fmt.Errorf("a chunk is no UTF-8: %q", ev.Delta)
			}
			if err := json.Unmarshal(ev.Delta, &c); err != nil {
				return a, fmt.Errorf("a chunk is no object: %w", err)
			}
			a.Chunks = append(a.Chunks, c)
			continue
		}
		if len(ev.Delta) > 0 {
			return a, errors.New("the last event has a delta")
		}
		a.Done = ev.Done
		if err := json.Unmarshal(ev.Done.Body, &a.Response); err != nil {
			return a, fmt.Errorf("the body is no object: %w", err)
		}
		if _, err := s.Next(); !errors.Is(err, io.EOF) {
			return a, fmt.Errorf("after the last event: %v, want io.EOF", err)
		}
		return a, nil
	}
}

// Ask runs a chat to its end and fails the test if it fails.
func Ask(t testing.TB, e consumers.Engine, b Body) *Answer {
	t.Helper()
	a, err := TryAsk(t, e, b)
	if err != nil {
		t.Fatalf("%v: %v", b, err)
	}
	return a
}

// TryAsk runs a chat to its end.
func TryAsk(t testing.TB, e consumers.Engine, b Body) (*Answer, error) {
	t.Helper()
	s, err := e.Submit(t.Context(), &consumers.Request{URL: consumers.PathChat, Body: b.JSON(t)})
	if err != nil {
		return nil, err
	}
	return Read(s)
}
