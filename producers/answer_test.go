package producers_test

import (
	"testing"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/schemas"
)

// TestPriced: the cost stands in usage, and everything else of a body keeps its bytes.
func TestPriced(t *testing.T) {
	t.Parallel()
	charge := schemas.Charge{Total: 30, PromptCost: 10, CompletionCost: 20}
	for body, want := range map[string]string{
		`{"id":"x","usage":{"prompt_tokens":1},"n":1.50}`: `{"id":"x","usage":{"prompt_tokens":1,"prompt_total_cost":10,"completion_total_cost":20,"total_cost":30},"n":1.50}`,
		`{"usage":{"total_cost":7}}`:                      `{"usage":{"total_cost":30,"prompt_total_cost":10,"completion_total_cost":20}}`, // an engine's own idea of cost does not count
		`{"text":"no usage"}`:                             `{"text":"no usage"}`,
		`{"usage":null}`:                                  `{"usage":null}`,
		"RIFF\x00speech":                                  "RIFF\x00speech",
		"":                                                "",
	} {
		if got := string((&producers.Answer{Body: []byte(body), Charge: charge}).Priced()); got != want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
}
