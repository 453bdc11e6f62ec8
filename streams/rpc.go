package streams

import (
	"context"
	"time"
)

// Call sends a request and returns the answer. An error that the other side returned arrives with its kind, field, message
// and RetryAfter. KindUnavailable: nobody answered before ctx ended or Config.RequestTimeout passed (the request may have
// been carried out); nothing is repeated here.
func (b *Bus) Call(ctx context.Context, subject string, request []byte) ([]byte, error) {
	panic("unfinished")
}

// Request is one request to a [Bus.Serve] handler.
type Request struct {
	// Subject is the subject it came on; Tokens are its parts.
	Subject string
	Tokens  []string
	// Body is the request itself, at most ServeOptions.MaxBody bytes.
	Body []byte
}

// Handler answers one request. A *schemas.Error is sent to the caller without its cause; any other error becomes
// KindInternal without its text.
type Handler func(ctx context.Context, r Request) ([]byte, error)

// ServeOptions say how requests are served.
type ServeOptions struct {
	// Subject may hold wildcards.
	Subject string
	// Queue is the group of servers among which requests are shared. Empty: every server gets every request.
	Queue string
	// Workers bounds the requests handled at one time. Default 64.
	Workers int
	// Backlog bounds the requests that wait for a worker; further ones are answered KindBusy. Default 1,024.
	Backlog int
	// MaxBody refuses larger requests with KindTooLarge. Default 1 MiB.
	MaxBody int
	// Timeout bounds one handler call. Default 30 s.
	Timeout time.Duration
}

// Serve answers requests until ctx ends; then it takes no more, waits for the running ones and returns nil.
func (b *Bus) Serve(ctx context.Context, o ServeOptions, h Handler) error { panic("unfinished") }
