package openai

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
)

// collected puts a whole answer together from chunks of chat or completion.
type collected struct {
	chat    bool
	head    map[string]json.RawMessage // id, created, system_fingerprint, … of the first chunk
	choices map[int]*collectedChoice
	usage   *usage
	pieces  int // chunks with text
}

// maxChoices and maxTools bound the indexes that a server may use.
const (
	maxChoices = 128
	maxTools   = 128
)

// collectedChoice is one choice. fields are strings that grow (content, refusal, reasoning_content, …).
type collectedChoice struct {
	role   string
	fields map[string]*strings.Builder
	tools  map[int]*tool
	text   strings.Builder
	probs  map[string][]json.RawMessage
	finish *string
}

// tool is a call of a tool; its arguments come in parts.
type tool struct {
	ID, Type, Name string
	args           strings.Builder
}

// usage is OpenAI's.
type usage struct {
	Prompt     *uint64 `json:"prompt_tokens"`
	Completion uint64  `json:"completion_tokens"`
	Input      *uint64 `json:"input_tokens"` // responses name them so
	Output     uint64  `json:"output_tokens"`
	Details    *struct {
		Cached uint64 `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	InputDetails *struct {
		Cached uint64 `json:"cached_tokens"`
	} `json:"input_tokens_details"`
	CompletionDetails *struct {
		Reasoning uint64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
	OutputDetails *struct {
		Reasoning uint64 `json:"reasoning_tokens"`
	} `json:"output_tokens_details"`
}

// counts makes disjoint counts of it, false if it says nothing or nonsense.
func (u *usage) counts() (schemas.Usage, bool) {
	if u == nil || u.Prompt == nil && u.Input == nil {
		return schemas.Usage{}, false
	}
	prompt, out := u.Prompt, u.Completion
	if prompt == nil {
		prompt, out = u.Input, u.Output
	}
	var cached, reasoning uint64
	for _, d := range []*struct {
		Cached uint64 `json:"cached_tokens"`
	}{u.Details, u.InputDetails} {
		if d != nil {
			cached = d.Cached
		}
	}
	for _, d := range []*struct {
		Reasoning uint64 `json:"reasoning_tokens"`
	}{u.CompletionDetails, u.OutputDetails} {
		if d != nil {
			reasoning = d.Reasoning
		}
	}
	if cached > *prompt || reasoning > out || *prompt > schemas.MaxUsage || out > schemas.MaxUsage {
		return schemas.Usage{}, false
	}
	return schemas.Usage{Prompt: *prompt - cached, Cached: cached, Completion: out - reasoning, Reasoning: reasoning}, true
}

// chunk is one event of chat or completion.
type chunk struct {
	Choices []struct {
		Index    int                        `json:"index"`
		Delta    map[string]json.RawMessage `json:"delta"`
		Text     string                     `json:"text"`
		Logprobs map[string]json.RawMessage `json:"logprobs"`
		Finish   *string                    `json:"finish_reason"`
	} `json:"choices"`
	Usage *usage       `json:"usage"`
	Error *problemBody `json:"error"`
}

func newCollected(chat bool) *collected {
	return &collected{chat: chat, choices: map[int]*collectedChoice{}}
}

// add takes a chunk; raw is the same chunk by its members.
func (c *collected) add(k *chunk, raw map[string]json.RawMessage) error {
	if c.head == nil {
		c.head = map[string]json.RawMessage{}
		for name, v := range raw {
			if name != "choices" && name != "usage" && name != "object" && name != "model" {
				c.head[name] = v
			}
		}
	}
	if k.Usage != nil {
		c.usage = k.Usage
	}
	for _, x := range k.Choices {
		if x.Index < 0 || x.Index >= maxChoices {
			return &schemas.Error{Kind: schemas.KindEngine, Message: "the model server sends a choice that nobody asked for"}
		}
		choice := c.choices[x.Index]
		if choice == nil {
			choice = &collectedChoice{role: "assistant", fields: map[string]*strings.Builder{}, tools: map[int]*tool{}, probs: map[string][]json.RawMessage{}}
			c.choices[x.Index] = choice
		}
		choice.text.WriteString(x.Text)
		choice.logprobs(x.Logprobs)
		for name, v := range x.Delta {
			if err := choice.delta(name, v); err != nil {
				return err
			}
		}
		if x.Text != "" || len(x.Delta) > 0 {
			c.pieces++
		}
		if x.Finish != nil {
			choice.finish = x.Finish
		}
	}
	return nil
}

// delta takes one member of a delta. Strings grow; tool calls grow by index; what else there may be is not collected.
func (c *collectedChoice) delta(name string, v json.RawMessage) error {
	var s string
	switch {
	case name == "role":
		_ = json.Unmarshal(v, &c.role)
	case name == "tool_calls":
		return c.toolCalls(v)
	case json.Unmarshal(v, &s) == nil && string(v) != "null":
		if c.fields[name] == nil {
			c.fields[name] = &strings.Builder{}
		}
		c.fields[name].WriteString(s)
	}
	return nil
}

func (c *collectedChoice) toolCalls(v json.RawMessage) error {
	var calls []struct {
		Index    int    `json:"index"`
		ID       string `json:"id"`
		Type     string `json:"type"`
		Function struct {
			Name string `json:"name"`
			Args string `json:"arguments"`
		} `json:"function"`
	}
	if string(v) == "null" {
		return nil
	}
	if err := json.Unmarshal(v, &calls); err != nil {
		return &schemas.Error{Kind: schemas.KindEngine, Message: "the model server sends tool calls that cannot be read", Err: err}
	}
	for _, k := range calls {
		if k.Index < 0 || k.Index >= maxTools {
			return &schemas.Error{Kind: schemas.KindEngine, Message: "the model server sends too many tool calls"}
		}
		t := c.tools[k.Index]
		if t == nil {
			t = &tool{}
			c.tools[k.Index] = t
		}
		t.ID, t.Type, t.Name = t.ID+k.ID, or(t.Type, k.Type), t.Name+k.Function.Name
		t.args.WriteString(k.Function.Args)
	}
	return nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// logprobs appends the lists of a logprobs object.
func (c *collectedChoice) logprobs(l map[string]json.RawMessage) {
	for name, v := range l {
		var list []json.RawMessage
		if json.Unmarshal(v, &list) == nil && list != nil {
			c.probs[name] = append(c.probs[name], list...)
		}
	}
}

// complete reports whether every choice has ended.
func (c *collected) complete() bool {
	for _, x := range c.choices {
		if x.finish == nil {
			return false
		}
	}
	return len(c.choices) > 0
}

// answered is all the text, to count its tokens where the server did not.
func (c *collected) answered() string {
	var b strings.Builder
	for _, x := range c.choices {
		b.WriteString(x.text.String())
		for _, f := range x.fields {
			b.WriteString(f.String())
		}
		for _, t := range x.tools {
			b.WriteString(t.Name + t.args.String())
		}
	}
	return b.String()
}

// body is the answer that the same request without streaming would have had.
func (c *collected) body(model string, u schemas.Usage) ([]byte, string, error) {
	out := map[string]any{}
	for k, v := range c.head {
		out[k] = v
	}
	out["model"], out["object"] = model, "text_completion"
	if c.chat {
		out["object"] = "chat.completion"
	}
	out["usage"] = map[string]any{
		"prompt_tokens": u.Prompt + u.Cached, "completion_tokens": u.Completion + u.Reasoning, "total_tokens": u.Total(),
		"prompt_tokens_details":     map[string]any{"cached_tokens": u.Cached},
		"completion_tokens_details": map[string]any{"reasoning_tokens": u.Reasoning},
	}
	var finish string
	list := []any{}
	for i, index := range slices.Sorted(keysOf(c.choices)) {
		x := c.choices[index]
		if i == 0 {
			finish = *x.finish
		}
		list = append(list, x.object(index, c.chat))
	}
	out["choices"] = list
	b, err := json.Marshal(out)
	return b, finish, err
}

// keysOf iterates over the indexes of a map.
func keysOf[V any](m map[int]V) func(func(int) bool) {
	return func(yield func(int) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// object is a choice of a whole answer.
func (c *collectedChoice) object(index int, chat bool) map[string]any {
	o := map[string]any{"index": index, "finish_reason": c.finish, "logprobs": nil}
	if len(c.probs) > 0 {
		o["logprobs"] = c.probs
	}
	if !chat {
		o["text"] = c.text.String()
		return o
	}
	m := map[string]any{"role": c.role, "content": nil}
	for name, f := range c.fields {
		m[name] = f.String()
	}
	if len(c.tools) > 0 {
		calls := []any{}
		for _, i := range slices.Sorted(keysOf(c.tools)) {
			t := c.tools[i]
			calls = append(calls, map[string]any{
				"id": t.ID, "type": or(t.Type, "function"), "function": map[string]any{"name": t.Name, "arguments": t.args.String()},
			})
		}
		m["tool_calls"] = calls
		if m["content"] == "" {
			m["content"] = nil
		}
	}
	o["message"] = m
	return o
}
