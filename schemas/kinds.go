package schemas

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind classifies a failure. Numbers cross the wire: they are never reordered, reused or removed, only appended.
// A Kind is itself an error, so that callers branch with errors.Is(err, schemas.KindExpired).
type Kind uint16

// The kinds. The comment of each says what the receiver should do.
const (
	// KindUnknown is the zero value: a failure nobody classified. Do not retry blindly.
	KindUnknown Kind = 0
	// KindInvalid: the input is malformed; the field says where. Fix the input.
	KindInvalid Kind = 1
	// KindTooLarge: a named limit was exceeded. Fix the input.
	KindTooLarge Kind = 2
	// KindUnknownModel: no such model in the catalogue. Fix the input.
	KindUnknownModel Kind = 3
	// KindExpired: the job's deadline passed before it had an outcome. Submit again with a later one.
	KindExpired Kind = 4
	// KindCancelled: the tenant asked for it.
	KindCancelled Kind = 5
	// KindKeyLost: the broker no longer holds the epoch key. Seal again to the current key.
	KindKeyLost Kind = 6
	// KindCredit: the tenant's available credit does not cover the job's ceiling. Fund the account.
	KindCredit Kind = 7
	// KindPolicy: the policy does not admit it. Ask the operator.
	KindPolicy Kind = 8
	// KindAttestation: evidence did not verify.
	KindAttestation Kind = 9
	// KindSealed: something sealed did not open. There is only this one kind for all decryption failures.
	KindSealed Kind = 10
	// KindBusy: a queue or quota is full. Retry after the hint.
	KindBusy Kind = 11
	// KindUnavailable: a part of the network cannot be reached. Retry.
	KindUnavailable Kind = 12
	// KindEngine: the engine failed while running the job. Retry elsewhere.
	KindEngine Kind = 13
	// KindPoison: the job failed on every attempt it had. Do not retry unchanged.
	KindPoison Kind = 14
	// KindNotFound: no such object.
	KindNotFound Kind = 15
	// KindConflict: the same idempotency key or id was used for something else.
	KindConflict Kind = 16
	// KindUnsupported: well-formed, but this engine or version cannot do it.
	KindUnsupported Kind = 17
	// KindDenied: the caller may not do this.
	KindDenied Kind = 18
	// KindPrice: no worker serves below the job's ceiling.
	KindPrice Kind = 19
	// KindLeased: another worker holds the job's lease. Try again when it has lapsed.
	KindLeased Kind = 20
	// KindReplayed: the message was already used.
	KindReplayed Kind = 21
	// KindInternal: a bug or a broken dependency on our side.
	KindInternal Kind = 22
	// KindCorrupt: stored state does not match its checksum or invariant. Stop and look.
	KindCorrupt Kind = 23

	kindCount = 24
)

// kindNames are the stable textual names, used in JSON, logs, metrics and error codes.
var kindNames = [kindCount]string{
	"unknown", "invalid", "too_large", "unknown_model", "expired", "cancelled", "key_lost", "insufficient_credit",
	"policy_refused", "attestation_failed", "not_openable", "busy", "unavailable", "engine_failed", "poison",
	"not_found", "conflict", "unsupported", "denied", "price_too_low", "leased", "replayed", "internal", "corrupt",
}

// String is the stable name of the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind_%d", uint16(k))
}

// Error makes a Kind usable as a target of errors.Is.
func (k Kind) Error() string { return k.String() }

// ParseKind is the inverse of String for the kinds this version knows.
func ParseKind(s string) (Kind, error) {
	for k, name := range kindNames {
		if s == name {
			return Kind(k), nil
		}
	}
	return KindUnknown, invalid("kind", "is not a known error kind")
}

// Retriable reports whether doing the same again can help without anybody changing anything.
func (k Kind) Retriable() bool {
	switch k {
	case KindBusy, KindUnavailable, KindEngine, KindLeased:
		return true
	}
	return false
}

// Error is a failure with a meaning. It crosses process borders as kind, field and message; Err stays local.
type Error struct {
	// Kind is what callers branch on.
	Kind Kind
	// Field names the offending field or attribute, empty when there is none. It is a path such as "messages[3].role".
	Field string
	// Line is the 1-based line of the offending input, 0 when there is none.
	Line int
	// Message says what is wrong and what would be right, for a person. It never contains secrets or prompt text.
	Message string
	// RetryAfter is the earliest useful retry, 0 when unknown.
	RetryAfter time.Duration
	// Err is the cause, if any.
	Err error
}

// Errorf builds an error of a kind. A %w verb in the format sets the cause.
func Errorf(kind Kind, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: wrapped.Error(), Err: errors.Unwrap(wrapped)}
}

// FieldError builds a KindInvalid error that names a field.
func FieldError(field, message string) *Error {
	return &Error{Kind: KindInvalid, Field: field, Message: message}
}

// invalid is FieldError typed as error.
func invalid(field, message string) error { return FieldError(field, message) }

// Error is one line: kind, place, message.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Kind.String())
	if e.Line > 0 {
		fmt.Fprintf(&b, ": line %d", e.Line)
	}
	if e.Field != "" {
		b.WriteString(": " + e.Field)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches a Kind as target.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// Retriable reports whether doing the same again can help.
func (e *Error) Retriable() bool { return e.Kind.Retriable() }

// KindOf returns the kind of the outermost *Error in err's chain, KindUnknown when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	return KindUnknown
}

// Retriable reports whether err carries a kind for which doing the same again can help.
func Retriable(err error) bool { return KindOf(err).Retriable() }
