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
