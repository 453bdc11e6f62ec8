package schemas

import (
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// NanoTON is an amount of money: 1 TON is 1,000,000,000 nanoTON. The whole supply of TON fits 63 bits more than once.
// In JSON it is a string of digits, because common JSON readers lose integers above 2^53.
type NanoTON int64

// TON is one whole TON.
const TON NanoTON = 1_000_000_000

// String spells the amount in TON with all the digits it needs: "1.5 TON", "0.000000001 TON".
func (n NanoTON) String() string { return n.Decimal() + " TON" }

// Decimal spells the amount in TON without the unit, trailing zeros of the fraction removed.
func (n NanoTON) Decimal() string {
	sign, abs := "", uint64(n)
	if n < 0 {
		sign, abs = "-", uint64(-(n+1))+1
	}
	whole, frac := abs/uint64(TON), abs%uint64(TON)
	s := sign + strconv.FormatUint(whole, 10)
	if frac == 0 {
		return s
	}
	digits := strconv.FormatUint(uint64(TON)+frac, 10)[1:]
	return s + "." + strings.TrimRight(digits, "0")
}

// MarshalText spells the amount as an integer of nanoTON.
func (n NanoTON) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(n), 10), nil }

// UnmarshalText reads an integer of nanoTON in its shortest form.
func (n *NanoTON) UnmarshalText(b []byte) error {
	v, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || strconv.FormatInt(v, 10) != string(b) {
		return invalid("amount", "must be a whole number of nanoTON")
	}
	*n = NanoTON(v)
	return nil
}

// ParseTON reads a decimal amount of TON as people type it: "3", "0.25", "1.5 TON". Digits below one nanoTON are
// refused rather than rounded.
func ParseTON(s string) (NanoTON, error) {
	s = strings.TrimSuffix(strings.TrimSpace(s), " TON")
	whole, frac, dotted := strings.Cut(s, ".")
	if whole == "" || len(frac) > 9 || dotted && frac == "" || !digits(whole) || !digits(frac) {
		return 0, invalid("amount", "must be a decimal number of TON with at most 9 digits after the point")
	}
	v, err := strconv.ParseUint(whole+frac+strings.Repeat("0", 9-len(frac)), 10, 63)
	if err != nil {
		return 0, invalid("amount", "is larger than any amount of TON")
	}
	return NanoTON(v), nil
}

// digits reports whether s has only ASCII digits; the empty string has.
func digits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// BasisPoints is a share or a multiplier: 10,000 is the whole, or 1×.
type BasisPoints uint32

// One is the multiplier 1×.
const One BasisPoints = 10_000

// MaxMultiplier bounds class multipliers and asks: 100×.
const MaxMultiplier = 100 * One

// Usage counts the tokens of one job by price class. The four are disjoint: a cached prompt token is not counted as
// prompt, a reasoning token is not counted as completion.
type Usage struct {
	// Prompt is the number of prompt tokens that were computed.
	Prompt uint64 `json:"prompt" cbor:"1,keyasint"`
	// Cached is the number of prompt tokens that came from the prefix cache.
	Cached uint64 `json:"cached" cbor:"2,keyasint"`
	// Completion is the number of generated tokens that the tenant sees.
	Completion uint64 `json:"completion" cbor:"3,keyasint"`
	// Reasoning is the number of generated tokens that the engine keeps to itself.
	Reasoning uint64 `json:"reasoning" cbor:"4,keyasint"`
}

// MaxUsage bounds each count of a Usage, far above any context and low enough that no product below can overflow
// 128 bits.
const MaxUsage = 1 << 40

// Total is the number of all tokens.
func (u Usage) Total() uint64 { return u.Prompt + u.Cached + u.Completion + u.Reasoning }

// Add sums two usages.
func (u Usage) Add(v Usage) Usage {
	return Usage{u.Prompt + v.Prompt, u.Cached + v.Cached, u.Completion + v.Completion, u.Reasoning + v.Reasoning}
}

// Price says what a million tokens of each class cost at multiplier 1×, in nanoTON.
type Price struct {
	Prompt     NanoTON `json:"prompt"`
	Cached     NanoTON `json:"cached"`
	Completion NanoTON `json:"completion"`
	Reasoning  NanoTON `json:"reasoning"`
}

// MaxPrice bounds a price per million tokens: 1,000,000 TON.
const MaxPrice = 1_000_000 * TON

