package engineserver

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"

	"github.com/cocoon-network/cocoon/schemas"
)

// problem is OpenAI's error object.
type problem struct {
	Error problemBody `json:"error"`
}

type problemBody struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    string  `json:"code"`
}

// statusClosed is what nginx made customary for a client that went away.
const statusClosed = 499

// status is the HTTP status of a kind.
func status(k schemas.Kind) int {
	switch k {
	case schemas.KindInvalid, schemas.KindTooLarge, schemas.KindUnsupported:
		return http.StatusBadRequest
	case schemas.KindUnknownModel, schemas.KindNotFound:
		return http.StatusNotFound
	case schemas.KindDenied:
		return http.StatusUnauthorized
	case schemas.KindConflict:
		return http.StatusConflict
	case schemas.KindBusy:
		return http.StatusTooManyRequests
	case schemas.KindUnavailable:
		return http.StatusServiceUnavailable
	case schemas.KindExpired:
		return http.StatusGatewayTimeout
	case schemas.KindCancelled:
		return statusClosed
	}
	return http.StatusInternalServerError
}

// describe makes an error object. Causes stay here: they may be anything.
func describe(err error) problem {
	var e *schemas.Error
	if !errors.As(err, &e) {
		e = &schemas.Error{Kind: schemas.KindOf(err), Message: "the engine failed"}
	}
	p := problem{problemBody{Message: e.Message, Type: "invalid_request_error", Code: e.Kind.String()}}
	if status(e.Kind) >= http.StatusInternalServerError || status(e.Kind) == http.StatusTooManyRequests {
		p.Error.Type = "server_error"
	}
	if e.Field != "" {
		p.Error.Param = &e.Field
	}
	return p
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, err error) {
	var e *schemas.Error
	kind := schemas.KindOf(err)
	if kind == schemas.KindBusy || kind == schemas.KindUnavailable {
		wait := 1.0
		if errors.As(err, &e) && e.RetryAfter > 0 {
			wait = math.Ceil(e.RetryAfter.Seconds())
		}
		w.Header().Set("Retry-After", strconv.Itoa(int(wait)))
	}
	answer(w, status(kind), describe(err))
}

// answer writes a JSON object.
func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":{"message":"no answer can be written"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // a client that is gone needs no answer
}
