package batcher

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/cocoon-network/cocoon/schemas"
)

// Sampling says how the next token is chosen. The zero value is greedy: always the most likely one.
type Sampling struct {
	// Temperature from 0 (greedy) to 2.
	Temperature float64
	// TopP keeps the most likely tokens that together have this probability: above 0 to 1; 0 means 1, all of them.
	TopP float64
	// TopK keeps the k most likely tokens; 0 means all.
	TopK int
	// MinP drops tokens less likely than this share of the most likely one: 0 to 1.
	MinP float64
	// Presence and Frequency are OpenAI's penalties on tokens generated before, -2 to 2.
	Presence, Frequency float64
	// Repetition divides (or, below zero, multiplies) the logits of tokens in prompt and answer: above 0 to 2; 0 means 1.
	Repetition float64
	// Bias is added to the logits of tokens, -100 to 100.
	Bias map[int32]float64
	// Seed of the random numbers; the same seed, prompt and batch give the same answer.
	Seed uint64
}

// check refuses values out of range, NaN among them, with the name of the OpenAI field.
func (s *Sampling) check(vocab int) error {
	for _, f := range []struct {
		name         string
		v, low, high float64
	}{
		{"temperature", s.Temperature, 0, 2},
		{"top_p", s.TopP, 0, 1},
		{"min_p", s.MinP, 0, 1},
		{"presence_penalty", s.Presence, -2, 2},
		{"frequency_penalty", s.Frequency, -2, 2},
		{"repetition_penalty", s.Repetition, 0, 2},
	} {
		if !(f.v >= f.low && f.v <= f.high) { // written so that NaN fails
			return schemas.FieldError(f.name, "is out of range")
		}
	}
	if s.TopK < 0 {
		return schemas.FieldError("top_k", "must not be negative")
	}
	if len(s.Bias) > MaxBias {
		return &schemas.Error{Kind: schemas.KindTooLarge, Field: "logit_bias", Message: "has too many entries"}
	}
	for t, v := range s.Bias {
		if t < 0 || int(t) >= vocab {
			return schemas.FieldError("logit_bias", "names a token that the model does not know")
		}
		if !(v >= -100 && v <= 100) {
			return schemas.FieldError("logit_bias", "must be -100 to 100")
		}
	}
	return nil
}

// Logprob is a token and the natural logarithm of its probability, before temperature, penalties and bias.
type Logprob struct {
	Token   int32
	Logprob float64
}

// errNotFinite: the model computed something that is no probability.
var errNotFinite = errors.New("the model computed logits that are not finite")

// finite is false for what no honest computation ends in.
func finite(v float32) bool { return v >= -math.MaxFloat32 && v <= math.MaxFloat32 }

// sampler chooses the tokens of one sequence. It keeps its own random numbers, so that a sequence's choices do not depend
// on its neighbours.
type sampler struct {
	Sampling
	rng  *rand.Rand
	seen map[int32]int // generated tokens and how often; only when a penalty needs it
	past map[int32]struct{}
}

// newSampler prepares the penalties for a prompt.
func newSampler(s Sampling, prompt []int32) *sampler {
	const stream = 0x636f636f6f6e // any constant: the seed alone selects the sequence
	p := &sampler{Sampling: s, rng: rand.New(rand.NewPCG(s.Seed, stream))}
	if s.Presence != 0 || s.Frequency != 0 {
		p.seen = map[int32]int{}
	}
	if s.Repetition != 0 && s.Repetition != 1 {
		p.past = make(map[int32]struct{}, len(prompt))
		for _, t := range prompt {
			p.past[t] = struct{}{}
		}
	}
	return p
}

// next chooses a token. It changes logits.
func (s *sampler) next(logits []float32) (int32, error) {
	s.adjust(logits)
	best := 0
	for i, v := range logits {
		if !(v <= math.MaxFloat32) { // NaN and +Inf; -Inf is an honest zero
			return 0, errNotFinite
		}
		if v > logits[best] {
			best = i
		}
	}
	if math.IsInf(float64(logits[best]), -1) {
		return 0, errNotFinite
	}
	token := int32(best)
	if s.Temperature > 0 {
		token = s.draw(logits, logits[best])
	}
	if s.seen != nil {
		s.seen[token]++
	}
	if s.past != nil {
		s.past[token] = struct{}{}
	}
	return token, nil
}

// adjust applies bias and penalties.
func (s *sampler) adjust(logits []float32) {
	for t, v := range s.Bias {
		logits[t] += float32(v)
	}
	for t, n := range s.seen {
		logits[t] -= float32(s.Presence + s.Frequency*float64(n))
	}
	for t := range s.past {
		if logits[t] > 0 {
			logits[t] /= float32(s.Repetition)
		} else {
			logits[t] *= float32(s.Repetition)
		}
	}
}

// candidate is a token and its weight: its probability times a common factor.
type candidate struct {
	token  int32
	weight float64
}

// draw picks at random among the tokens that top-k, min-p and top-p leave. Tokens e^-30 times less likely than the best
// are left out from the start: together they could not be drawn in a lifetime, and sorting them is most of the work.
func (s *sampler) draw(logits []float32, best float32) int32 {
	const negligible = 30
	floor := float64(best) - negligible*s.Temperature
	var c []candidate
	for i, v := range logits {
		if float64(v) >= floor {
			c = append(c, candidate{int32(i), math.Exp((float64(v) - float64(best)) / s.Temperature)})
		}
	}
	slices.SortFunc(c, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.token, b.token))
	})
	if s.TopK > 0 && len(c) > s.TopK {
		c = c[:s.TopK]
	}
	sum := 0.0
	for i := range c {
		if c[i].weight < s.MinP*c[0].weight {
			c = c[:i]
			break
		}
		sum += c[i].weight
	}
	if s.TopP > 0 && s.TopP < 1 {
		c, sum = nucleus(c, s.TopP*sum)
	}
	x := s.rng.Float64() * sum
	for _, t := range c {
		if x -= t.weight; x < 0 {
			return t.token
		}
	}
	return c[0].token // rounding ate the rest
}

// nucleus cuts c after the first tokens that together weigh mass.
func nucleus(c []candidate, mass float64) ([]candidate, float64) {
	sum := 0.0
	for i := range c {
		sum += c[i].weight
		if sum >= mass {
			return c[:i+1], sum
		}
	}
	return c, sum
}

// logprobs gives the log probability of every top token of a row, most likely first, and a function for any other.
func logprobs(logits []float32, top int) ([]Logprob, func(int32) float64) {
	best := slices.Max(logits)
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - float64(best))
	}
	norm := float64(best) + math.Log(sum)
	list := make([]Logprob, 0, top+1)
	for i, v := range logits {
		if len(list) == top && (top == 0 || float64(v)-norm <= list[top-1].Logprob) {
			continue
		}
		p := Logprob{int32(i), float64(v) - norm}
		at, _ := slices.BinarySearchFunc(list, p, func(a, b Logprob) int {
			return cmp.Or(cmp.Compare(b.Logprob, a.Logprob), cmp.Compare(a.Token, b.Token))
		})
		list = slices.Insert(list, at, p)
		list = list[:min(len(list), top)]
	}
	row := slices.Clone(logits)
	return list, func(t int32) float64 { return float64(row[t]) - norm }
}
