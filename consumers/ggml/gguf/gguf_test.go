package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"runtime"
	"testing"

	"github.com/cocoon-network/cocoon/schemas"
)

// tiny is the embedded model, a file that llama.cpp's tools would accept.
const tiny = "../tiny/cocoon-tiny.gguf"

// random makes a model in memory.
func random(t testing.TB, s Shape) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Random(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// inspect parses and checks.
func inspect(b []byte) (*Model, error) {
	h, err := Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	return Check(h, int64(len(b)))
}

func TestTiny(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(tiny)
	if err != nil {
		t.Fatal(err)
	}
	m, err := inspect(b)
	if err != nil {
		t.Fatal(err)
	}
	if m.Architecture != "llama" || m.Layers != 4 || m.Width != 192 || m.HeadSize != 64 || len(m.Tokens) != 1024 ||
		m.Parameters != 1820352 || m.Context != 512 || m.EOS != 2 || m.Weights != F16 || m.ChatTemplate == "" {
		t.Errorf("%+v", m)
	}
	h, err := Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if again := h.Append(nil); !bytes.Equal(again, b[:h.Size]) {
		t.Error("the header does not re-encode to the same bytes")
	}
}

func TestRandom(t *testing.T) {
	t.Parallel()
	for arch := range architectures {
		for _, w := range []Type{F16, Q8_0} {
			m, err := inspect(random(t, Shape{Architecture: arch, Weights: w}))
			if err != nil {
				t.Errorf("%s %v: %v", arch, w, err)
				continue
			}
			if m.Architecture != arch || m.Weights != w || len(m.Tokens) != 512 {
				t.Errorf("%s with %v is read as %s with %v", arch, w, m.Architecture, m.Weights)
			}
		}
	}
}

// alter parses a good model, changes the header and checks the result, with the file's size as it was.
func alter(t *testing.T, s Shape, change func(*Header)) error {
	t.Helper()
	b := random(t, s)
	h, err := Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	change(h)
	_, err = Check(h, int64(len(b)))
	return err
}

// set changes a key, or removes it with nil.
func set(h *Header, name string, v any) {
	for i, k := range h.Keys {
		if k.Name == name {
			if v == nil {
				h.Keys = append(h.Keys[:i:i], h.Keys[i+1:]...)
			} else {
				h.Keys[i].Value = v
			}
			return
		}
	}
	h.Keys = append(h.Keys, Key{name, v})
}

func tensor(h *Header, name string) *Tensor {
	for i := range h.Tensors {
		if h.Tensors[i].Name == name {
			return &h.Tensors[i]
		}
	}
	panic(name)
}

// TestHostile: each of these would abort, hang or exhaust the native code.
func TestHostile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Header)
		kind   schemas.Kind
		field  string
	}{
		"unknown architecture":  {func(h *Header) { set(h, "general.architecture", "mamba") }, schemas.KindUnsupported, "general.architecture"},
		"experts":               {func(h *Header) { set(h, "llama.expert_count", uint32(8)) }, schemas.KindUnsupported, "llama.expert_count"},
		"no layers":             {func(h *Header) { set(h, "llama.block_count", uint32(0)) }, schemas.KindCorrupt, "llama.block_count"},
		"four billion layers":   {func(h *Header) { set(h, "llama.block_count", uint32(math.MaxUint32)) }, schemas.KindCorrupt, "llama.block_count"},
		"more layers than file": {func(h *Header) { set(h, "llama.block_count", uint32(3)) }, schemas.KindCorrupt, "blk.2.attn_k.weight"},
		"no heads":              {func(h *Header) { set(h, "llama.attention.head_count", uint32(0)) }, schemas.KindCorrupt, "llama.attention.head_count"},
		"odd heads":             {func(h *Header) { set(h, "llama.attention.head_count_kv", uint32(3)) }, schemas.KindCorrupt, "llama.attention.head_count"},
		"heads of other type":   {func(h *Header) { set(h, "llama.attention.head_count", uint64(4)) }, schemas.KindCorrupt, "llama.attention.head_count"},
		"head sizes differ":     {func(h *Header) { set(h, "llama.attention.value_length", uint32(8)) }, schemas.KindCorrupt, "llama.attention.key_length"},
		"rope beyond the head":  {func(h *Header) { set(h, "llama.rope.dimension_count", uint32(18)) }, schemas.KindCorrupt, "llama.rope.dimension_count"},
		"odd rope":              {func(h *Header) { set(h, "llama.rope.dimension_count", uint32(15)) }, schemas.KindCorrupt, "llama.rope.dimension_count"},
		"NaN epsilon":           {func(h *Header) { set(h, "llama.attention.layer_norm_rms_epsilon", float32(math.NaN())) }, schemas.KindCorrupt, "llama.attention.layer_norm_rms_epsilon"},
		"zero rope base":        {func(h *Header) { set(h, "llama.rope.freq_base", float32(0)) }, schemas.KindCorrupt, "llama.rope.freq_base"},
		"pooling":               {func(h *Header) { set(h, "llama.pooling_type", uint32(1)) }, schemas.KindUnsupported, "llama.pooling_type"},
		"wrong width":           {func(h *Header) { tensor(h, "blk.1.attn_q.weight").Dims[1]++ }, schemas.KindCorrupt, "blk.1.attn_q.weight"},
		"transposed":            {func(h *Header) { d := tensor(h, "blk.0.ffn_up.weight").Dims; d[0], d[1] = d[1], d[0] }, schemas.KindCorrupt, "blk.0.ffn_up.weight"},
		"unknown type":          {func(h *Header) { tensor(h, "token_embd.weight").Type = 99 }, schemas.KindUnsupported, "token_embd.weight"},
		"norm in F16":           {func(h *Header) { tensor(h, "output_norm.weight").Type = F16 }, schemas.KindCorrupt, "output_norm.weight"},
		"row is no block":       {func(h *Header) { tensor(h, "token_embd.weight").Type = Q4_K }, schemas.KindUnsupported, "token_embd.weight"},
		"overflowing shape":     {func(h *Header) { tensor(h, "token_embd.weight").Dims = []uint64{1 << 40, 1 << 40} }, schemas.KindUnsupported, "token_embd.weight"},
		"data beyond the file":  {func(h *Header) { tensor(h, "output_norm.weight").Offset = 1 << 40 }, schemas.KindCorrupt, "output_norm.weight"},
		"offset wraps around":   {func(h *Header) { tensor(h, "output_norm.weight").Offset = math.MaxUint64 - 100 }, schemas.KindCorrupt, "output_norm.weight"},
		"unknown tensor":        {func(h *Header) { tensor(h, "output_norm.weight").Name = "blk.0.evil.weight" }, schemas.KindUnsupported, "blk.0.evil.weight"},
		"bias of wrong size": {func(h *Header) {
			h.Tensors = append(h.Tensors, Tensor{Name: "blk.0.attn_q.bias", Dims: []uint64{63}, Type: F32})
		}, schemas.KindCorrupt, "blk.0.attn_q.bias"},
		"no vocabulary":       {func(h *Header) { set(h, "tokenizer.ggml.tokens", nil) }, schemas.KindCorrupt, "tokenizer.ggml.tokens"},
		"types missing":       {func(h *Header) { set(h, "tokenizer.ggml.token_type", []int32{1}) }, schemas.KindCorrupt, "tokenizer.ggml.token_type"},
		"scores missing":      {func(h *Header) { set(h, "tokenizer.ggml.scores", nil) }, schemas.KindCorrupt, "tokenizer.ggml.scores"},
		"unknown end":         {func(h *Header) { set(h, "tokenizer.ggml.eos_token_id", uint32(512)) }, schemas.KindCorrupt, "tokenizer.ggml.eos_token_id"},
		"unknown further end": {func(h *Header) { set(h, "tokenizer.ggml.eos_token_ids", []int32{-1}) }, schemas.KindCorrupt, "tokenizer.ggml.eos_token_ids"},
		"empty control token": {func(h *Header) {
			v, _ := h.Get("tokenizer.ggml.tokens")
			v.([]string)[1] = ""
		}, schemas.KindCorrupt, "tokenizer.ggml.tokens"},
		"other tokenizer": {func(h *Header) { set(h, "tokenizer.ggml.model", "rwkv") }, schemas.KindUnsupported, "tokenizer.ggml.model"},
	} {
		err := alter(t, Shape{}, c.change)
		var e *schemas.Error
		if !errors.As(err, &e) || e.Kind != c.kind || e.Field != c.field {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := alter(t, Shape{Architecture: "qwen3", Pooled: true}, func(h *Header) { set(h, "qwen3.pooling_type", uint32(1)) }); schemas.KindOf(err) != schemas.KindUnsupported {
		t.Errorf("the mean of all tokens: %v", err)
	}
	if err := alter(t, Shape{Architecture: "gemma3"}, func(h *Header) { set(h, "gemma3.attention.sliding_window", nil) }); schemas.KindOf(err) != schemas.KindCorrupt {
		t.Errorf("gemma3 without a window: %v", err)
	}
}

// TestTruncated: a file cut anywhere is refused, never loaded.
func TestTruncated(t *testing.T) {
	t.Parallel()
	b := random(t, Shape{})
	for n := 0; n < len(b); n += 1 + n/50 {
		if _, err := inspect(b[:n]); schemas.KindOf(err) != schemas.KindCorrupt {
			t.Fatalf("%d of %d bytes: %v", n, len(b), err)
		}
	}
}

// TestBounded: a header that promises much and holds nothing costs nothing.
func TestBounded(t *testing.T) {
	var head []byte
	head = append(head, "GGUF"...)
	head = binary.LittleEndian.AppendUint32(head, 3)
	head = binary.LittleEndian.AppendUint64(head, 0)
	head = binary.LittleEndian.AppendUint64(head, 1)
	key := appendString(head, "k")
	array := binary.LittleEndian.AppendUint32(key, kindArray)
	for name, b := range map[string][]byte{
		"string":  binary.LittleEndian.AppendUint64(append(key, kindString, 0, 0, 0), MaxString),
		"strings": binary.LittleEndian.AppendUint64(append(array, kindString, 0, 0, 0), MaxElements),
		"numbers": binary.LittleEndian.AppendUint64(append(array, kindFloat64, 0, 0, 0), MaxElements),
		"keys":    binary.LittleEndian.AppendUint64(head[:16:16], MaxKeys),
		"tensors": binary.LittleEndian.AppendUint64(head[:8:8], math.MaxUint64),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := inspect(b)
		runtime.ReadMemStats(&after)
		if k := schemas.KindOf(err); k != schemas.KindCorrupt && k != schemas.KindTooLarge {
			t.Errorf("%s: %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d bytes allocated for %d", name, n, len(b))
		}
	}
}

// FuzzParse: no input panics, and what parses encodes to the same bytes again.
func FuzzParse(f *testing.F) {
	b := random(f, Shape{})
	h, err := Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:h.Size])
	every := &Header{Version: 2, Keys: []Key{
		{"a", uint8(1)},
		{"b", int8(-1)},
		{"c", uint16(2)},
		{"d", int16(-2)},
		{"e", uint32(3)},
		{"f", int32(-3)},
		{"g", float32(1.5)},
		{"h", true},
		{"i", "text"},
		{"j", uint64(4)},
		{"k", int64(-4)},
		{"l", 2.5},
		{"m", []string{"x", ""}},
		{"n", []bool{true, false}},
		{"o", []float32{1}},
		{"p", []uint8{1, 2}},
		{"q", []int64{-5}},
		{"r", []float64{}},
		{"s", []uint16{7}},
		{"t", []int8{-7}},
	}, Tensors: []Tensor{{"w", []uint64{2, 3}, F16, 32}}}
	f.Add(every.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Parse(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if again := h.Append(nil); !bytes.Equal(again, b[:h.Size]) {
			t.Fatalf("%x\n%x", b[:h.Size], again)
		}
		_, _ = Check(h, int64(len(b)))
	})
}
