//go:build !worker

package main

import (
	"bufio"
	"bytes"
	_ "embed" // the held-out prompts are part of the program
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
)

// heldout is the model's held-out examples: none of them is in its training data, so an answer that is right was
// computed, not remembered.
//
//go:embed deploy/model/heldout.jsonl
var heldout []byte

// example is one held-out example.
type example struct {
	Task    string      `json:"task"`
	Prompt  string      `json:"prompt"`
	Answer  string      `json:"answer"`
	History [][2]string `json:"history"`
}

// question is one line of the demo: an example under an id.
type question struct {
	example
	ID string
}

// chatMessage is a message of a chat completion request.
type chatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// batchLine is a request as OpenAI's batch files have it.
type batchLine struct {
	CustomID string   `json:"custom_id"`
	Method   string   `json:"method"`
	URL      string   `json:"url"`
	Body     chatBody `json:"body"`
}

// chatBody is a chat completion request.
type chatBody struct {
	Model       string        `json:"model"`
	Messages    []chatMessage `json:"messages"`
	MaxTokens   int           `json:"max_tokens"`
	Temperature float64       `json:"temperature"`
}

// answerTokens bounds an answer of the demo. The longest held-out answer has fewer tokens.
const answerTokens = 96

// questions picks n examples evenly over all tasks, the same ones every time.
func questions(n int) ([]question, error) {
	byTask := map[string][]example{}
	var tasks []string
	scanner := bufio.NewScanner(bytes.NewReader(heldout))
	for scanner.Scan() {
		var e example
		if err := json.Unmarshal(scanner.Bytes(), &e); err != nil {
			return nil, schemas.Errorf(schemas.KindCorrupt, "held-out examples: %w", err)
		}
		if byTask[e.Task] == nil {
			tasks = append(tasks, e.Task)
		}
		byTask[e.Task] = append(byTask[e.Task], e)
	}
	slices.Sort(tasks)
	picked := make([]question, 0, n)
	for round := 0; len(picked) < n; round++ {
		before := len(picked)
		for _, task := range tasks {
			if round < len(byTask[task]) && len(picked) < n {
				picked = append(picked, question{byTask[task][round], fmt.Sprintf("%s-%03d", task, round)})
			}
		}
		if len(picked) == before {
			return nil, schemas.Errorf(schemas.KindInvalid, "there are only %d held-out examples", before)
		}
	}
	return picked, nil
}

// line is the question as a batch line for a model.
func (q question) line(model string) batchLine {
	var messages []chatMessage
	for _, turn := range q.History {
		messages = append(messages, chatMessage{"user", turn[0]}, chatMessage{"assistant", turn[1]})
	}
	messages = append(messages, chatMessage{"user", q.Prompt})
	return batchLine{
		CustomID: q.ID, Method: "POST", URL: "/v1/chat/completions",
		Body: chatBody{Model: model, Messages: messages, MaxTokens: answerTokens},
	}
}

// right reports whether an answer is the expected one, word for word.
func (q question) right(answer string) bool { return strings.TrimSpace(answer) == q.Answer }

// batchFile writes questions as a JSONL batch file.
func batchFile(questions []question, model string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, q := range questions {
		if err := enc.Encode(q.line(model)); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}
