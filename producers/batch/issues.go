package batch

import (
	"fmt"

	"github.com/cocoon-network/cocoon/schemas"
)

// Code says what is wrong with an input file. The first six are OpenAI's.
type Code string

// The codes.
const (
	CodeInvalidJSON  Code = "invalid_json_line"
	CodeDuplicate    Code = "duplicate_custom_id"
	CodeURLMismatch  Code = "url_mismatch"
	CodeModelMix     Code = "model_mismatch"
	CodeEmptyFile    Code = "empty_file"
	CodeTooMany      Code = "too_many_tasks"
	CodeFileTooLarge Code = "file_too_large"
	CodeLineTooLong  Code = "line_too_long"
	CodeEncoding     Code = "invalid_encoding"
	CodeCompression  Code = "invalid_compression"
	CodeCustomID     Code = "invalid_custom_id"
	CodeMethod       Code = "invalid_method"
	CodeURL          Code = "invalid_url"
	CodeBody         Code = "invalid_request"
)

// Issue is one thing wrong with an input file. As an error it is a schemas.Error of the given Kind.
type Issue struct {
	// Code classifies it.
	Code Code `json:"code"`
	// Line is the 1-based line, 0 for the file as a whole.
	Line int `json:"line,omitempty"`
	// Param is the field at fault, as a path such as body.messages[3].content.
	Param string `json:"param,omitempty"`
	// Message says what is wrong and what would be right.
	Message string `json:"message"`
	// Kind is KindInvalid, KindTooLarge, KindUnknownModel, KindUnsupported or KindConflict.
	Kind schemas.Kind `json:"-"`
	// fatal says that nothing after it could be read.
	fatal bool
}

// Error is one line.
func (i *Issue) Error() string {
	place := "file"
	if i.Line > 0 {
		place = fmt.Sprintf("line %d", i.Line)
	}
	if i.Param != "" {
		place += ": " + i.Param
	}
	return place + ": " + i.Message
}

// Unwrap makes an issue a schemas.Error.
func (i *Issue) Unwrap() error {
	return &schemas.Error{Kind: i.Kind, Field: i.Param, Line: i.Line, Message: i.Message}
}

// issue builds an Issue of KindInvalid.
func issue(code Code, line int, param, message string) *Issue {
	return &Issue{Code: code, Line: line, Param: param, Message: message, Kind: schemas.KindInvalid}
}

// issueOf turns the refusal of a request into an issue of its line.
func issueOf(err error, code Code, line int, parent string) *Issue {
	i := issue(code, line, parent, err.Error())
	if e, ok := err.(*schemas.Error); ok {
		i.Kind, i.Message = e.Kind, e.Message
		switch {
		case e.Field != "" && parent != "":
			i.Param = parent + "." + e.Field
		case e.Field != "":
			i.Param = e.Field
		}
	}
	return i
}
