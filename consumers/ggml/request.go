package ggml

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cocoon-network/cocoon/consumers/ggml/batcher"
	"github.com/cocoon-network/cocoon/schemas"
)

// call is a request that has been understood.
type call struct {
	batcher.Request
	inputs  [][]int32 // what to make vectors of, instead of Prompt
	base64  bool      // how vectors are spelled
	model   string    // as the request names it
	chat    bool      // or a completion
	stream  bool
	usage   bool   // a last chunk with the usage
	always  bool   // the usage so far in every chunk
	strip   bool   // a leading space is the tokenizer's
	tooLong string // the field that limits the answer
}

// answers is how many choices the answer has.
func (c *call) answers() int { return max(1, c.N) }

// requests are what the batcher gets.
func (c *call) requests() []batcher.Request {
	if c.inputs == nil {
		return []batcher.Request{c.Request}
	}
	rs := make([]batcher.Request, len(c.inputs))
	for i, p := range c.inputs {
		rs[i] = c.Request
		rs[i].Prompt = p
	}
	return rs
}

// maxAnswers is OpenAI's limit for n.
const maxAnswers = 128

// fields are the members of a request object. A reader takes them out one by one; what is left is unknown.
type fields struct {
	raw map[string]json.RawMessage
	err error
}

// readFields takes an object apart, strictly: valid UTF-8, no key twice.
func readFields(body []byte) *fields {
	f := &fields{}
	if len(body) > MaxBody {
		f.err = &schemas.Error{Kind: schemas.KindTooLarge, Message: "the request body is too long"}
		return f
	}
	if f.err = schemas.CheckJSON(body); f.err != nil {
		return f
	}
	if err := json.Unmarshal(body, &f.raw); err != nil || f.raw == nil {
		f.err = &schemas.Error{Kind: schemas.KindInvalid, Message: "the request body must be a JSON object"}
	}
	return f
}

func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

// take reads one member into v and reports whether it was there. null counts as absent.
func take[T any](f *fields, name string, v *T, want string) bool {
	raw, ok := f.raw[name]
	delete(f.raw, name)
	if !ok || string(raw) == "null" || f.err != nil {
		return false
	}
	if err := json.Unmarshal(raw, v); err != nil {
		f.fail(schemas.FieldError(name, "must be "+want))
		return false
	}
	return true
}

// refuse fails for a member that asks for something the engine lacks, unless it has its harmless value.
func (f *fields) refuse(name string, harmless ...string) {
	raw, ok := f.raw[name]
	delete(f.raw, name)
	if ok && !slices.Contains(append(harmless, "null"), string(raw)) {
		f.fail(&schemas.Error{Kind: schemas.KindUnsupported, Field: name, Message: "is not offered by this engine"})
	}
}

// ignored are members that change nothing in the answer of this engine.
var ignored = []string{
	"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
	"parallel_tool_calls", "prediction", "reasoning_effort", "verbosity", "cache_salt", "priority",
}

// rest fails when members are left that nobody knows: they might mean something.
func (f *fields) rest() {
	for _, name := range ignored {
		delete(f.raw, name)
	}
	for name := range f.raw {
		f.fail(&schemas.Error{Kind: schemas.KindUnsupported, Field: clip(name), Message: "is no parameter that this engine knows"})
	}
}

// clip shortens a name that came from outside.
func clip(s string) string {
	const most = 64
	return s[:min(len(s), most)]
}

// sampling reads everything that steers the choice of tokens.
func (f *fields) sampling(c *call, vocab int) {
	s := &c.Sampling
	s.Temperature, s.TopP = 1, 1
	const number = "a number"
	take(f, "temperature", &s.Temperature, number)
	if take(f, "top_p", &s.TopP, number) && s.TopP <= 0 {
		f.fail(schemas.FieldError("top_p", "must be above 0"))
	}
	if take(f, "top_k", &s.TopK, "an integer") && s.TopK == -1 { // how vLLM spells "all"
		s.TopK = 0
	}
	take(f, "min_p", &s.MinP, number)
	take(f, "presence_penalty", &s.Presence, number)
	take(f, "frequency_penalty", &s.Frequency, number)
	if take(f, "repetition_penalty", &s.Repetition, number) && s.Repetition <= 0 {
		f.fail(schemas.FieldError("repetition_penalty", "must be above 0"))
	}
	var seed int64
	if take(f, "seed", &seed, "an integer") {
		s.Seed = uint64(seed)
	} else {
		s.Seed = randomSeed()
	}
	f.bias(s, vocab)
	take(f, "ignore_eos", &c.IgnoreEnd, "a boolean")
}

// randomSeed is for requests that do not care.
func randomSeed() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// bias reads logit_bias, whose keys are token numbers.
func (f *fields) bias(s *batcher.Sampling, vocab int) {
	var raw map[string]float64
	if !take(f, "logit_bias", &raw, "an object with numbers") || len(raw) == 0 {
		return
	}
	s.Bias = make(map[int32]float64, len(raw))
	for k, v := range raw {
		var id int32
		if err := json.Unmarshal([]byte(k), &id); err != nil || id < 0 || int(id) >= vocab {
			f.fail(schemas.FieldError("logit_bias", "names a token that the model does not know"))
			return
		}
		s.Bias[id] = v
	}
}

