package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/cocoon-network/cocoon/schemas"
)

// Exit codes of the program.
const (
	ExitOK          = 0
	ExitError       = 1
	ExitUsage       = 2
	ExitPartial     = 3
	ExitNotFound    = 4
	ExitRefused     = 5
	ExitInterrupted = 130
)

// UsageError says that the program was called wrongly: an unknown flag, a missing argument, a bad configuration key.
type UsageError struct{ Err error }

// Error is the message of the cause.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef builds a UsageError.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// PartialError says that a verb over many things did some and failed on others; what was done stands.
type PartialError struct {
	// Done and Failed count the things.
	Done, Failed int
	// Reason is the most frequent cause, for the one line that the user sees.
	Reason string
}

// Error is one line.
func (e *PartialError) Error() string {
	s := fmt.Sprintf("%d of %d failed", e.Failed, e.Done+e.Failed)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// ExitCode maps a verb's error to the program's exit code.
func ExitCode(err error) int {
	var usage *UsageError
	var partial *PartialError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &partial):
		return ExitPartial
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.Is(err, schemas.KindNotFound), errors.Is(err, schemas.KindUnknownModel):
		return ExitNotFound
	case errors.Is(err, schemas.KindPolicy), errors.Is(err, schemas.KindAttestation):
		return ExitRefused
	}
	return ExitError
}
