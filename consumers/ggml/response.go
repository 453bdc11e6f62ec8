package ggml

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/ggml/batcher"
	"github.com/cocoon-network/cocoon/schemas"
)

// The objects of OpenAI's API, as far as this engine answers with them.
type (
	object struct {
		ID          string   `json:"id"`
		Object      string   `json:"object"`
		Created     int64    `json:"created"`
		Model       string   `json:"model"`
		Fingerprint string   `json:"system_fingerprint"`
		Choices     []choice `json:"choices"`
		Usage       *usage   `json:"usage,omitempty"`
	}
	choice struct {
		Index    int      `json:"index"`
		Message  *message `json:"message,omitempty"`
		Delta    *message `json:"delta,omitempty"`
		Text     *string  `json:"text,omitempty"`
		Logprobs any      `json:"logprobs"`
		Finish   *string  `json:"finish_reason"`
	}
	message struct {
		Role    string  `json:"role,omitempty"`
		Content *string `json:"content,omitempty"`
		Refusal *string `json:"refusal,omitempty"`
	}
	usage struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Total      int `json:"total_tokens"`
		Details    struct {
			Cached int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
		Reasoning struct {
			Tokens int `json:"reasoning_tokens"`
		} `json:"completion_tokens_details"`
	}
	chatLogprobs struct {
		Content []tokenLogprob `json:"content"`
	}
	tokenLogprob struct {
		Token   string         `json:"token"`
		Logprob float64        `json:"logprob"`
		Bytes   []int          `json:"bytes"`
		Top     []tokenLogprob `json:"top_logprobs,omitempty"`
	}
	textLogprobs struct {
		Tokens   []string             `json:"tokens"`
		Logprobs []float64            `json:"token_logprobs"`
		Top      []map[string]float64 `json:"top_logprobs"`
		Offsets  []int                `json:"text_offset"`
	}
)

// newUsage is OpenAI's view of what a request cost.
func newUsage(s batcher.Stats) *usage {
	u := &usage{Prompt: s.Prompt, Completion: s.Generated, Total: s.Prompt + s.Generated}
	u.Details.Cached = s.Cached
	return u
}

// billed is our view: disjoint counts.
func billed(s batcher.Stats) schemas.Usage {
	return schemas.Usage{Prompt: uint64(s.Prompt - s.Cached), Cached: uint64(s.Cached), Completion: uint64(s.Generated)}
}

// stream turns the pieces of a ticket into OpenAI objects. The work is done in the caller's goroutine, not the batcher's.
type stream struct {
	e      *Engine
	c      *call
	ticket *batcher.Ticket
	head   object // what all objects of this answer have in common

	pending []consumers.Event
	started bool
	text    strings.Builder
	tokens  []batcher.Token
	shown   int // bytes of text given out, for text_offset
	over    error
}

var _ consumers.Stream = (*stream)(nil)

// newStream prepares the answer to a call.
func (e *Engine) newStream(id string, c *call, ticket *batcher.Ticket) *stream {
	s := &stream{e: e, c: c, ticket: ticket}
	s.head = object{ID: "cmpl-" + id, Object: "text_completion", Created: time.Now().Unix(), Model: c.model, Fingerprint: e.fingerprint}
	if c.chat {
		s.head.ID, s.head.Object = "chatcmpl-"+id, "chat.completion"
	}
	return s
}

// Next implements consumers.Stream.
func (s *stream) Next() (consumers.Event, error) {
	for len(s.pending) == 0 {
		if s.over != nil {
			return consumers.Event{}, s.over
		}
		p, err := s.ticket.Next()
		if err != nil {
			s.over = err
			continue
		}
		s.take(p)
	}
	ev := s.pending[0]
	s.pending = s.pending[1:]
	return ev, nil
}

// Close implements consumers.Stream.
func (s *stream) Close() error {
	s.ticket.Close()
	return nil
}

// Usage is what the request has cost, also when it was cancelled. It is exact: tokens were counted as they were computed.
func (s *stream) Usage() (u schemas.Usage, exact bool) { return billed(s.ticket.Stats()), true }