// stops reads stop: a string or several.
func (f *fields) stops(c *call) {
	var raw json.RawMessage
	if !take(f, "stop", &raw, "a string or a list of strings") {
		return
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		c.Stop = []string{one}
		return
	}
	if json.Unmarshal(raw, &c.Stop) != nil {
		f.fail(schemas.FieldError("stop", "must be a string or a list of strings"))
	}
}

// streaming reads stream and stream_options.
func (f *fields) streaming(c *call) {
	take(f, "stream", &c.stream, "a boolean")
	var o struct {
		Usage bool `json:"include_usage"`
		Every bool `json:"continuous_usage_stats"` // vLLM's
	}
	take(f, "stream_options", &o, "an object")
	c.usage, c.always = c.stream && o.Usage, o.Usage && o.Every
}

// limit reads the token limit under its names. 0 means as much as fits.
func (f *fields) limit(c *call, names ...string) {
	c.tooLong = names[len(names)-1]
	for _, name := range names {
		if take(f, name, &c.MaxTokens, "an integer") {
			c.tooLong = name
			if c.MaxTokens < 1 {
				f.fail(schemas.FieldError(name, "must be at least 1"))
			}
		}
	}
}

// understand reads a request of one of the text endpoints.
func (e *Engine) understand(url string, body []byte) (*call, error) {
	f := readFields(body)
	c := &call{}
	var prompt string
	field := "messages"
	if f.err == nil {
		take(f, "model", &c.model, "a string")
		if url == pathEmbeddings {
			return c, e.readEmbedding(f, c)
		}
		f.streaming(c)
		f.sampling(c, len(e.file.Tokens))
		f.stops(c)
		if take(f, "n", &c.N, "an integer") && (c.N < 1 || c.N > maxAnswers) {
			f.fail(schemas.FieldError("n", "must be 1 to 128"))
		}
		f.refuse("response_format", `{"type":"text"}`, `{"type": "text"}`)
		if c.chat = url == pathChat; c.chat {
			prompt = e.readChat(f, c)
		} else {
			field = "prompt"
			prompt = e.readCompletion(f, c)
		}
		f.rest()
	}
	if f.err != nil {
		return nil, f.err
	}
	return c, e.fit(c, prompt, field)
}

// fit encodes the prompt and settles how long the answer may be.
func (e *Engine) fit(c *call, prompt, field string) error {
	room := min(e.o.Context, e.o.Cells)
	tooLong := func(name, what string) error {
		return &schemas.Error{Kind: schemas.KindTooLarge, Field: name, Message: fmt.Sprintf("%s; the context has %d tokens", what, room)}
	}
	if c.Prompt == nil {
		if e.words.tooLong(len(prompt), room) {
			return tooLong(field, "the prompt does not fit")
		}
		var err error
		if c.Prompt, err = e.words.encode(prompt); err != nil {
			return &schemas.Error{Kind: schemas.KindInvalid, Field: field, Message: "the prompt cannot be encoded", Err: err}
		}
	}
	switch n := len(c.Prompt); {
	case n == 0:
		return schemas.FieldError(field, "has no text")
	case n >= room:
		return tooLong(field, fmt.Sprintf("the prompt has %d tokens", n))
	case c.MaxTokens == 0:
		c.MaxTokens = room - n
	case c.MaxTokens > room-n:
		return tooLong(c.tooLong, fmt.Sprintf("the prompt has %d tokens and the answer may have %d more", n, c.MaxTokens))
	}
	return nil
}

// readCompletion reads what a completion has of its own.
func (e *Engine) readCompletion(f *fields, c *call) (prompt string) {
	f.limit(c, "max_tokens")
	if best := c.answers(); take(f, "best_of", &best, "an integer") && best != c.answers() {
		f.fail(&schemas.Error{Kind: schemas.KindUnsupported, Field: "best_of", Message: "must be n: every answer is given out"})
	}
	f.refuse("echo", "false")
	f.refuse("suffix", `""`)
	if take(f, "logprobs", &c.TopLogprobs, "an integer") {
		c.Logprobs = true
		if c.TopLogprobs < 0 || c.TopLogprobs > maxCompletionLogprobs {
			f.fail(schemas.FieldError("logprobs", "must be 0 to 5"))
		}
	}
	var raw json.RawMessage
	if !take(f, "prompt", &raw, "a string or a list of tokens") {
		f.fail(schemas.FieldError("prompt", "is missing"))
		return ""
	}
	if json.Unmarshal(raw, &prompt) == nil {
		return prompt
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		f.fail(schemas.FieldError("prompt", "must be a string or a list of tokens"))
		return ""
	}
	if len(list) == 1 && json.Unmarshal(list[0], &prompt) == nil {
		return prompt
	}
	if json.Unmarshal(raw, &c.Prompt) != nil || len(c.Prompt) == 0 {
		f.fail(&schemas.Error{Kind: schemas.KindUnsupported, Field: "prompt", Message: "one string or one list of tokens is read"})
	}
	return ""
}

// maxCompletionLogprobs is OpenAI's limit for completions.
const maxCompletionLogprobs = 5
