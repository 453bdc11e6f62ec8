package openai

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Error is OpenAI's error object.
type Error struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

// Refusal is how a failure looks over HTTP.
type Refusal struct {
	// Status is the HTTP status.
	Status int
	// Error is the body's "error".
	Error Error
	// Retry tells a client whether doing the same again can help, and After when; OpenAI's clients obey x-should-retry
	// and Retry-After.
	Retry bool
	After time.Duration
}

// DefaultRetryAfter is what a client is told to wait when nobody knows better.
const DefaultRetryAfter = 2 * time.Second

// answers gives every kind of failure its HTTP form. A kind that is not here is an internal error.
var answers = map[schemas.Kind]struct {
	status     int
	kind, code string
}{
	schemas.KindInvalid:      {http.StatusBadRequest, "invalid_request_error", "invalid_value"},
	schemas.KindTooLarge:     {http.StatusBadRequest, "invalid_request_error", "context_length_exceeded"},
	schemas.KindUnknownModel: {http.StatusNotFound, "invalid_request_error", "model_not_found"},
	schemas.KindUnsupported:  {http.StatusBadRequest, "invalid_request_error", "unsupported_value"},
	schemas.KindPrice:        {http.StatusBadRequest, "invalid_request_error", "price_too_low"},
	schemas.KindNotFound:     {http.StatusNotFound, "not_found_error", "not_found"},
	schemas.KindConflict:     {http.StatusUnprocessableEntity, "invalid_request_error", "idempotency_conflict"},
	schemas.KindDenied:       {http.StatusForbidden, "permission_error", "denied"},
	schemas.KindCredit:       {http.StatusTooManyRequests, "insufficient_quota", "insufficient_quota"},
	schemas.KindBusy:         {http.StatusTooManyRequests, "rate_limit_error", "rate_limit_exceeded"},
	schemas.KindCancelled:    {499, "invalid_request_error", "cancelled"},
	schemas.KindExpired:      {http.StatusGatewayTimeout, "server_error", "result_expired"},
	schemas.KindUnavailable:  {http.StatusServiceUnavailable, "server_error", "no_capacity"},
	schemas.KindKeyLost:      {http.StatusServiceUnavailable, "server_error", "key_lost"},
	schemas.KindPolicy:       {http.StatusServiceUnavailable, "server_error", "attestation_failed"},
	schemas.KindAttestation:  {http.StatusServiceUnavailable, "server_error", "attestation_failed"},
	schemas.KindEngine:       {http.StatusBadGateway, "server_error", "engine_failed"},
	schemas.KindSealed:       {http.StatusBadGateway, "server_error", "not_openable"},
}

// RefusalOf gives an error its HTTP form. The cause of an internal failure is not shown to the caller.
func RefusalOf(err error) Refusal {
	kind := schemas.KindOf(err)
	a, known := answers[kind]
	if !known {
		a.status, a.kind, a.code = http.StatusInternalServerError, "server_error", kind.String()
	}
	r := Refusal{Status: a.status, Error: Error{Type: a.kind, Code: &a.code}, Retry: kind.Retriable()}
	var e *schemas.Error
	switch {
	case errors.As(err, &e):
		r.Error.Message = sentence(e)
		if e.Field != "" {
			r.Error.Param = &e.Field
		}
		r.After = e.RetryAfter
	default:
		r.Error.Message = "internal error"
	}
	if r.After == 0 && (r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable) {
		r.After = DefaultRetryAfter
	}
	return r
}

// sentence is one line for a person.
func sentence(e *schemas.Error) string {
	switch {
	case e.Field != "" && e.Message != "":
		return e.Field + ": " + e.Message
	case e.Message != "":
		return e.Message
	}
	return e.Kind.String()
}

// Body spells the refusal as a response body.
func (r *Refusal) Body() []byte {
	b, err := json.Marshal(struct {
		Error Error `json:"error"`
	}{r.Error})
	if err != nil {
		panic("openai: an error object of strings always marshals: " + err.Error())
	}
	return b
}
