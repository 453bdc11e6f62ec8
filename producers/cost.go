package producers

import (
	"math/bits"

	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
)

// Assumptions of an estimate.
const (
	// templateTokens is what a chat template adds to a prompt at most.
	templateTokens = 512
	// expectedBytes and fewBytes are how many bytes of a request's JSON make a prompt token, ordinarily and at best.
	expectedBytes = 4
	fewBytes      = 6
	// smallestBucket is the smallest number of tokens that a ceiling tells apart.
	smallestBucket = 64
)

// Cost is what one or many jobs may cost.
type Cost struct {
	// Low takes one token of answer and 6 bytes of request a token; Expected half of the answer that the request allows
	// and 4 bytes; Worst all of it and 1 byte: no tokenizer makes more.
	Low      schemas.NanoTON `json:"low"`
	Expected schemas.NanoTON `json:"expected"`
	Worst    schemas.NanoTON `json:"worst"`
	// Ceiling is what is reserved: Worst with the lengths rounded up to powers of two, because the ceiling is public
	// and must not tell them.
	Ceiling schemas.NanoTON `json:"ceiling"`
	// Tokens is the number of tokens behind Worst.
	Tokens int64 `json:"tokens"`
	// Unbounded says that the request sets no limit on its answer: Worst takes the model's whole context.
	Unbounded bool `json:"unbounded"`
}

// Estimate prices one request. It fails with KindPrice when the multiplier is below that of the class.
func Estimate(call *openai.Call, m *schemas.Model, multiplier, fee schemas.BasisPoints) (Cost, error) {
	context := int64(m.Context)
	prompt := min(call.PromptBytes+templateTokens, context)
	if call.BeyondText {
		prompt = context
	}
	answer := min(call.MaxTokens, context)
	if call.MaxTokens == 0 {
		answer = context
	}
	if call.URL == openai.PathEmbeddings {
		answer = 0
	}
	c := Cost{Tokens: prompt + answer*call.Choices, Unbounded: call.MaxTokens == 0 && answer > 0}
	for _, part := range []struct {
		to             *schemas.NanoTON
		prompt, answer int64
	}{
		{&c.Low, call.PromptBytes / fewBytes, min(answer, 1)},
		{&c.Expected, min(call.PromptBytes/expectedBytes, context), (answer + 1) / 2},
		{&c.Worst, prompt, answer},
		{&c.Ceiling, min(bucket(prompt), context), min(bucket(answer), context)},
	} {
		charge, err := schemas.PriceOf(dearest(part.prompt, part.answer*call.Choices, m.Price), m.Price, multiplier, fee)
		if err != nil {
			return Cost{}, err
		}
		*part.to = charge.Total
	}
	c.Ceiling = max(c.Ceiling, 1) // a budget is positive also where everything is free
	return c, nil
}

// Add sums two costs.
func (c Cost) Add(d Cost) Cost {
	return Cost{
		Low: c.Low + d.Low, Expected: c.Expected + d.Expected, Worst: c.Worst + d.Worst, Ceiling: c.Ceiling + d.Ceiling,
		Tokens: c.Tokens + d.Tokens, Unbounded: c.Unbounded || d.Unbounded,
	}
}

// dearest counts tokens in the classes that cost most: whether a prompt token is cached, or an answer's token is
// reasoning, is not known before.
func dearest(prompt, answer int64, p schemas.Price) (u schemas.Usage) {
	if p.Cached > p.Prompt {
		u.Cached = uint64(prompt)
	} else {
		u.Prompt = uint64(prompt)
	}
	if p.Reasoning > p.Completion {
		u.Reasoning = uint64(answer)
	} else {
		u.Completion = uint64(answer)
	}
	return u
}

// bucket rounds up to a power of two, 0 stays 0.
func bucket(n int64) int64 {
	if n <= 0 {
		return 0
	}
	return max(smallestBucket, int64(1)<<bits.Len64(uint64(n-1)))
}
