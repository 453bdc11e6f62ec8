package openai

import (
	"encoding/json"
	"strings"
)

// response is the union of the text that the endpoints answer with.
type response struct {
	Choices []struct {
		Text    string `json:"text"`
		Message struct {
			Content string `json:"content"`
		} `json:"message"`
	} `json:"choices"`
	Output []struct {
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
	} `json:"output"`
}

// Text is the text of a response's first choice, whatever text endpoint made it. It is empty when there is none.
func Text(body []byte) string {
	var r response
	if json.Unmarshal(body, &r) != nil {
		return ""
	}
	if len(r.Choices) > 0 {
		return r.Choices[0].Message.Content + r.Choices[0].Text
	}
	var b strings.Builder
	for _, item := range r.Output {
		for _, part := range item.Content {
			b.WriteString(part.Text)
		}
	}
	return b.String()
}

// DeltaText is the text that an event of a stream adds to the first choice, whatever text endpoint made it.
func DeltaText(event []byte) string {
	var e struct {
		Choices []struct {
			Index int    `json:"index"`
			Text  string `json:"text"`
			Delta struct {
				Content string `json:"content"`
			} `json:"delta"`
		} `json:"choices"`
		Type  string          `json:"type"`
		Delta json.RawMessage `json:"delta"`
	}
	if json.Unmarshal(event, &e) != nil {
		return ""
	}
	var text strings.Builder
	for _, c := range e.Choices {
		if c.Index == 0 {
			text.WriteString(c.Delta.Content + c.Text)
		}
	}
	if e.Type == "response.output_text.delta" {
		var delta string
		if json.Unmarshal(e.Delta, &delta) == nil {
			text.WriteString(delta)
		}
	}
	return text.String()
}
