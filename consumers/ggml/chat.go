package ggml

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/ggml/jinja"
	"github.com/cocoon-network/cocoon/schemas"
)

// The endpoints' paths.
const (
	pathChat        = consumers.PathChat
	pathCompletions = consumers.PathCompletions
	pathEmbeddings  = consumers.PathEmbeddings
)

// maxMessages bounds a conversation.
const maxMessages = 4096

// readChat reads what a chat has of its own and writes the prompt with the model's template.
func (e *Engine) readChat(f *fields, c *call) (prompt string) {
	c.strip = e.words.leadingSpace()
	f.limit(c, "max_tokens", "max_completion_tokens")
	f.refuse("tools", "[]")
	f.refuse("tool_choice", `"none"`, `"auto"`)
	f.refuse("functions", "[]")
	f.refuse("function_call", `"none"`, `"auto"`)
	f.refuse("modalities", `["text"]`)
	f.refuse("audio")
	f.refuse("web_search_options")
	take(f, "logprobs", &c.Logprobs, "a boolean")
	if take(f, "top_logprobs", &c.TopLogprobs, "an integer") && !c.Logprobs {
		f.fail(schemas.FieldError("top_logprobs", "needs logprobs"))
	}
	var list []json.RawMessage
	if !take(f, "messages", &list, "a list") || len(list) == 0 {
		f.fail(schemas.FieldError("messages", "must have at least one message"))
	}
	if len(list) > maxMessages {
		f.fail(&schemas.Error{Kind: schemas.KindTooLarge, Field: "messages", Message: fmt.Sprintf("at most %d messages are read", maxMessages)})
	}
	if f.err != nil {
		return ""
	}
	messages := make([]any, 0, len(list))
	size := 0
	for i, raw := range list {
		m, err := e.message(raw, fmt.Sprintf("messages[%d]", i))
		if err != nil {
			f.fail(err)
			return ""
		}
		size += len(m["content"].(string))
		messages = append(messages, m)
	}
	if room := min(e.o.Context, e.o.Cells); e.words.tooLong(size, room) { // before the template copies it around
		f.fail(&schemas.Error{Kind: schemas.KindTooLarge, Field: "messages", Message: fmt.Sprintf("the prompt does not fit; the context has %d tokens", room)})
		return ""
	}
	prompt, err := e.render(messages)
	f.fail(err)
	return prompt
}

// roles that a message may have, and what the template is told.
var roles = map[string]string{"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}

// message reads one message of a conversation.
func (e *Engine) message(raw json.RawMessage, at string) (map[string]any, error) {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil || m == nil {
		return nil, schemas.FieldError(at, "must be an object")
	}
	var role string
	if json.Unmarshal(m["role"], &role) != nil {
		return nil, schemas.FieldError(at+".role", "must be a string")
	}
	told, ok := roles[role]
	if !ok {
		return nil, &schemas.Error{Kind: schemas.KindUnsupported, Field: at + ".role", Message: "must be system, developer, user or assistant"}
	}
	for name, v := range m {
		switch name {
		case "role", "content", "name", "refusal", "annotations":
		default:
			if s := string(v); s != "null" && s != "[]" {
				return nil, &schemas.Error{Kind: schemas.KindUnsupported, Field: at + "." + clip(name), Message: "is not offered by this engine"}
			}
		}
	}
	content, err := readContent(m["content"], at+".content")
	if err != nil {
		return nil, err
	}
	if e.words.holdsControl(content) {
		return nil, schemas.FieldError(at+".content", "contains a control token of the model")
	}
	return map[string]any{"role": told, "content": content}, nil
}

// readContent reads text, or parts of it.
func readContent(raw json.RawMessage, at string) (string, error) {
	var text string
	if raw != nil && string(raw) != "null" && json.Unmarshal(raw, &text) == nil {
		return text, nil
	}
	var parts []struct {
		Type string  `json:"type"`
		Text *string `json:"text"`
	}
	if raw == nil || json.Unmarshal(raw, &parts) != nil || len(parts) == 0 {
		return "", schemas.FieldError(at, "must be a string or a list of text parts")
	}
	var b strings.Builder
	for i, p := range parts {
		part := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case p.Type != "text":
			return "", &schemas.Error{Kind: schemas.KindUnsupported, Field: part + ".type", Message: "only text is read by this model"}
		case p.Text == nil:
			return "", schemas.FieldError(part+".text", "is missing")
		}
		b.WriteString(*p.Text)
	}
	return b.String(), nil
}

// render writes the prompt.
func (e *Engine) render(messages []any) (string, error) {
	token := func(id int32) string {
		if id < 0 {
			return ""
		}
		return e.file.Tokens[id]
	}
	prompt, err := e.template.Render(map[string]any{
		"messages": messages, "add_generation_prompt": true, "bos_token": token(e.file.BOS), "eos_token": token(e.file.EOS),
	})
	var no *jinja.Refusal
	if errors.As(err, &no) {
		return "", &schemas.Error{Kind: schemas.KindInvalid, Field: "messages", Message: "the model's chat template refuses this conversation", Err: err}
	}
	return prompt, err
}
