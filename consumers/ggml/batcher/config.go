package batcher

import (
	"errors"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/schemas"
)

// ErrFull is what Model.Step returns when the key-value memory has no free cells. Nothing was computed.
var ErrFull = errors.New("key-value memory is full")

// Batch is the input of one forward pass. Token i stands at position Pos[i] of sequence Seq[i]. Out lists, in ascending
// order, the indexes of the tokens whose logits are wanted. The tokens of one sequence are in ascending positions.
type Batch struct {
	Tokens, Pos []int32
	Seq         []int
	Out         []int32
}

// Model computes. The batcher calls it from one goroutine, with sequence numbers 0 to Slots+Keep-1.
type Model interface {
	// Step runs one forward pass and returns the logits of the tokens in b.Out, one row after the other. The slice is
	// valid until the next call. ErrFull means that there was no memory; after any other error the batcher calls Reset.
	Step(b Batch) ([]float32, error)
	// Share makes dst begin with the first n tokens of src, without copying them. false: this model cannot.
	Share(src, dst, n int) bool
	// Forget drops all tokens of a sequence. Their memory is free, but still holds what was computed.
	Forget(seq int)
	// Wipe overwrites free memory: at least the n free cells that come first.
	Wipe(n int) error
	// Reset makes the model usable again after a failed step. All sequences are gone and all memory is wiped.
	Reset() error
}

// Config of a Batcher. Model, Vocab, Context, Cells and Piece are required.
type Config struct {
	Model Model
	// Vocab is the number of tokens the model knows: the length of a row of logits.
	Vocab int
	// Vector, if not 0, says that the model gives no logits but one vector of this length for a prompt (an embedding). The
	// prompts go through the passes one after the other, and requests end with Result.Vector.
	Vector int
	// Context is the most tokens of one sequence, prompt and answer together.
	Context int
	// Cells is the key-value memory in tokens, shared by all sequences.
	Cells int
	// Slots is the most sequences that run at a time; 0 means 16.
	Slots int
	// StepTokens is the most tokens of one pass; 0 means 256. It is at least Slots.
	StepTokens int
	// Queue is the most requests that wait for a slot; beyond it Submit answers KindBusy. 0 means 4 per slot.
	Queue int
	// Keep is the most finished sequences whose memory is kept so that later prompts of the tenant can share it;
	// 0 means Slots, -1 none. KeepFor is how long they stay unused, 0 means a minute.
	Keep    int
	KeepFor time.Duration
	// WipeEvery is how long memory may hold what a departed tenant left in it; 0 means a second.
	WipeEvery time.Duration
	// Piece is the text of a token, possibly a part of a rune.
	Piece func(token int32) string
	// End reports whether a token ends an answer; nil means that none does.
	End func(token int32) bool
	// Log gets failures of the model, never text; nil discards.
	Log *slog.Logger
}

// Limits of a request, whatever the model is.
const (
	// MaxStops and MaxStopBytes bound the stop strings of a request and the length of each.
	MaxStops     = 16
	MaxStopBytes = 256
	// MaxTopLogprobs is the most alternatives reported for a token.
	MaxTopLogprobs = 20
	// MaxBias is the most entries of a logit bias.
	MaxBias = 1024
	// MaxSequences is the most sequences of one call of Submit.
	MaxSequences = 2048
	// minShared is the shortest common beginning worth sharing, in tokens.
	minShared = 16
	// maxTenants bounds the memory of who was served how much.
	maxTenants = 4096
)

// withDefaults fills in what was left zero and checks the rest.
func (c Config) withDefaults() (Config, error) {
	if c.Slots == 0 {
		c.Slots = 16
	}
	if c.StepTokens == 0 {
		c.StepTokens = 256
	}
	if c.Queue == 0 {
		c.Queue = 4 * c.Slots
	}
	switch c.Keep {
	case 0:
		c.Keep = c.Slots
	case -1:
		c.Keep = 0
	}
	if c.KeepFor == 0 {
		c.KeepFor = time.Minute
	}
	if c.WipeEvery == 0 {
		c.WipeEvery = time.Second
	}
	if c.End == nil {
		c.End = func(int32) bool { return false }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.StepTokens = max(c.StepTokens, c.Slots)
	if c.Model == nil || c.Piece == nil || c.Vocab <= 0 || c.Context <= 0 || c.Cells <= 0 || c.Slots < 0 || c.Queue < 0 || c.Keep < 0 {
		return c, &schemas.Error{Kind: schemas.KindInvalid, Message: "batcher needs a model, a vocabulary, a context and key-value memory"}
	}
	return c, nil
}

// row is the length of what the model gives for one token.
func (c *Config) row() int {
	if c.Vector > 0 {
		return c.Vector
	}
	return c.Vocab
}

// Request is one sequence to generate, or N with the same prompt.
type Request struct {
	// Tenant is who pays: fairness is among tenants and prefixes are shared within one. With an empty tenant nothing is
	// shared.
	Tenant string
	// Priority: higher goes first.
	Priority int
	// Deadline, if not zero, is when the request fails with KindExpired.
	Deadline time.Time
	// Prompt has at least one token.
	Prompt []int32
	// N is how many answers are generated; 0 means 1. Their seeds are Sampling.Seed, the next number, and so on. The first
	// one computes the prompt, the others begin when it is in memory and share it.
	N int
	// MaxTokens is the most tokens to generate, at least 1; 0 for a model that gives vectors.
	MaxTokens int
	// Sampling says how tokens are chosen.
	Sampling Sampling
	// Stop are strings that end the answer; they are not part of it.
	Stop []string
	// IgnoreEnd goes on after a token that ends an answer.
	IgnoreEnd bool
	// Logprobs asks for the log probability of each token and of the TopLogprobs most likely ones.
	Logprobs    bool
	TopLogprobs int
}

// check refuses what can never run.
func (c *Config) check(r *Request) error {
	switch {
	case len(r.Prompt) == 0:
		return schemas.FieldError("prompt", "has no tokens")
	case r.N < 0:
		return schemas.FieldError("n", "must be at least 1")
	case c.Vector == 0 && r.MaxTokens < 1:
		return schemas.FieldError("max_tokens", "must be at least 1")
	case c.Vector > 0 && (r.MaxTokens != 0 || r.N > 1):
		return schemas.FieldError("max_tokens", "this model gives one vector for a prompt")
	case len(r.Prompt)+r.MaxTokens > min(c.Context, c.Cells):
		return &schemas.Error{Kind: schemas.KindTooLarge, Field: "prompt", Message: "prompt and answer do not fit the context"}
	case len(r.Stop) > MaxStops:
		return &schemas.Error{Kind: schemas.KindTooLarge, Field: "stop", Message: "too many stop strings"}
	}
	for _, s := range r.Stop {
		if s == "" || len(s) > MaxStopBytes || !utf8.ValidString(s) {
			return schemas.FieldError("stop", "a stop string must have 1 to 256 bytes of UTF-8")
		}
	}
	for _, t := range r.Prompt {
		if t < 0 || int(t) >= c.Vocab {
			return schemas.FieldError("prompt", "has a token that the model does not know")
		}
	}
	if r.TopLogprobs < 0 || r.TopLogprobs > MaxTopLogprobs {
		return schemas.FieldError("top_logprobs", "must be 0 to 20")
	}
	return r.Sampling.check(c.Vocab)
}
