package schemas_test

import (
	"errors"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/cocoon-network/cocoon/schemas"
)

func TestNanoTON(t *testing.T) {
	t.Parallel()
	for n, want := range map[schemas.NanoTON]string{
		0: "0", 1: "0.000000001", 1_500_000_000: "1.5", -1: "-0.000000001", -2_000_000_000: "-2", 1<<63 - 1: "9223372036.854775807", -1 << 63: "-9223372036.854775808",
	} {
		if got := n.Decimal(); got != want {
			t.Errorf("%d is %s, want %s", int64(n), got, want)
		}
	}
	for text, want := range map[string]schemas.NanoTON{"3": 3 * schemas.TON, "0.25": schemas.TON / 4, " 1.5 TON ": 1_500_000_000, "0.000000001": 1} {
		if got, err := schemas.ParseTON(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", ".5", "5.", "-1", "1e3", "0.0000000001", "1,5", "99999999999", "1.5 ton"} {
		if _, err := schemas.ParseTON(text); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"", "01", "+1", "1.0", "9223372036854775808", " 1"} {
		if err := new(schemas.NanoTON).UnmarshalText([]byte(text)); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestPriceOf compares with exact arithmetic.
func TestPriceOf(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.Uint64Range(0, 1<<24)
		price := rapid.Int64Range(0, int64(schemas.MaxPrice))
		u := schemas.Usage{Prompt: count.Draw(t, "prompt"), Cached: count.Draw(t, "cached"), Completion: count.Draw(t, "completion"), Reasoning: count.Draw(t, "reasoning")}
		p := schemas.Price{
			Prompt: schemas.NanoTON(price.Draw(t, "p")), Cached: schemas.NanoTON(price.Draw(t, "c")),
			Completion: schemas.NanoTON(price.Draw(t, "o")), Reasoning: schemas.NanoTON(price.Draw(t, "r")),
		}
		m := schemas.BasisPoints(rapid.Uint32Range(1, uint32(schemas.MaxMultiplier)).Draw(t, "multiplier"))
		fee := schemas.BasisPoints(rapid.Uint32Range(0, uint32(schemas.One)).Draw(t, "fee"))
		exact := new(big.Int)
		for _, part := range [][2]uint64{{u.Prompt, uint64(p.Prompt)}, {u.Cached, uint64(p.Cached)}, {u.Completion, uint64(p.Completion)}, {u.Reasoning, uint64(p.Reasoning)}} {
			x := new(big.Int).Mul(new(big.Int).SetUint64(part[0]), new(big.Int).SetUint64(part[1]))
			exact.Add(exact, x)
		}
		exact.Mul(exact, big.NewInt(int64(m)))
		want, rest := new(big.Int).QuoRem(exact, big.NewInt(1_000_000*int64(schemas.One)), new(big.Int))
		if rest.Sign() > 0 {
			want.Add(want, big.NewInt(1))
		}
		got, err := schemas.PriceOf(u, p, m, fee)
		if !want.IsInt64() {
			if !errors.Is(err, schemas.KindInvalid) {
				t.Fatalf("a cost of %s gave %v, %v", want, got, err)
			}
			return
		}
		if err != nil || int64(got.Total) != want.Int64() {
			t.Fatalf("total %d, %v, want %s", got.Total, err, want)
		}
		if got.Worker+got.Fee != got.Total || got.PromptCost+got.CompletionCost != got.Total || got.Worker < 0 || got.Fee < 0 || got.PromptCost < 0 || got.CompletionCost < 0 {
			t.Fatalf("parts of %+v do not add up", got)
		}
		if f := new(big.Int).Quo(new(big.Int).Mul(want, big.NewInt(int64(fee))), big.NewInt(int64(schemas.One))); int64(got.Fee) != f.Int64() {
			t.Fatalf("fee %d, want %s", got.Fee, f)
		}
	})
}

func TestPriceOfRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		u      schemas.Usage
		p      schemas.Price
		m, fee schemas.BasisPoints
	}{
		"count":      {u: schemas.Usage{Cached: schemas.MaxUsage + 1}, m: 1},
		"multiplier": {m: schemas.MaxMultiplier + 1}, "fee": {m: 1, fee: schemas.One + 1},
		"price": {p: schemas.Price{Prompt: -1}, m: 1}, "high price": {p: schemas.Price{Reasoning: schemas.MaxPrice + 1}, m: 1},
		"total": {u: schemas.Usage{Prompt: schemas.MaxUsage}, p: schemas.Price{Prompt: schemas.MaxPrice}, m: schemas.MaxMultiplier},
	} {
		if _, err := schemas.PriceOf(c.u, c.p, c.m, c.fee); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
