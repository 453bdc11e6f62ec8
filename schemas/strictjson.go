package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"
)

// maxJSONDepth bounds the nesting of any JSON document we read.
const maxJSONDepth = 128

// DecodeJSON reads one JSON document strictly: at most limit bytes, valid UTF-8, no unknown fields, no duplicate keys,
// no trailing data, nesting of at most 128. Failures are KindInvalid or KindTooLarge.
func DecodeJSON(b []byte, v any, limit int) error {
	if len(b) > limit {
		return &Error{Kind: KindTooLarge, Message: "document is longer than " + strconv.Itoa(limit) + " bytes"}
	}
	if err := CheckJSON(b); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return jsonError(err)
	}
	return nil
}

// CheckJSON reports whether b is one well-formed JSON document without duplicate keys. It takes no memory beyond the
// keys of the objects that are open at one time.
func CheckJSON(b []byte) error {
	if !utf8.Valid(b) {
		return &Error{Kind: KindInvalid, Message: "document is not valid UTF-8"}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var open []jsonLevel
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && len(open) == 0 { // a document that was read has returned below
			return &Error{Kind: KindInvalid, Message: "document is empty"}
		}
		if err != nil {
			return jsonError(err)
		}
		if open, err = nextToken(open, token); err != nil {
			return err
		}
		if len(open) == 0 {
			if _, err := d.Token(); !errors.Is(err, io.EOF) {
				return &Error{Kind: KindInvalid, Message: "data after the document"}
			}
			return nil
		}
	}
}

// jsonLevel is one open object or array. keys is nil for arrays.
type jsonLevel struct {
	keys  map[string]struct{}
	value bool // inside an object: the next token is a value
}

// nextToken follows the nesting and watches for duplicate keys.
func nextToken(open []jsonLevel, token json.Token) ([]jsonLevel, error) {
	if top := len(open) - 1; top >= 0 && open[top].keys != nil {
		if key, ok := token.(string); ok && !open[top].value {
			if _, dup := open[top].keys[key]; dup {
				return nil, &Error{Kind: KindInvalid, Field: clip(key), Message: "key appears twice in one object"}
			}
			open[top].keys[key] = struct{}{}
			open[top].value = true
			return open, nil
		}
		open[top].value = false
	}
	switch token {
	case json.Delim('{'), json.Delim('['):
		if len(open) == maxJSONDepth {
			return nil, &Error{Kind: KindTooLarge, Message: "document is nested deeper than 128"}
		}
		level := jsonLevel{}
		if token == json.Delim('{') {
			level.keys = map[string]struct{}{}
		}
		return append(open, level), nil
	case json.Delim('}'), json.Delim(']'):
		return open[:len(open)-1], nil
	}
	return open, nil
}

// jsonError turns a decoder's failure into ours, keeping the field when the decoder names one.
func jsonError(err error) error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return &Error{Kind: KindInvalid, Field: wrong.Field, Message: "must not be a JSON " + wrong.Value, Err: err}
	}
	return &Error{Kind: KindInvalid, Message: "is not the JSON document expected: " + err.Error(), Err: err}
}
