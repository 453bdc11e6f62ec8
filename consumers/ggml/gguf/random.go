package gguf

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
)

// Shape of a random model. Zero fields take the values of a tiny one.
type Shape struct {
	// Architecture is one that Check admits; "" means llama.
	Architecture string
	// Layers, Width, Heads, KVHeads, HeadSize, FeedForward and Context as in Model; 0 means 2, 64, 4, 2, Width/Heads,
	// 160 and 512.
	Layers, Width, Heads, KVHeads, HeadSize, FeedForward, Context int
	// Vocab is the number of tokens; 0 means 512. There are at least 400.
	Vocab int
	// Weights is the type of the matrices: F16, also for 0, or Q8_0.
	Weights Type
	// Pooled makes a model that gives vectors; for architecture qwen3.
	Pooled bool
	// Seed of the weights.
	Seed uint64
}

func (s *Shape) defaults() {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	if s.Architecture == "" {
		s.Architecture = "llama"
	}
	def(&s.Layers, 2)
	def(&s.Width, 64)
	def(&s.Heads, 4)
	def(&s.KVHeads, 2)
	def(&s.HeadSize, s.Width/s.Heads)
	def(&s.FeedForward, 160)
	def(&s.Context, 512)
	def(&s.Vocab, 512)
	s.Vocab = max(s.Vocab, 400)
	if s.Weights == 0 {
		s.Weights = F16
	}
}

// Random writes a model with random weights of variance 1/columns: real computation, meaningless text.
func Random(w io.Writer, s Shape) error {
	s.defaults()
	h := s.header()
	m := &Model{
		Architecture: s.Architecture, Layers: s.Layers, Width: s.Width, Heads: s.Heads, KVHeads: s.KVHeads,
		HeadSize: s.HeadSize, FeedForward: s.FeedForward, Tokens: make([]string, s.Vocab),
	}
	if _, ok := architectures[s.Architecture]; !ok {
		return fmt.Errorf("gguf: no architecture %q", s.Architecture)
	}
	var offset uint64
	add := func(prefix string, rules []rule) error {
		for _, r := range rules {
			if r.optional {
				continue
			}
			t := Tensor{Name: prefix + r.name + ".weight", Type: s.Weights, Offset: offset}
			for _, d := range r.dims(m) {
				t.Dims = append(t.Dims, uint64(d))
			}
			if len(t.Dims) == 1 {
				t.Type = F32
			}
			n, ok := t.Bytes()
			if !ok {
				return fmt.Errorf("gguf: %s cannot have dimensions %v of %v", t.Name, t.Dims, t.Type)
			}
			offset += (n + 31) / 32 * 32
			h.Tensors = append(h.Tensors, t)
		}
		return nil
	}
	if err := add("", outer); err != nil {
		return err
	}
	for i := range s.Layers {
		prefix := fmt.Sprintf("blk.%d.", i)
		if err := add(prefix, append(inner[:len(inner):len(inner)], architectures[s.Architecture].layer...)); err != nil {
			return err
		}
	}
	return s.write(w, h)
}

// header is the metadata.
func (s *Shape) header() *Header {
	arch := s.Architecture + "."
	h := &Header{Version: 3}
	set := func(name string, v any) { h.Keys = append(h.Keys, Key{name, v}) }
	set("general.architecture", s.Architecture)
	set("general.name", "random")
	for _, n := range []struct {
		name string
		v    int
	}{
		{"block_count", s.Layers},
		{"context_length", s.Context},
		{"embedding_length", s.Width},
		{"feed_forward_length", s.FeedForward},
		{"attention.head_count", s.Heads},
		{"attention.head_count_kv", s.KVHeads},
		{"attention.key_length", s.HeadSize},
		{"attention.value_length", s.HeadSize},
		{"rope.dimension_count", s.HeadSize},
	} {
		set(arch+n.name, uint32(n.v))
	}
	set(arch+"attention.layer_norm_rms_epsilon", float32(1e-5))
	set(arch+"rope.freq_base", float32(10000))
	if s.Pooled {
		set(arch+"pooling_type", uint32(poolLast))
		set("tokenizer.ggml.add_eos_token", true)
	}
	switch s.Architecture {
	case "gemma2":
		set(arch+"attn_logit_softcapping", float32(50))
		set(arch+"final_logit_softcapping", float32(30))
		fallthrough
	case "gemma3":
		set(arch+"attention.sliding_window", uint32(64))
	}
	s.vocabulary(set)
	return h
}