// take makes events of a piece.
func (s *stream) take(p batcher.Piece) {
	if s.c.strip && s.text.Len() == 0 {
		p.Text = strings.TrimPrefix(p.Text, " ")
		s.c.strip = p.Text == "" && len(p.Tokens) == 0
	}
	s.text.WriteString(p.Text)
	s.tokens = append(s.tokens, p.Tokens...)
	if s.c.stream {
		s.deltas(p)
	}
	if p.Result != nil {
		s.pending = append(s.pending, consumers.Event{Done: s.done(p.Result)})
	}
}

// deltas adds the chunks for a piece: the role first, the reason to end last, then the usage if it is wanted.
func (s *stream) deltas(p batcher.Piece) {
	if s.c.chat && !s.started {
		empty := ""
		s.chunk(choice{Delta: &message{Role: "assistant", Content: &empty}})
	}
	s.started = true
	if p.Text != "" || s.c.Logprobs && len(p.Tokens) > 0 {
		c := choice{Logprobs: s.logprobs(p.Tokens)}
		if s.c.chat {
			c.Delta = &message{Content: &p.Text}
		} else {
			c.Text = &p.Text
		}
		s.chunk(c)
	}
	if p.Result == nil {
		return
	}
	last := choice{Finish: &p.Result.Reason, Delta: &message{}}
	if !s.c.chat {
		empty := ""
		last = choice{Finish: &p.Result.Reason, Text: &empty}
	}
	s.chunk(last)
	if s.c.usage {
		o := s.head
		o.Choices, o.Usage = []choice{}, newUsage(p.Result.Stats)
		s.add(o)
	}
}

// chunk adds a chunk with one choice.
func (s *stream) chunk(c choice) {
	o := s.head
	o.Choices = []choice{c}
	if s.c.always {
		o.Usage = newUsage(s.ticket.Stats())
	}
	s.add(o)
}

func (s *stream) add(o object) {
	if s.c.chat {
		o.Object = "chat.completion.chunk"
	}
	s.pending = append(s.pending, consumers.Event{Delta: encode(o)})
}

// done is the last event.
func (s *stream) done(r *batcher.Result) *consumers.Done {
	o := s.head
	text := s.text.String()
	c := choice{Finish: &r.Reason}
	s.shown = 0
	if c.Logprobs = s.logprobs(s.tokens); s.c.chat {
		c.Message = &message{Role: "assistant", Content: &text}
	} else {
		c.Text = &text
	}
	o.Choices, o.Usage = []choice{c}, newUsage(r.Stats)
	return &consumers.Done{
		Status: http.StatusOK, ContentType: "application/json", Body: encode(o), FinishReason: r.Reason,
		Usage: billed(r.Stats), UsageExact: true, Queue: r.Queue, TTFT: r.First, Total: r.Total, Fingerprint: s.e.fingerprint,
	}
}

// logprobs describes tokens in the form of the endpoint, nil if nobody asked.
func (s *stream) logprobs(tokens []batcher.Token) any {
	if !s.c.Logprobs {
		return nil
	}
	if s.c.chat {
		list := make([]tokenLogprob, 0, len(tokens))
		for _, t := range tokens {
			l := describe(t.Text, t.Logprob)
			for _, top := range t.Top {
				l.Top = append(l.Top, describe(s.e.words.piece(top.Token), top.Logprob))
			}
			list = append(list, l)
		}
		return chatLogprobs{list}
	}
	l := textLogprobs{Tokens: []string{}, Logprobs: []float64{}, Top: []map[string]float64{}, Offsets: []int{}}
	for _, t := range tokens {
		top := map[string]float64{}
		for _, x := range t.Top {
			top[s.e.words.piece(x.Token)] = x.Logprob
		}
		l.Tokens, l.Logprobs = append(l.Tokens, t.Text), append(l.Logprobs, t.Logprob)
		l.Top, l.Offsets = append(l.Top, top), append(l.Offsets, s.shown)
		s.shown += len(t.Text)
	}
	return l
}

func describe(text string, p float64) tokenLogprob {
	l := tokenLogprob{Token: strings.ToValidUTF8(text, "\uFFFD"), Logprob: p, Bytes: []int{}}
	for i := range len(text) {
		l.Bytes = append(l.Bytes, int(text[i]))
	}
	return l
}

// encode writes an object. Its types have no values that JSON lacks: logits were checked to be finite.
func encode(v any) json.RawMessage {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return json.RawMessage("{}") // unreachable for these types
	}
	return json.RawMessage(strings.TrimSuffix(b.String(), "\n"))
}
