package producers_test

import (
	"encoding/json"
	"testing"
)

// delta is the text of a chat chunk.
func delta(t *testing.T, event []byte) string {
	t.Helper()
	var c struct {
		Choices []struct {
			Delta struct {
				Content string `json:"content"`
			} `json:"delta"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(event, &c); err != nil {
		t.Fatalf("%s: %v", event, err)
	}
	if len(c.Choices) == 0 {
		return ""
	}
	return c.Choices[0].Delta.Content
}
