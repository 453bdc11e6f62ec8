package openai

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
)

// Assembler follows the events of one streamed answer. When the stream stops short, because live chunks were lost or
// never came, it makes the events that bring the reader from where it is to the whole answer. One goroutine uses it.
type Assembler struct {
	url   string
	usage bool // the caller wants the stream to end with its usage
	// choicesAsked is how many answers the caller asked for.
	choicesAsked int64

	head     head // of the first event, repeated in those we make
	choices  map[int]*choice
	parts    map[[2]int]*strings.Builder // text of the responses endpoint, by output and content index
	sequence int64                       // last sequence_number of the responses endpoint
	sawUsage bool
	complete bool // the responses endpoint has said that it ended
}

// head is what every chunk of one answer repeats.
type head struct {
	ID          string  `json:"id"`
	Object      string  `json:"object"`
	Created     int64   `json:"created"`
	Model       string  `json:"model"`
	Fingerprint *string `json:"system_fingerprint,omitempty"`
}

// choice is how far one choice has come.
type choice struct {
	content, reasoning, refusal strings.Builder
	calls                       map[int]*strings.Builder
	started, finished           bool
}

// NewAssembler follows the stream of a call.
func NewAssembler(c *Call) *Assembler {
	return &Assembler{url: c.URL, usage: c.IncludeUsage, choicesAsked: c.Choices, choices: map[int]*choice{}, parts: map[[2]int]*strings.Builder{}}
}