// vocabulary makes the tokens: unknown, begin, end, the bytes, the printable characters, then filler words.
func (s *Shape) vocabulary(set func(string, any)) {
	var tokens []string
	var types []int32
	add := func(t string, kind int32) { tokens, types = append(tokens, t), append(types, kind) }
	add("<unk>", TokenUnknown)
	add("<s>", TokenControl)
	add("</s>", TokenControl)
	space, model := "\u2581", "llama"
	if s.Architecture != "llama" && s.Architecture != "gemma2" && s.Architecture != "gemma3" {
		space, model = "\u0120", "gpt2" // how byte pairs spell a space
		for i := range 256 {
			add(string(byteRune(byte(i))), TokenNormal)
		}
	} else {
		for i := range 256 {
			add(fmt.Sprintf("<0x%02X>", i), TokenByte)
		}
		add(space, TokenNormal)
		for c := '!'; c <= '~'; c++ {
			add(string(c), TokenNormal)
		}
	}
	for i := len(tokens); i < s.Vocab; i++ {
		add(fmt.Sprintf("%sw%d", space, i), TokenNormal)
	}
	set("tokenizer.ggml.model", model)
	set("tokenizer.ggml.tokens", tokens)
	set("tokenizer.ggml.token_type", types)
	if model == "llama" {
		scores := make([]float32, len(tokens))
		for i := range scores {
			scores[i] = -float32(i)
		}
		set("tokenizer.ggml.scores", scores)
	} else {
		set("tokenizer.ggml.merges", []string{"w 1", "w 2"})
	}
	set("tokenizer.ggml.bos_token_id", uint32(1))
	set("tokenizer.ggml.eos_token_id", uint32(2))
	set("tokenizer.ggml.add_bos_token", true)
	set("tokenizer.chat_template", "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + ' ' }}{% endfor %}")
}

// byteRune is the character that stands for a byte in byte-pair vocabularies: printable ones for themselves, the others
// moved above U+0100.
func byteRune(b byte) rune {
	switch {
	case b <= 0x20:
		return 0x100 + rune(b)
	case b >= 0x7f && b <= 0xa0:
		return 0x121 + rune(b-0x7f)
	case b == 0xad:
		return 0x143
	}
	return rune(b)
}

// write puts header and weights out.
func (s *Shape) write(w io.Writer, h *Header) error {
	out := bufio.NewWriterSize(w, 1<<20)
	b := h.Append(nil)
	b = append(b, make([]byte, (32-len(b)%32)%32)...)
	out.Write(b)
	r := rand.New(rand.NewPCG(s.Seed, 1))
	for _, t := range h.Tensors {
		b = t.random(r, b[:0])
		b = append(b, make([]byte, (32-len(b)%32)%32)...)
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
	return out.Flush()
}

// random makes the weights of a tensor: ones for a vector, noise for a matrix.
func (t *Tensor) random(r *rand.Rand, b []byte) []byte {
	if len(t.Dims) == 1 {
		for range t.Dims[0] {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(1))
		}
		return b
	}
	n := elements64(t.Dims)
	std := float32(1 / math.Sqrt(float64(t.Dims[0])))
	switch t.Type {
	case Q8_0: // a scale and 32 signed bytes
		for range n / 32 {
			b = binary.LittleEndian.AppendUint16(b, half(std/40))
			for range 32 {
				b = append(b, byte(int8(max(-127, min(127, r.NormFloat64()*40)))))
			}
		}
	default:
		for range n {
			b = binary.LittleEndian.AppendUint16(b, half(float32(r.NormFloat64())*std))
		}
	}
	return b
}

// half converts to 16 bits, towards zero; tiny numbers become zero.
func half(f float32) uint16 {
	b := math.Float32bits(f)
	sign, e := uint16(b>>16&0x8000), int(b>>23&0xff)-127+15
	switch {
	case e <= 0:
		return sign
	case e >= 31:
		return sign | 0x7bff
	}
	return sign | uint16(e)<<10 | uint16(b>>13&0x3ff)
}
