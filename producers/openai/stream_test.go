package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cocoon-network/cocoon/schemas"
)

// chatBody is a whole answer with two choices, a tool call and usage.
const chatBody = `{"id":"c1","object":"chat.completion","created":5,"model":"m","choices":[` +
	`{"index":0,"message":{"role":"assistant","content":"Hello, world","reasoning_content":"hm"},"finish_reason":"stop"},` +
	`{"index":1,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"t1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},"finish_reason":"tool_calls"}` +
	`],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`

// chatChunks is the same answer as a stream.
var chatChunks = []string{
	`{"id":"c1","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"hm"},"finish_reason":null}]}`,
	`{"id":"c1","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}`,
	`{"id":"c1","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":1,"delta":{"role":"assistant","tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"f","arguments":"{\"a\""}}]},"finish_reason":null}]}`,
	`{"id":"c1","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{"content":", world"},"finish_reason":null}]}`,
	`{"id":"c1","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":1,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]},"finish_reason":null}]}`,
	`{"id":"c1","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`,
	`{"id":"c1","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":1,"delta":{},"finish_reason":"tool_calls"}]}`,
	`{"id":"c1","object":"chat.completion.chunk","created":5,"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`,
}

// readStream is what a strict client makes of a stream: the text of each choice, its end, and the usage.
func readStream(t *testing.T, events []string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, e := range events {
		var c chunkForm
		if err := json.Unmarshal([]byte(e), &c); err != nil {
			t.Fatalf("%s: %v", e, err)
		}
		if c.Object != "chat.completion.chunk" || c.ID != "c1" || c.Model != "m" {
			t.Errorf("a chunk with the wrong head: %s", e)
		}
		if len(c.Choices) == 0 {
			got["usage"] += string(c.Usage)
		}
		for _, choice := range c.Choices {
			key := fmt.Sprint(choice.Index, ".")
			if choice.FinishReason != nil {
				got[key+"finish"] += *choice.FinishReason
			}
			if d := choice.Delta; d != nil {
				got[key+"role"] += d.Role
				if d.Content != nil {
					got[key+"content"] += *d.Content
				}
				if d.Reasoning != nil {
					got[key+"reasoning"] += *d.Reasoning
				}
				for _, call := range d.ToolCalls {
					got[key+"call"] += call.ID + call.Function.Name + call.Function.Arguments
				}
			}
		}
	}
	return got
}

// TestAssemblerCompletesEveryPrefix cuts the stream after every event: the reader ends up with the same answer.
func TestAssemblerCompletesEveryPrefix(t *testing.T) {
	t.Parallel()
	want := readStream(t, chatChunks)
	if want["0.content"] != "Hello, world" || want["1.call"] != `t1f{"a":1}` || want["usage"] == "" {
		t.Fatalf("the test reads its own stream wrongly: %v", want)
	}
	for cut := range len(chatChunks) + 1 {
		a := NewAssembler(&Call{URL: PathChat, IncludeUsage: true})
		events := append([]string(nil), chatChunks[:cut]...)
		for _, e := range events {
			if err := a.Add([]byte(e)); err != nil {
				t.Fatal(err)
			}
		}
		rest, err := a.Finish([]byte(chatBody))
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if cut == len(chatChunks) && len(rest) != 0 {
			t.Errorf("a complete stream gets %s", rest)
		}
		for _, e := range rest {
			events = append(events, string(e))
		}
		if diff := cmp.Diff(want, readStream(t, events)); diff != "" {
			t.Errorf("cut at %d: %s", cut, diff)
		}
	}
}

func TestAssemblerLeavesUsageOutUnasked(t *testing.T) {
	t.Parallel()
	a := NewAssembler(&Call{URL: PathChat})
	rest, err := a.Finish([]byte(chatBody))
	if err != nil {
		t.Fatal(err)
	}
	if last := string(rest[len(rest)-1]); strings.Contains(last, "usage") {
		t.Errorf("usage that nobody asked for: %s", last)
	}
}

func TestAssemblerNoticesAnotherAnswer(t *testing.T) {
	t.Parallel()
	a := NewAssembler(&Call{URL: PathChat})
	if err := a.Add([]byte(strings.Replace(chatChunks[1], "Hello", "Good day", 1))); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Finish([]byte(chatBody)); !errors.Is(err, schemas.KindEngine) {
		t.Errorf("Finish = %v, want KindEngine", err)
	}
}

func TestAssemblerCompletions(t *testing.T) {
	t.Parallel()
	a := NewAssembler(&Call{URL: PathCompletions})
	if err := a.Add([]byte(`{"id":"x","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"ab","finish_reason":null}]}`)); err != nil {
		t.Fatal(err)
	}
	rest, err := a.Finish([]byte(`{"id":"x","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"abcd","finish_reason":"length"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"x","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"cd","finish_reason":"length"}]}`
	if len(rest) != 1 || string(rest[0]) != want {
		t.Errorf("rest = %s, want %s", rest, want)
	}
}

func TestAssemblerResponses(t *testing.T) {
	t.Parallel()
	a := NewAssembler(&Call{URL: PathResponses})
	for _, e := range []string{
		`{"type":"response.created","sequence_number":0,"response":{}}`,
		`{"type":"response.output_text.delta","sequence_number":1,"output_index":0,"content_index":0,"delta":"ab"}`,
	} {
		if err := a.Add([]byte(e)); err != nil {
			t.Fatal(err)
		}
	}
	body := `{"id":"r","status":"completed","output":[{"id":"m1","content":[{"type":"output_text","text":"abcd"}]}]}`
	rest, err := a.Finish([]byte(body))
	if err != nil || len(rest) != 2 {
		t.Fatalf("Finish = %s, %v", rest, err)
	}
	var delta responseEvent
	if err := json.Unmarshal(rest[0], &delta); err != nil || delta.Delta != "cd" || delta.Sequence != 2 {
		t.Errorf("delta = %s", rest[0])
	}
	var last struct {
		Type     string          `json:"type"`
		Response json.RawMessage `json:"response"`
	}
	if err := json.Unmarshal(rest[1], &last); err != nil || last.Type != "response.completed" || string(last.Response) != body {
		t.Errorf("last = %s", rest[1])
	}
	if err := a.Add(rest[1]); err != nil {
		t.Fatal(err)
	}
	if rest, err := a.Finish([]byte(body)); err != nil || rest != nil {
		t.Errorf("a complete stream gets %s, %v", rest, err)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		chatBody:                       "Hello, world",
		`{"choices":[{"text":"abc"}]}`: "abc",
		`{"output":[{"content":[{"text":"a"},{"text":"b"}]},{"content":[]}]}`: "ab",
		`{"data":[]}`: "", `RIFF`: "",
	} {
		if got := Text([]byte(body)); got != want {
			t.Errorf("Text(%.40s) = %q, want %q", body, got, want)
		}
	}
}
