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
	answers []answer
	left    int // answers that have not ended
	over    error
}

// answer is one choice as far as it has come.
type answer struct {
	strip   bool // a leading space is the tokenizer's
	started bool
	text    strings.Builder
	tokens  []batcher.Token
	shown   int // bytes of text given out, for text_offset
	reason  string
}

var _ consumers.Stream = (*stream)(nil)

// newStream prepares the answer to a call.
func (e *Engine) newStream(id string, c *call, ticket *batcher.Ticket) *stream {
	s := &stream{e: e, c: c, ticket: ticket, left: c.answers()}
	s.head = object{ID: "cmpl-" + id, Object: "text_completion", Created: time.Now().Unix(), Model: c.model, Fingerprint: e.fingerprint}
	if c.chat {
		s.head.ID, s.head.Object = "chatcmpl-"+id, "chat.completion"
	}
	s.answers = make([]answer, s.left)
	for i := range s.answers {
		s.answers[i].strip = c.strip
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
	a := &s.answers[p.Index]
	if a.strip && a.text.Len() == 0 {
		p.Text = strings.TrimPrefix(p.Text, " ")
		a.strip = p.Text == "" && len(p.Tokens) == 0
	}
	a.text.WriteString(p.Text)
	a.tokens = append(a.tokens, p.Tokens...)
	if s.c.stream {
		s.deltas(a, p)
	}
	if p.Result == nil {
		return
	}
	a.reason = p.Result.Reason
	if s.left--; s.left > 0 {
		return
	}
	if s.c.usage {
		o := s.head
		o.Choices, o.Usage = []choice{}, newUsage(s.ticket.Stats())
		s.add(o)
	}
	s.pending = append(s.pending, consumers.Event{Done: s.done()})
}

// deltas adds the chunks for a piece: the role first, the reason to end last.
func (s *stream) deltas(a *answer, p batcher.Piece) {
	if s.c.chat && !a.started {
		empty := ""
		s.chunk(choice{Index: p.Index, Delta: &message{Role: "assistant", Content: &empty}})
	}
	a.started = true
	if p.Text != "" || s.c.Logprobs && len(p.Tokens) > 0 {
		c := choice{Index: p.Index, Logprobs: s.logprobs(a, p.Tokens)}
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
	last := choice{Index: p.Index, Finish: &p.Result.Reason}
	if empty := ""; s.c.chat {
		last.Delta = &message{}
	} else {
		last.Text = &empty
	}
	s.chunk(last)
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
func (s *stream) done() *consumers.Done {
	o, stats := s.head, s.ticket.Stats()
	for i := range s.answers {
		a := &s.answers[i]
		text := a.text.String()
		c := choice{Index: i, Finish: &a.reason}
		a.shown = 0
		if c.Logprobs = s.logprobs(a, a.tokens); s.c.chat {
			c.Message = &message{Role: "assistant", Content: &text}
		} else {
			c.Text = &text
		}
		o.Choices = append(o.Choices, c)
	}
	o.Usage = newUsage(stats)
	d := s.e.ended(stats, encode(o))
	d.FinishReason = s.answers[0].reason
	return d
}

// ended is the last event of a request with this response.
func (e *Engine) ended(s batcher.Stats, body json.RawMessage) *consumers.Done {
	return &consumers.Done{
		Status: http.StatusOK, ContentType: "application/json", Body: body, Usage: billed(s), UsageExact: true,
		Queue: s.Queue, TTFT: s.First, Total: s.Total, Fingerprint: e.fingerprint,
	}
}

// logprobs describes tokens of an answer in the form of the endpoint, nil if nobody asked.
func (s *stream) logprobs(a *answer, tokens []batcher.Token) any {
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
		l.Top, l.Offsets = append(l.Top, top), append(l.Offsets, a.shown)
		a.shown += len(t.Text)
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
