package consumers

import (
	"errors"
	"fmt"
	"time"
)

// Reason says why an engine did not answer. Callers branch on it.
type Reason uint8

// The reasons. Their order is not part of any wire form.
const (
	// ReasonFailed: the engine broke while it worked (a crash, a stream that died). Run the request again.
	ReasonFailed Reason = iota
	// ReasonBusy: full now; nothing was done. Try later.
	ReasonBusy
	// ReasonDraining: no new requests any more. Try another engine.
	ReasonDraining
	// ReasonUnavailable: the engine does not answer, or is starting. Try later.
	ReasonUnavailable
	// ReasonDeadline: the request's deadline passed.
	ReasonDeadline
	// ReasonCancelled: the caller cancelled.
	ReasonCancelled
	// ReasonBadRequest: the request is wrong; Field says where.
	ReasonBadRequest
	// ReasonTooLong: prompt, or prompt and answer, do not fit the model's context or the engine's limits.
	ReasonTooLong
	// ReasonUnsupported: right in itself, but not offered by this engine; Field says what.
	ReasonUnsupported
	// ReasonModel: the request names another model than the engine runs.
	ReasonModel
)

// String is the reason's name, lower case, as in logs and metrics.
func (r Reason) String() string {
	names := [...]string{"failed", "busy", "draining", "unavailable", "deadline", "cancelled", "bad_request", "too_long", "unsupported", "model"}
	if int(r) < len(names) {
		return names[r]
	}
	return "unknown"
}

// EngineError is the error of every [Engine].
type EngineError struct {
	Reason Reason
	// Field is the place in the request body, such as "messages[2].content"; empty when no field is at fault.
	Field string
	// Message is for people. It never holds text of the request.
	Message string
	// RetryAfter is how long to wait before another try; 0 when the engine does not say.
	RetryAfter time.Duration
	// Err is the cause, if there is one to inspect.
	Err error
}

// Error implements error.
func (e *EngineError) Error() string {
	s := "engine: " + e.Reason.String()
	if e.Field != "" {
		s += ": " + e.Field
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *EngineError) Unwrap() error { return e.Err }

// Retriable says that the same request may succeed later or elsewhere.
func (e *EngineError) Retriable() bool {
	switch e.Reason {
	case ReasonFailed, ReasonBusy, ReasonDraining, ReasonUnavailable:
		return true
	}
	return false
}

// ReasonOf is the reason of any error of an engine; an error without one counts as [ReasonFailed].
func ReasonOf(err error) Reason {
	var e *EngineError
	if errors.As(err, &e) {
		return e.Reason
	}
	return ReasonFailed
}

// BadField makes a [ReasonBadRequest] error for one field of the body.
func BadField(field, format string, args ...any) *EngineError {
	return &EngineError{Reason: ReasonBadRequest, Field: field, Message: fmt.Sprintf(format, args...)}
}
