package gateway_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"

	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/schemas"
)

// response is the whole answer of an engine that offers the responses endpoint.
const response = `{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"tiny","output":[{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"two words","annotations":[],"logprobs":[]}]}],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":2},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":1},"total_tokens":15}}`

// responseEvents are the same as OpenAI streams it, in the order and with the fields of its reference.
var responseEvents = []string{
	`{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":1,"status":"in_progress","model":"tiny","output":[]}}`,
	`{"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_1","object":"response","created_at":1,"status":"in_progress","model":"tiny","output":[]}}`,
	`{"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"type":"message","id":"msg_1","status":"in_progress","role":"assistant","content":[]}}`,
	`{"type":"response.content_part.added","sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}`,
	`{"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"two ","logprobs":[]}`,
	`{"type":"response.output_text.delta","sequence_number":5,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"words","logprobs":[]}`,
	`{"type":"response.output_text.done","sequence_number":6,"item_id":"msg_1","output_index":0,"content_index":0,"text":"two words","logprobs":[]}`,
	`{"type":"response.content_part.done","sequence_number":7,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"two words","annotations":[]}}`,
	`{"type":"response.output_item.done","sequence_number":8,"output_index":0,"item":{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"two words","annotations":[]}]}}`,
	`{"type":"response.completed","sequence_number":9,"response":` + response + `}`,
}

// respond is producerstest.Echo with the responses endpoint.
func respond(ctx context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
	if r.URL != "/v1/responses" {
		return producerstest.Echo(ctx, r, emit)
	}
	if r.Stream {
		for _, e := range responseEvents {
			emit([]byte(e))
		}
	}
	return schemas.Result{Status: 200, ContentType: "application/json", Usage: producerstest.Usage, Body: []byte(response)}
}

// TestResponses passes the events of an engine through as they are, and openai-go understands them.
func TestResponses(t *testing.T) {
	t.Parallel()
	b := setup(t, respond)
	p := responses.ResponseNewParams{Model: "tiny", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("x")}}
	a, err := b.client.Responses.New(patience(t), p)
	if err != nil || a.OutputText() != "two words" || a.Status != "completed" || a.Usage.TotalTokens != 15 || !strings.Contains(a.Usage.RawJSON(), `"total_cost":`) {
		t.Errorf("response = %+v, %v", a, err)
	}
	s := b.client.Responses.NewStreaming(patience(t), p)
	var text strings.Builder
	var raw []string
	for s.Next() {
		e := s.Current()
		text.WriteString(e.AsResponseOutputTextDelta().Delta)
		raw = append(raw, e.RawJSON())
	}
	if err := s.Err(); err != nil || !strings.Contains(text.String(), "two words") {
		t.Errorf("streamed %q, %v", text.String(), err)
	}
	if len(raw) != len(responseEvents) {
		t.Fatalf("%d events, want %d: %s", len(raw), len(responseEvents), strings.Join(raw, "\n"))
	}
	for i, want := range responseEvents {
		if raw[i] != want {
			t.Errorf("event %d = %s, want %s", i, raw[i], want)
		}
	}
	body := read(t, b.post(t, "/v1/responses", `{"model":"tiny","input":"x","stream":true}`))
	for _, e := range responseEvents {
		var named struct{ Type string }
		if err := json.Unmarshal([]byte(e), &named); err != nil {
			t.Fatal(err)
		}
		if want := "event: " + named.Type + "\ndata: " + e + "\n\n"; strings.Count(body, want) != 1 {
			t.Errorf("the stream does not have %s", want)
		}
	}
}

// TestFieldsPass holds what engines get against what a client sent: n, tools, response_format, logit_bias and fields that
// nobody knows arrive as they were written, and the several choices and tool calls of the answer come back.
func TestFieldsPass(t *testing.T) {
	t.Parallel()
	const asked = `"n":2,"logit_bias":{"50256":-100},"tool_choice":"required","parallel_tool_calls":false,` +
		`"tools":[{"type":"function","function":{"name":"weather","strict":true,"parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}],` +
		`"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object"}}},"guided_regex":"[a-z]+"`
	const message = `{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Bern\"}"}}]}`
	got := make(chan string, 2)
	b := setup(t, func(_ context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
		got <- string(r.Body)
		if r.Stream {
			for _, c := range []string{
				`{"index":0,"delta":{"role":"assistant","tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"weather","arguments":""}}]},"finish_reason":null}`,
				`{"index":1,"delta":{"role":"assistant","tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Bern\"}"}}]},"finish_reason":null}`,
				`{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":\"Bern\"}"}}]},"finish_reason":null}`,
				`{"index":0,"delta":{},"finish_reason":"tool_calls"}`, `{"index":1,"delta":{},"finish_reason":"tool_calls"}`,
			} {
				emit([]byte(`{"id":"c","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[` + c + `]}`))
			}
		}
		return schemas.Result{Status: 200, ContentType: "application/json", Usage: producerstest.Usage, FinishReason: "tool_calls", Body: []byte(
			`{"id":"c","object":"chat.completion","created":1,"model":"tiny","choices":[{"index":0,"message":` + message + `,"finish_reason":"tool_calls"},{"index":1,"message":` + message + `,"finish_reason":"tool_calls"}]}`)}
	})
	for _, streamed := range []bool{false, true} {
		var p openai.ChatCompletionNewParams
		if err := json.Unmarshal(producerstest.Ask("x", ","+asked), &p); err != nil {
			t.Fatal(err)
		}
		guided := option.WithJSONSet("guided_regex", "[a-z]+")
		var acc openai.ChatCompletionAccumulator
		answer := &acc.ChatCompletion
		if streamed {
			s := b.client.Chat.Completions.NewStreaming(patience(t), p, guided)
			for s.Next() {
				acc.AddChunk(s.Current())
			}
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
		} else {
			var err error
			if answer, err = b.client.Chat.Completions.New(patience(t), p, guided); err != nil {
				t.Fatal(err)
			}
		}
		if len(answer.Choices) != 2 {
			t.Fatalf("%d choices, streamed %v", len(answer.Choices), streamed)
		}
		for _, c := range answer.Choices {
			if c.FinishReason != "tool_calls" || len(c.Message.ToolCalls) != 1 || c.Message.ToolCalls[0].Function.Arguments != `{"city":"Bern"}` {
				t.Errorf("choice = %+v, streamed %v", c, streamed)
			}
		}
		var body, want map[string]json.RawMessage
		if err := json.Unmarshal([]byte(<-got), &body); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte("{"+asked+"}"), &want); err != nil {
			t.Fatal(err)
		}
		for name, value := range want {
			if !sameJSON(t, body[name], value) {
				t.Errorf("the engine got %s = %s, want %s", name, body[name], value)
			}
		}
	}
}

// sameJSON compares values, not their spelling.
func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var texts [2]string
	for i, v := range [][]byte{a, b} {
		var x any
		if len(v) == 0 || json.Unmarshal(v, &x) != nil {
			return false
		}
		text, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(text)
	}
	return texts[0] == texts[1]
}
