package gguf

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
)

// architecture says which tensors a model has besides those of every transformer here.
type architecture struct {
	tokenizers []string
	layer      []rule // further tensors of a layer
}

// rule is the name of a tensor, without "blk.N." and ".weight", and its shape. A vector must be F32.
type rule struct {
	name     string
	dims     func(*Model) []int
	optional bool
}

func width(m *Model) []int { return []int{m.Width} }
func head(m *Model) []int  { return []int{m.HeadSize} }

// matrix is a rule for a linear map between two sizes.
func matrix(name string, from, to func(*Model) int) rule {
	return rule{name: name, dims: func(m *Model) []int { return []int{from(m), to(m)} }}
}

// Sizes that matrices map between.
func embedding(m *Model) int { return m.Width }
func queries(m *Model) int   { return m.Heads * m.HeadSize }
func keys(m *Model) int      { return m.KVHeads * m.HeadSize }
func hidden(m *Model) int    { return m.FeedForward }

// Every model has these, outside and inside its layers.
var (
	outer = []rule{
		{name: "token_embd", dims: func(m *Model) []int { return []int{m.Width, len(m.Tokens)} }},
		{name: "output_norm", dims: width},
		{name: "output", dims: func(m *Model) []int { return []int{m.Width, len(m.Tokens)} }, optional: true},
		{name: "rope_freqs", dims: func(m *Model) []int { return []int{m.HeadSize / 2} }, optional: true},
	}
	inner = []rule{
		{name: "attn_norm", dims: width},
		matrix("attn_q", embedding, queries),
		matrix("attn_k", embedding, keys),
		matrix("attn_v", embedding, keys),
		matrix("attn_output", queries, embedding),
		{name: "ffn_norm", dims: width},
		matrix("ffn_gate", embedding, hidden),
		matrix("ffn_up", embedding, hidden),
		matrix("ffn_down", hidden, embedding),
	}
	headNorms = []rule{{name: "attn_q_norm", dims: head}, {name: "attn_k_norm", dims: head}}
	postNorms = []rule{{name: "post_attention_norm", dims: width}, {name: "post_ffw_norm", dims: width}}
)

// architectures are the ones served.
var architectures = map[string]architecture{
	"llama":    {[]string{"llama", "gpt2"}, nil},
	"mistral3": {[]string{"gpt2"}, nil},
	"qwen2":    {[]string{"gpt2"}, nil},
	"qwen3":    {[]string{"gpt2"}, headNorms},
	"gemma2":   {[]string{"llama"}, postNorms},
	"gemma3":   {[]string{"llama", "gpt2"}, append(slices.Clone(headNorms), postNorms...)},
}

// known lists the architectures for a message.
func known() string { return strings.Join(slices.Sorted(maps.Keys(architectures)), ", ") }

// unread are tensors that the engine loads but never computes with in a text model: the towers for images.
var unread = []string{"v.", "mm."}

// tensors holds every tensor against the rules, and its data against the end of the file.
func (c *checker) tensors(m *Model, h *Header, size int64) {
	want := c.expected(m)
	byType := map[Type]uint64{}
	for _, t := range h.Tensors {
		n, ok := t.Bytes()
		if !ok {
			c.fail(&schemas.Error{Kind: schemas.KindUnsupported, Field: t.Name, Message: fmt.Sprintf("%v with dimensions %v cannot be computed with", t.Type, t.Dims)})
			return
		}
		if t.Offset > uint64(size) || uint64(h.Data) > uint64(size) || n > uint64(size)-uint64(h.Data) || t.Offset > uint64(size)-uint64(h.Data)-n {
			c.fail(corrupt(t.Name, "the file ends before its weights do"))
			return
		}
		r, ok := want[t.Name]
		if !ok && !slices.ContainsFunc(unread, func(p string) bool { return strings.HasPrefix(t.Name, p) }) {
			c.fail(&schemas.Error{Kind: schemas.KindUnsupported, Field: t.Name, Message: "is no tensor of a " + m.Architecture + " model"})
			return
		}
		if ok && !r.matches(m, &t) {
			c.fail(corrupt(t.Name, fmt.Sprintf("has dimensions %v of %v, must have %v", t.Dims, t.Type, r.dims(m))))
			return
		}
		delete(want, t.Name)
		m.Bytes += n
		m.Parameters += elements64(t.Dims)
		byType[t.Type] += n
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !want[name].optional {
			c.fail(corrupt(name, "is missing"))
			return
		}
	}
	for t, n := range byType {
		if n > byType[m.Weights] || n == byType[m.Weights] && t > m.Weights {
			m.Weights = t
		}
	}
}

// expected lists the rule for every tensor a model of this architecture may have. Linear maps may have a bias.
func (c *checker) expected(m *Model) map[string]rule {
	want := map[string]rule{}
	add := func(prefix string, rules []rule) {
		for _, r := range rules {
			want[prefix+r.name+".weight"] = r
			if d := r.dims(m); len(d) == 2 && r.name != "token_embd" {
				want[prefix+r.name+".bias"] = rule{dims: func(*Model) []int { return d[1:] }, optional: true}
			}
		}
	}
	add("", outer)
	for i := range m.Layers {
		prefix := "blk." + strconv.Itoa(i) + "."
		add(prefix, inner)
		add(prefix, architectures[m.Architecture].layer)
	}
	return want
}

// matches compares shape and, for vectors, type.
func (r rule) matches(m *Model, t *Tensor) bool {
	want := r.dims(m)
	if len(want) == 1 && t.Type != F32 {
		return false
	}
	return slices.EqualFunc(want, t.Dims, func(a int, b uint64) bool { return uint64(a) == b })
}

func elements64(dims []uint64) uint64 {
	n := uint64(1)
	for _, d := range dims {
		n *= d
	}
	return n
}
