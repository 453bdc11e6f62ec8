package ggml

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/ggml/batcher"
	"github.com/cocoon-network/cocoon/schemas"
)

// maxInputs is OpenAI's limit for the texts of one request.
const maxInputs = batcher.MaxSequences

// readEmbedding reads a request for vectors.
func (e *Engine) readEmbedding(f *fields, c *call) error {
	format := "float"
	if take(f, "encoding_format", &format, "a string") && format != "float" && format != "base64" {
		f.fail(schemas.FieldError("encoding_format", "must be float or base64"))
	}
	c.base64 = format == "base64"
	if width := e.file.Width; take(f, "dimensions", &width, "an integer") && width != e.file.Width {
		f.fail(&schemas.Error{Kind: schemas.KindUnsupported, Field: "dimensions", Message: fmt.Sprintf("the model gives %d", e.file.Width)})
	}
	inputs := f.inputs()
	f.rest()
	if f.err != nil {
		return f.err
	}
	for i, in := range inputs {
		at := "input"
		if len(inputs) > 1 {
			at = fmt.Sprintf("input[%d]", i)
		}
		ids, err := e.encodeInput(in, at)
		if err != nil {
			return err
		}
		c.inputs = append(c.inputs, ids)
	}
	return nil
}

// source is a text or its tokens.
type source struct {
	text string
	ids  []int32
}

// inputs reads "input": a text, several, a list of tokens, or several of them.
func (f *fields) inputs() []source {
	var raw json.RawMessage
	const want = "a string, a list of strings, or lists of tokens"
	if !take(f, "input", &raw, want) {
		f.fail(schemas.FieldError("input", "is missing"))
		return nil
	}
	if one, ok := readInput(raw); ok {
		return []source{one}
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		f.fail(schemas.FieldError("input", "must be "+want))
		return nil
	}
	if len(list) > maxInputs {
		f.fail(&schemas.Error{Kind: schemas.KindTooLarge, Field: "input", Message: fmt.Sprintf("at most %d inputs are read", maxInputs)})
		return nil
	}
	inputs := make([]source, len(list))
	for i, raw := range list {
		var ok bool
		if inputs[i], ok = readInput(raw); !ok {
			f.fail(schemas.FieldError(fmt.Sprintf("input[%d]", i), "must be a string or a list of tokens"))
		}
	}
	return inputs
}

// readInput reads a text or a list of tokens.
func readInput(raw json.RawMessage) (in source, ok bool) {
	if json.Unmarshal(raw, &in.text) == nil && string(raw) != "null" {
		return in, true
	}
	return in, json.Unmarshal(raw, &in.ids) == nil && len(in.ids) > 0
}

// encodeInput makes tokens of a text and holds them against vocabulary and context.
func (e *Engine) encodeInput(in source, at string) ([]int32, error) {
	room := min(e.o.Context, e.o.Cells)
	tooLong := &schemas.Error{Kind: schemas.KindTooLarge, Field: at, Message: fmt.Sprintf("the text does not fit; the context has %d tokens", room)}
	if in.ids == nil {
		switch {
		case in.text == "":
			return nil, schemas.FieldError(at, "has no text")
		case e.words.holdsControl(in.text):
			return nil, schemas.FieldError(at, "contains a control token of the model")
		case e.words.tooLong(len(in.text), room):
			return nil, tooLong
		}
		ids, err := e.words.encode(in.text)
		if err != nil {
			return nil, &schemas.Error{Kind: schemas.KindInvalid, Field: at, Message: "the text cannot be encoded", Err: err}
		}
		in.ids = e.words.closed(ids)
	}
	for _, id := range in.ids {
		if id < 0 || int(id) >= len(e.file.Tokens) {
			return nil, schemas.FieldError(at, "has a token that the model does not know")
		}
	}
	if len(in.ids) > room {
		return nil, tooLong
	}
	return in.ids, nil
}

// The objects of an answer with vectors.
type (
	vectorList struct {
		Object string   `json:"object"`
		Data   []vector `json:"data"`
		Model  string   `json:"model"`
		Usage  struct {
			Prompt  int `json:"prompt_tokens"`
			Total   int `json:"total_tokens"`
			Details struct {
				Cached int `json:"cached_tokens"`
			} `json:"prompt_tokens_details"`
		} `json:"usage"`
	}
	vector struct {
		Object    string `json:"object"`
		Index     int    `json:"index"`
		Embedding any    `json:"embedding"` // numbers, or their bytes in base64
	}
)

// vectors is the stream of a request for vectors: one event.
type vectors struct {
	e      *Engine
	c      *call
	ticket *batcher.Ticket
	over   error
}

var _ consumers.Stream = (*vectors)(nil)

// Next implements consumers.Stream.
func (v *vectors) Next() (consumers.Event, error) {
	if v.over != nil {
		return consumers.Event{}, v.over
	}
	list := vectorList{Object: "list", Model: v.c.model, Data: make([]vector, len(v.c.inputs))}
	for {
		p, err := v.ticket.Next()
		if err != nil {
			if v.over = err; errors.Is(err, io.EOF) {
				break
			}
			return consumers.Event{}, err
		}
		if p.Result != nil {
			list.Data[p.Index] = vector{"embedding", p.Index, v.c.spell(p.Result.Vector)}
		}
	}
	s := v.ticket.Stats()
	list.Usage.Prompt, list.Usage.Total, list.Usage.Details.Cached = s.Prompt, s.Prompt, s.Cached
	return consumers.Event{Done: v.e.ended(s, encode(list))}, nil
}

// spell writes a vector as the request wants it: numbers, or little-endian bytes in base64.
func (c *call) spell(v []float32) any {
	if !c.base64 {
		return v
	}
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(b)
}

// Usage is what the request has cost so far.
func (v *vectors) Usage() (u schemas.Usage, exact bool) { return billed(v.ticket.Stats()), true }

// Close implements consumers.Stream.
func (v *vectors) Close() error {
	v.ticket.Close()
	return nil
}
