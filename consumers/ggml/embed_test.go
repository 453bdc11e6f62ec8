package ggml

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/enginetest"
	"github.com/cocoon-network/cocoon/consumers/ggml/gguf"
	"github.com/cocoon-network/cocoon/schemas"
)

// embed asks for vectors.
func embed(t *testing.T, e consumers.Engine, b enginetest.Body) (*consumers.Done, [][]float32) {
	t.Helper()
	s, err := e.Submit(t.Context(), &consumers.Request{URL: consumers.PathEmbeddings, Tenant: "t", Body: b.JSON(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ev, err := s.Next()
	if err != nil {
		t.Fatal(err)
	}
	var o struct {
		Object, Model string
		Data          []struct {
			Object    string
			Index     int
			Embedding json.RawMessage
		}
		Usage struct {
			Prompt uint64 `json:"prompt_tokens"`
			Total  uint64 `json:"total_tokens"`
		}
	}
	if err := json.Unmarshal(ev.Done.Body, &o); err != nil {
		t.Fatal(err)
	}
	if u := ev.Done.Usage; o.Object != "list" || o.Model != "m" || o.Usage.Prompt != u.Prompt+u.Cached || o.Usage.Total != o.Usage.Prompt || !ev.Done.UsageExact {
		t.Errorf("%s, %+v", ev.Done.Body[:min(200, len(ev.Done.Body))], ev.Done)
	}
	list := make([][]float32, len(o.Data))
	for i, d := range o.Data {
		if d.Object != "embedding" || d.Index != i {
			t.Errorf("vector %d: %+v", i, d)
		}
		var text string
		if json.Unmarshal(d.Embedding, &text) != nil {
			if err := json.Unmarshal(d.Embedding, &list[i]); err != nil {
				t.Fatal(err)
			}
			continue
		}
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		for ; len(b) > 0; b = b[4:] {
			list[i] = append(list[i], math.Float32frombits(binary.LittleEndian.Uint32(b)))
		}
	}
	return ev.Done, list
}

// near compares vectors up to rounding, which depends on how a prompt is cut into passes.
func near(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Abs(float64(x-y)) < 1e-3 })
}

// TestEmbeddings: a model that pools gives vectors of length one, the same ones alone and beside others, from text and from
// tokens, as numbers and in base64, computed or with a shared beginning.
func TestEmbeddings(t *testing.T) {
	t.Parallel()
	m := randomModel(t, gguf.Shape{Architecture: "qwen3", Pooled: true, Seed: 5})
	e := openModel(t, m, Options{Slots: 4, Context: 256, StepTokens: 32})
	if i, err := e.Info(t.Context()); err != nil || !slices.Equal(i.Endpoints, []string{consumers.PathEmbeddings}) {
		t.Errorf("%+v %v", i, err)
	}
	long := strings.Repeat("many words ", 15)
	texts := []string{"w300 one", "two", long + "a", long + "b"}
	var alone [][]float32
	tokens := uint64(0)
	for _, text := range texts {
		d, list := embed(t, e, enginetest.Body{"model": "m", "input": text})
		n, exact, err := e.Count(t.Context(), &consumers.Request{URL: consumers.PathEmbeddings, Body: enginetest.Body{"input": text}.JSON(t)})
		if u := d.Usage.Prompt + d.Usage.Cached; err != nil || !exact || uint64(n) != u || d.Usage.Completion != 0 {
			t.Errorf("counted %d, used %+v, %v", n, d.Usage, err)
		}
		tokens += uint64(n)
		norm := 0.0
		for _, x := range list[0] {
			norm += float64(x) * float64(x)
		}
		if len(list) != 1 || len(list[0]) != 64 || math.Abs(norm-1) > 1e-3 {
			t.Errorf("%d vectors of length %d and %v", len(list), len(list[0]), norm)
		}
		alone = append(alone, list[0])
	}
	if near(alone[0], alone[1]) || near(alone[2], alone[3]) {
		t.Error("different texts have the same vector")
	}
	for _, format := range []string{"float", "base64"} {
		d, list := embed(t, e, enginetest.Body{"model": "m", "input": texts, "encoding_format": format, "dimensions": 64, "user": "u"})
		if !slices.EqualFunc(list, alone, near) {
			t.Errorf("%s: other vectors together than alone", format)
		}
		if d.Usage.Prompt+d.Usage.Cached != tokens || d.Usage.Cached == 0 {
			t.Errorf("%+v, want %d tokens", d.Usage, tokens)
		}
	}
	ids, err := e.words.encode(texts[0])
	if err != nil {
		t.Fatal(err)
	}
	ids = e.words.closed(ids)
	if ids[len(ids)-1] != e.file.EOS {
		t.Errorf("the text is not ended: %v", ids)
	}
	for _, in := range []any{ids, [][]int32{ids}} {
		if _, list := embed(t, e, enginetest.Body{"model": "m", "input": in}); !near(list[0], alone[0]) {
			t.Errorf("tokens have another vector than their text")
		}
	}
	if err := e.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := stored(t, e); n != 0 {
		t.Errorf("%d numbers are left in memory", n)
	}
}

// TestEmbeddingRefusals: the field at fault, before any work.
func TestEmbeddingRefusals(t *testing.T) {
	t.Parallel()
	e := openModel(t, randomModel(t, gguf.Shape{Architecture: "qwen3", Pooled: true}), Options{Slots: 1, Context: 64})
	good := enginetest.Body{"model": "m", "input": "a"}
	for name, c := range map[string]struct {
		body  enginetest.Body
		kind  schemas.Kind
		field string
	}{
		"no input":       {good.With("input", nil), schemas.KindInvalid, "input"},
		"number":         {good.With("input", 5), schemas.KindInvalid, "input"},
		"empty":          {good.With("input", ""), schemas.KindInvalid, "input"},
		"empty list":     {good.With("input", []any{}), schemas.KindInvalid, "input"},
		"empty text":     {good.With("input", []any{"a", ""}), schemas.KindInvalid, "input[1]"},
		"null":           {good.With("input", []any{"a", nil}), schemas.KindInvalid, "input[1]"},
		"unknown token":  {good.With("input", []any{[]int{1}, []int{99999}}), schemas.KindInvalid, "input[1]"},
		"too long":       {good.With("input", []any{"a", strings.Repeat("x ", 65)}), schemas.KindTooLarge, "input[1]"},
		"far too long":   {good.With("input", strings.Repeat("x ", 5<<20)), schemas.KindTooLarge, "input"},
		"too many":       {good.With("input", make([]string, 2049)), schemas.KindTooLarge, "input"},
		"format":         {good.With("encoding_format", "int8"), schemas.KindInvalid, "encoding_format"},
		"dimensions":     {good.With("dimensions", 32), schemas.KindUnsupported, "dimensions"},
		"unknown member": {good.With("stream", true), schemas.KindUnsupported, "stream"},
		"control token":  {good.With("input", "a </s>"), schemas.KindInvalid, "input"},
	} {
		_, err := e.Submit(t.Context(), &consumers.Request{URL: consumers.PathEmbeddings, Body: c.body.JSON(t)})
		var x *schemas.Error
		if !errors.As(err, &x) || x.Kind != c.kind || x.Field != c.field {
			t.Errorf("%s: %v, want %v in %q", name, err, c.kind, c.field)
		}
	}
	if _, err := enginetest.TryAsk(t, e, enginetest.Chat("m", "hi")); schemas.KindOf(err) != schemas.KindUnsupported {
		t.Errorf("a chat: %v", err)
	}
	tiny := openTiny(t, Options{Slots: 1})
	if _, err := tiny.Submit(t.Context(), &consumers.Request{URL: consumers.PathEmbeddings, Body: good.JSON(t)}); schemas.KindOf(err) != schemas.KindUnsupported {
		t.Errorf("a model without vectors: %v", err)
	}
	if e.Counts()["steps"] != 0 {
		t.Error("a refused request was computed")
	}
}