// check refuses prices outside [0, MaxPrice].
func (p Price) check() error {
	for _, f := range []struct {
		name string
		v    NanoTON
	}{{"prompt", p.Prompt}, {"cached", p.Cached}, {"completion", p.Completion}, {"reasoning", p.Reasoning}} {
		if f.v < 0 || f.v > MaxPrice {
			return invalid("price."+f.name, "must lie between 0 and 1,000,000 TON per million tokens")
		}
	}
	return nil
}

// Charge is a job's cost, split as it is posted: Total = Worker + Fee.
type Charge struct {
	// Total is what the tenant pays.
	Total NanoTON `json:"total"`
	// Worker is what the worker's owner earns.
	Worker NanoTON `json:"worker"`
	// Fee is what the network keeps.
	Fee NanoTON `json:"fee"`
	// PromptCost and CompletionCost split Total for display: prompt and cached tokens, completion and reasoning tokens.
	PromptCost     NanoTON `json:"prompt_cost"`
	CompletionCost NanoTON `json:"completion_cost"`
}

// PriceOf prices a usage. It is the only place where tokens become money.
//
// The rule: with tokens n, price p per million tokens, multiplier m and the sum taken over the four token classes,
//
//	Total = ceil( Σ n·p·m / (10^6 · 10^4) )   computed exactly in 128 bits, rounded up once per job
//	Fee   = floor( Total · fee / 10^4 )
//	Worker = Total − Fee
//	PromptCost = min(Total, ceil over the prompt and cached tokens alone), CompletionCost = Total − PromptCost
//
// Rounding up once means that no work is free and that a job never costs a full nanoTON more than the exact amount.
// It fails with KindInvalid when a count or multiplier is out of its named bound, or the total exceeds 63 bits.
func PriceOf(u Usage, p Price, multiplier, fee BasisPoints) (Charge, error) {
	if u.Prompt > MaxUsage || u.Cached > MaxUsage || u.Completion > MaxUsage || u.Reasoning > MaxUsage {
		return Charge{}, invalid("usage", "has a count above 2^40 tokens")
	}
	if multiplier > MaxMultiplier {
		return Charge{}, invalid("multiplier", "is above 100x")
	}
	if fee > One {
		return Charge{}, invalid("fee", "is above 10,000 basis points")
	}
	if err := p.check(); err != nil {
		return Charge{}, err
	}
	var prompt, all u128
	prompt = prompt.addMul(u.Prompt, uint64(p.Prompt), uint64(multiplier))
	prompt = prompt.addMul(u.Cached, uint64(p.Cached), uint64(multiplier))
	all = prompt.addMul(u.Completion, uint64(p.Completion), uint64(multiplier))
	all = all.addMul(u.Reasoning, uint64(p.Reasoning), uint64(multiplier))
	total, ok := all.ceilDiv(pricePrecision)
	if !ok || total > math.MaxInt64 {
		return Charge{}, invalid("usage", "costs more than any amount of TON")
	}
	promptCost, _ := prompt.ceilDiv(pricePrecision)
	hi, lo := bits.Mul64(total, uint64(fee))
	feePart, _ := bits.Div64(hi, lo, uint64(One))
	return Charge{
		Total:          NanoTON(total),
		Worker:         NanoTON(total - feePart),
		Fee:            NanoTON(feePart),
		PromptCost:     NanoTON(min(promptCost, total)),
		CompletionCost: NanoTON(total - min(promptCost, total)),
	}, nil
}

// pricePrecision is the denominator of the exact cost: a million tokens times the basis of multipliers.
const pricePrecision = 1_000_000 * uint64(One)

// u128 is an unsigned 128-bit sum of products. With the bounds of PriceOf the largest sum is
// 4 · 2^40 · 10^15 · 10^6 < 2^112, so it cannot overflow.
type u128 struct{ hi, lo uint64 }

// addMul adds n·p·m. n·p may need 90 bits, which is why m multiplies both halves.
func (s u128) addMul(n, p, m uint64) u128 {
	hi, lo := bits.Mul64(n, p)
	carry, low := bits.Mul64(lo, m)
	high := hi*m + carry
	var c uint64
	s.lo, c = bits.Add64(s.lo, low, 0)
	s.hi, _ = bits.Add64(s.hi, high, c)
	return s
}

// ceilDiv divides and rounds up; ok is false when the quotient needs more than 64 bits.
func (s u128) ceilDiv(d uint64) (q uint64, ok bool) {
	if s.hi >= d {
		return 0, false
	}
	q, r := bits.Div64(s.hi, s.lo, d)
	if r == 0 {
		return q, true
	}
	return q + 1, q != math.MaxUint64
}