// toolCall is a tool call in a chunk or, without index, in a whole answer.
type toolCall struct {
	Index    *int   `json:"index,omitempty"`
	ID       string `json:"id,omitempty"`
	Type     string `json:"type,omitempty"`
	Function struct {
		Name      string `json:"name,omitempty"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// message is a delta or a whole message.
type message struct {
	Role      string     `json:"role,omitempty"`
	Content   *string    `json:"content,omitempty"`
	Reasoning *string    `json:"reasoning_content,omitempty"`
	Refusal   *string    `json:"refusal,omitempty"`
	ToolCalls []toolCall `json:"tool_calls,omitempty"`
}

// choiceForm is a choice of a chunk (Delta) or of a whole answer (Message or Text).
type choiceForm struct {
	Index        int      `json:"index"`
	Delta        *message `json:"delta,omitempty"`
	Message      *message `json:"message,omitempty"`
	Text         *string  `json:"text,omitempty"`
	FinishReason *string  `json:"finish_reason"`
}

// chunkForm is a chunk or a whole answer of the chat and completions endpoints.
type chunkForm struct {
	head
	Choices []choiceForm    `json:"choices"`
	Usage   json.RawMessage `json:"usage,omitempty"`
}

// responseEvent is an event of the responses endpoint, as far as it must be followed.
type responseEvent struct {
	Type     string `json:"type"`
	Sequence int64  `json:"sequence_number"`
	Output   int    `json:"output_index"`
	Content  int    `json:"content_index"`
	Delta    string `json:"delta"`
}

// Add follows one event that the reader has been given.
func (a *Assembler) Add(event []byte) error {
	if a.url == PathResponses {
		return a.addResponse(event)
	}
	var c chunkForm
	if err := json.Unmarshal(event, &c); err != nil {
		return schemas.Errorf(schemas.KindEngine, "an event of the stream is not a chunk: %w", err)
	}
	if a.head.ID == "" {
		a.head = c.head
	}
	for _, form := range c.Choices {
		to := a.choice(form.Index)
		to.follow(form.Delta)
		if form.Text != nil {
			to.content.WriteString(*form.Text)
		}
		to.finished = to.finished || form.FinishReason != nil && *form.FinishReason != ""
	}
	a.sawUsage = a.sawUsage || len(c.Choices) == 0 && len(c.Usage) > 0 && string(c.Usage) != "null"
	return nil
}

// choice is the progress of a choice.
func (a *Assembler) choice(index int) *choice {
	c := a.choices[index]
	if c == nil {
		c = &choice{calls: map[int]*strings.Builder{}}
		a.choices[index] = c
	}
	return c
}

// follow adds a delta.
func (c *choice) follow(d *message) {
	if d == nil {
		return
	}
	c.started = true
	write(&c.content, d.Content)
	write(&c.reasoning, d.Reasoning)
	write(&c.refusal, d.Refusal)
	for i, call := range d.ToolCalls {
		if call.Index != nil {
			i = *call.Index
		}
		if c.calls[i] == nil {
			c.calls[i] = &strings.Builder{}
		}
		c.calls[i].WriteString(call.Function.Arguments)
	}
}

// write appends a string that may be absent.
func write(to *strings.Builder, s *string) {
	if s != nil {
		to.WriteString(*s)
	}
}

// addResponse follows an event of the responses endpoint.
func (a *Assembler) addResponse(event []byte) error {
	var e responseEvent
	if err := json.Unmarshal(event, &e); err != nil {
		return schemas.Errorf(schemas.KindEngine, "an event of the stream is not a response event: %w", err)
	}
	a.sequence = max(a.sequence, e.Sequence)
	switch e.Type {
	case "response.output_text.delta":
		at := [2]int{e.Output, e.Content}
		if a.parts[at] == nil {
			a.parts[at] = &strings.Builder{}
		}
		a.parts[at].WriteString(e.Delta)
	case "response.completed", "response.incomplete", "response.failed":
		a.complete = true
	}
	return nil
}

// Ended reports, by a look at the end of a stream that came whole from its engine, that nothing has to be completed. It
// is quick and says false when in doubt; Finish, after Add of all events, is exact.
func (a *Assembler) Ended(events [][]byte) bool {
	if a.choicesAsked > 1 {
		return false
	}
	tail := events[max(0, len(events)-lastEvents):]
	contains := func(mark string) bool {
		return slices.ContainsFunc(tail, func(e []byte) bool { return bytes.Contains(e, []byte(mark)) })
	}
	if a.url == PathResponses {
		return contains(`"type":"response.completed"`) || contains(`"type":"response.incomplete"`)
	}
	return contains(`"finish_reason":"`) && (!a.usage || contains(`"usage":{`))
}

// lastEvents is how many events the end of a stream has: the finish reason and the usage.
const lastEvents = 2

// Finish returns the events that are still missing, given the body that the same call without streaming would have
// had. It fails with KindEngine when what the reader has been given is not a beginning of that body: the job was run
// again and went another way, and the reader must be told.
func (a *Assembler) Finish(body []byte) ([][]byte, error) {
	switch a.url {
	case PathResponses:
		return a.finishResponse(body)
	case PathChat, PathCompletions:
		return a.finishChoices(body)
	}
	return nil, nil
}

// finishChoices completes chat and completions.
func (a *Assembler) finishChoices(body []byte) ([][]byte, error) {
	var whole chunkForm
	if err := json.Unmarshal(body, &whole); err != nil {
		return nil, schemas.Errorf(schemas.KindEngine, "the answer is not a completion: %w", err)
	}
	if a.head.ID == "" {
		a.head = whole.head
		if a.url == PathChat {
			a.head.Object = "chat.completion.chunk"
		}
	}
	var events [][]byte
	for _, form := range whole.Choices {
		rest, err := a.choice(form.Index).rest(form)
		if err != nil {
			return nil, err
		}
		for _, r := range rest {
			events = append(events, encode(chunkForm{head: a.head, Choices: []choiceForm{r}}))
		}
	}
	if a.usage && !a.sawUsage && len(whole.Usage) > 0 {
		events = append(events, encode(chunkForm{head: a.head, Choices: []choiceForm{}, Usage: whole.Usage}))
	}
	return events, nil
}

// rest returns the choices of the chunks that complete a choice: one with what is missing, one with the end.
func (c *choice) rest(whole choiceForm) ([]choiceForm, error) {
	if c.finished {
		return nil, nil
	}
	end := choiceForm{Index: whole.Index, FinishReason: whole.FinishReason}
	if whole.Message == nil {
		text, err := missing(&c.content, whole.Text)
		end.Text = text
		if text == nil {
			end.Text = new(string)
		}
		return []choiceForm{end}, err
	}
	end.Delta = &message{}
	delta, err := c.restOf(whole.Message)
	if err != nil || delta == nil {
		return []choiceForm{end}, err
	}
	return []choiceForm{{Index: whole.Index, Delta: delta}, end}, nil
}

// restOf is the delta that completes a message, nil when nothing is missing.
func (c *choice) restOf(m *message) (*message, error) {
	var d message
	var err error
	if d.Content, err = missing(&c.content, m.Content); err != nil {
		return nil, err
	}
	if d.Reasoning, err = missing(&c.reasoning, m.Reasoning); err != nil {
		return nil, err
	}
	if d.Refusal, err = missing(&c.refusal, m.Refusal); err != nil {
		return nil, err
	}
	for i, call := range m.ToolCalls {
		have := c.calls[i]
		if have == nil {
			call.Index = &i
			d.ToolCalls = append(d.ToolCalls, call)
			continue
		}
		more, err := missing(have, &call.Function.Arguments)
		if err != nil {
			return nil, err
		}
		if more != nil {
			next := toolCall{Index: &i}
			next.Function.Arguments = *more
			d.ToolCalls = append(d.ToolCalls, next)
		}
	}
	if !c.started {
		d.Role = m.Role
	}
	if d.Role == "" && d.Content == nil && d.Reasoning == nil && d.Refusal == nil && d.ToolCalls == nil {
		return nil, nil
	}
	return &d, nil
}

// missing is what follows have in whole, nil for nothing.
func missing(have *strings.Builder, whole *string) (*string, error) {
	if whole == nil {
		whole = new(string)
	}
	rest, ok := strings.CutPrefix(*whole, have.String())
	if !ok {
		return nil, &schemas.Error{Kind: schemas.KindEngine, Message: "the job was run again and its answer is not the one that the stream began with"}
	}
	if rest == "" {
		return nil, nil
	}
	return &rest, nil
}

// finishResponse completes the responses endpoint.
func (a *Assembler) finishResponse(body []byte) ([][]byte, error) {
	if a.complete {
		return nil, nil
	}
	var whole struct {
		Status string `json:"status"`
		Output []struct {
			ID      string `json:"id"`
			Content []struct {
				Type string `json:"type"`
				Text string `json:"text"`
			} `json:"content"`
		} `json:"output"`
	}
	if err := json.Unmarshal(body, &whole); err != nil {
		return nil, schemas.Errorf(schemas.KindEngine, "the answer is not a response: %w", err)
	}
	var events [][]byte
	for i, item := range whole.Output {
		for j, part := range item.Content {
			have := a.parts[[2]int{i, j}]
			if have == nil {
				have = &strings.Builder{}
			}
			more, err := missing(have, &part.Text)
			if err != nil {
				return nil, err
			}
			if more != nil && part.Type == "output_text" {
				a.sequence++
				events = append(events, encode(map[string]any{
					"type": "response.output_text.delta", "sequence_number": a.sequence, "item_id": item.ID,
					"output_index": i, "content_index": j, "delta": *more, "logprobs": []any{},
				}))
			}
		}
	}
	last := "response.completed"
	if whole.Status == "incomplete" || whole.Status == "failed" {
		last = "response." + whole.Status
	}
	a.sequence++
	return append(events, encode(map[string]any{"type": last, "sequence_number": a.sequence, "response": json.RawMessage(body)})), nil
}

// encode spells an event.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("openai: an event that we made must marshal: " + err.Error())
	}
	return b
}
