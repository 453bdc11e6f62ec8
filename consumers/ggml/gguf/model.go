package gguf

import (
	"fmt"
	"math"
	"slices"

	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of a model. They are far above any real one and keep every product of sizes small.
const (
	MaxLayers   = 1024
	MaxWidth    = 1 << 20 // embedding, feed-forward, heads times head size
	MaxVocab    = 1 << 20
	maxSpecials = 1 << 14
	leastVocab  = 8
)

// poolLast is the pooling type that takes what the model made of the last token.
const poolLast = 3

// Token types, as the file numbers them.
const (
	TokenNormal  = 1
	TokenUnknown = 2
	TokenControl = 3
	TokenUser    = 4
	TokenUnused  = 5
	TokenByte    = 6
)

// Model is what a checked file says about itself.
type Model struct {
	Architecture string
	// Name from the metadata, for people; may be empty.
	Name string
	// Context is the longest sequence the model was made for.
	Context int
	// Sizes of the network. HeadSize is that of keys and of values.
	Layers, Width, Heads, KVHeads, HeadSize, FeedForward int
	// Window is the reach of the layers with sliding-window attention, 0 if there are none; see [Model.Windowed].
	Window int
	// Pooled says that the model gives a vector of Width numbers for a text, and no text.
	Pooled bool
	// Parameters is the number of weights, Bytes their size.
	Parameters, Bytes uint64
	// Weights is the type of most weights.
	Weights Type

	// Tokenizer is "llama" (SentencePiece) or "gpt2" (byte pairs).
	Tokenizer string
	// Tokens and their types; BOS and EOS are -1 when the file has none.
	Tokens     []string
	TokenTypes []int32
	BOS, EOS   int32
	AddBOS     bool
	AddEOS     bool // after a text that is embedded
	// ChatTemplate in Jinja; empty if the model is none for chats.
	ChatTemplate string
}

// Windowed reports whether layer i has sliding-window attention.
func (m *Model) Windowed(i int) bool {
	switch m.Architecture {
	case "gemma2":
		return i%2 == 0
	case "gemma3":
		return (i+1)%6 != 0
	}
	return false
}

// Check decides whether a file with this header and size may be loaded, and describes its model.
func Check(h *Header, size int64) (*Model, error) {
	c := &checker{keys: make(map[string]any, len(h.Keys))}
	for _, k := range h.Keys {
		c.keys[k.Name] = k.Value
	}
	m := c.model()
	c.vocabulary(m)
	if c.err == nil {
		c.tensors(m, h, size)
	}
	if c.err != nil {
		return nil, c.err
	}
	return m, nil
}

// checker reads typed metadata. After the first error it only returns zero values.
type checker struct {
	keys map[string]any
	arch string
	err  error
}

func (c *checker) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// value is the value of a key: exactly of type T, since the engine ignores other types silently.
func value[T any](c *checker, name string, missing T) T {
	v, ok := c.keys[name]
	if !ok {
		return missing
	}
	t, ok := v.(T)
	if !ok {
		c.fail(corrupt(name, fmt.Sprintf("is a %T, must be a %T", v, missing)))
	}
	return t
}

// number is an unsigned setting of the architecture, 0 if it is missing.
func (c *checker) number(name string, least, most int) int {
	name = c.arch + "." + name
	n := value[uint32](c, name, 0)
	if c.err == nil && (int64(n) < int64(least) || int64(n) > int64(most)) {
		c.fail(corrupt(name, fmt.Sprintf("is %d, must be %d to %d", n, least, most)))
	}
	return int(n)
}

// positive is a setting that the engine divides by.
func (c *checker) positive(name string, missing float32) {
	name = c.arch + "." + name
	v := value(c, name, missing)
	if c.err == nil && !(v > 0 && v < math.MaxFloat32) {
		c.fail(corrupt(name, "must be a positive number"))
	}
}

// model reads the sizes.
func (c *checker) model() *Model {
	m := &Model{Architecture: value(c, "general.architecture", ""), Name: value(c, "general.name", "")}
	c.arch = m.Architecture
	if _, ok := architectures[m.Architecture]; !ok && c.err == nil {
		c.fail(&schemas.Error{Kind: schemas.KindUnsupported, Field: "general.architecture", Message: fmt.Sprintf("architecture %q is not served; these are: %s", clip(m.Architecture), known())})
	}
	if c.number("expert_count", 0, math.MaxInt32) > 0 {
		c.fail(&schemas.Error{Kind: schemas.KindUnsupported, Field: c.arch + ".expert_count", Message: "mixtures of experts are not served"})
	}
	m.Context = c.number("context_length", 1, 1<<24)
	m.Layers = c.number("block_count", 1, MaxLayers)
	m.Width = c.number("embedding_length", 1, MaxWidth)
	m.FeedForward = c.number("feed_forward_length", 1, MaxWidth)
	m.Heads = c.number("attention.head_count", 1, 1<<14)
	m.KVHeads = c.number("attention.head_count_kv", 1, 1<<14)
	m.HeadSize = c.headSize(m)
	if c.err == nil && (m.Heads%m.KVHeads != 0 || m.Heads*m.HeadSize > MaxWidth) {
		c.fail(corrupt(c.arch+".attention.head_count", "does not fit the key-value heads"))
	}
	if rope := c.number("rope.dimension_count", 0, m.HeadSize); c.err == nil && rope%2 != 0 {
		c.fail(corrupt(c.arch+".rope.dimension_count", "must be even"))
	}
	if pooling := c.number("pooling_type", 0, math.MaxInt32); pooling > 0 {
		m.Pooled = true
		if m.Architecture != "qwen3" || pooling != poolLast {
			c.fail(&schemas.Error{Kind: schemas.KindUnsupported, Field: c.arch + ".pooling_type", Message: "embeddings are served from qwen3 models that pool the last token; a server that has others can stand behind the worker"})
		}
	}
	c.positive("attention.layer_norm_rms_epsilon", 1e-6)
	c.positive("rope.freq_base", 1e4)
	c.positive("rope.scaling.factor", 1)
	c.positive("rope.freq_scale", 1)
	switch m.Architecture {
	case "gemma2":
		c.positive("attn_logit_softcapping", 0)
		c.positive("final_logit_softcapping", 0)
		fallthrough
	case "gemma3":
		m.Window = c.number("attention.sliding_window", 1, 1<<24)
	case "mistral3":
		if _, ok := c.keys["mistral3.rope.dimension_count"]; !ok { // the only one without a fallback
			c.fail(corrupt("mistral3.rope.dimension_count", "is missing"))
		}
	}
	return m
}

// headSize is the size of a head, of keys and of values alike.
func (c *checker) headSize(m *Model) int {
	k, v := c.number("attention.key_length", 0, 1<<14), c.number("attention.value_length", 0, 1<<14)
	if c.err != nil {
		return 0
	}
	if k == 0 && v == 0 {
		if m.Architecture == "gemma2" || m.Architecture == "gemma3" || m.Width%m.Heads != 0 {
			c.fail(corrupt(c.arch+".attention.key_length", "is missing"))
			return 0
		}
		k = m.Width / m.Heads
		v = k
	}
	if k == 0 || k != v && v != 0 || k%2 != 0 {
		c.fail(corrupt(c.arch+".attention.key_length", "must be even and equal to value_length"))
	}
	return k
}

// vocabulary reads the tokens and makes sure that the tokenizer can live with them.
func (c *checker) vocabulary(m *Model) {
	m.Tokenizer = value(c, "tokenizer.ggml.model", "")
	m.Tokens = value(c, "tokenizer.ggml.tokens", []string(nil))
	m.TokenTypes = value(c, "tokenizer.ggml.token_type", []int32(nil))
	m.AddBOS = value(c, "tokenizer.ggml.add_bos_token", true)
	m.AddEOS = value(c, "tokenizer.ggml.add_eos_token", false)
	m.ChatTemplate = value(c, "tokenizer.chat_template", "")
	if c.err != nil {
		return
	}
	n := len(m.Tokens)
	switch {
	case n < leastVocab || n > MaxVocab:
		c.fail(corrupt("tokenizer.ggml.tokens", fmt.Sprintf("has %d tokens, must have %d to %d", n, leastVocab, MaxVocab)))
	case len(m.TokenTypes) != n:
		c.fail(corrupt("tokenizer.ggml.token_type", "must have one entry for every token"))
	}
	if !slices.Contains(architectures[m.Architecture].tokenizers, m.Tokenizer) {
		c.fail(&schemas.Error{Kind: schemas.KindUnsupported, Field: "tokenizer.ggml.model", Message: fmt.Sprintf("tokenizer %q is not served for this architecture", clip(m.Tokenizer))})
	}
	switch scores := value(c, "tokenizer.ggml.scores", []float32(nil)); m.Tokenizer {
	case "llama":
		if len(scores) != n {
			c.fail(corrupt("tokenizer.ggml.scores", "must have one entry for every token"))
		}
	case "gpt2":
		value(c, "tokenizer.ggml.merges", []string(nil))
	}
	m.BOS, m.EOS = c.token("bos_token_id", n), c.token("eos_token_id", n)
	for _, id := range value(c, "tokenizer.ggml.eos_token_ids", []int32(nil)) {
		if id < 0 || int(id) >= n {
			c.fail(corrupt("tokenizer.ggml.eos_token_ids", "names an unknown token"))
		}
	}
	c.specials(m)
}

// token is the number of a named token, -1 if there is none.
func (c *checker) token(name string, vocab int) int32 {
	name = "tokenizer.ggml." + name
	if _, ok := c.keys[name]; !ok {
		return -1
	}
	id := value[uint32](c, name, 0)
	if c.err == nil && int64(id) >= int64(vocab) {
		c.fail(corrupt(name, "names an unknown token"))
	}
	return int32(id)
}

// specials looks at the tokens that are cut out of a text before anything else: the tokenizer searches for each of them,
// and an empty one would be found for ever.
func (c *checker) specials(m *Model) {
	n := 0
	for i, t := range m.TokenTypes {
		if c.err != nil || t != TokenControl && t != TokenUser {
			continue
		}
		if m.Tokens[i] == "" {
			c.fail(corrupt("tokenizer.ggml.tokens", fmt.Sprintf("token %d is a control token without text", i)))
		}
		if n++; n > maxSpecials {
			c.fail(&schemas.Error{Kind: schemas.KindTooLarge, Field: "tokenizer.ggml.token_type", Message: "has too many control tokens"})
		}
	}
}

// clip shortens what a file says, for a message.
func clip(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
