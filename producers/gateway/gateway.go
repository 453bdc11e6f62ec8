package gateway

import (
	"context"
	"iter"
	"log/slog"
	"net/http"
	"time"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/schemas"
)

// Client is what the gateway needs of a [producers.Client].
type Client interface {
	batch.Client
	Do(ctx context.Context, j producers.Job) (*producers.Answer, error)
	Stream(ctx context.Context, j producers.Job) iter.Seq2[producers.Event, error]
	Get(ctx context.Context, id schemas.JobID) (*producers.Status, error)
}

var _ Client = (*producers.Client)(nil)

// Options configure a gateway. Client is required.
type Options struct {
	// Client submits the jobs.
	Client Client
	// Keys are the API keys that may call; nil lets anyone in who reaches the listener.
	Keys *Keys
	// Dir is where files and batches are kept; empty turns /v1/files and /v1/batches off.
	Dir string
	// Detach lets a job go on when its HTTP client goes away. Default: it is cancelled.
	Detach bool
	// KeepAlive is the pause after which a stream without events gets a comment. Default 15 s.
	KeepAlive time.Duration
	// MaxConcurrent bounds the requests that wait for an answer; one more is 429. Default 1,024.
	MaxConcurrent int
	// WriteTimeout bounds one write to a client that does not read. Default 30 s.
	WriteTimeout time.Duration
	// Logger hears about requests, never about their content. nil discards.
	Logger *slog.Logger
}

// Gateway is OpenAI's API. It is an http.Handler.
type Gateway struct{}

// New returns a gateway.
func New(o Options) (*Gateway, error) { panic("unfinished") }

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { panic("unfinished") }

// Run takes up batches that an earlier process left and runs new ones until ctx ends. It must be called once.
func (g *Gateway) Run(ctx context.Context) error { panic("unfinished") }

// Server returns an http.Server with the limits that a gateway needs: header and body time limits, idle limits, and a
// bound on header size. Serve it with a listener of your own.
func (g *Gateway) Server() *http.Server { panic("unfinished") }

// Keys are API keys with limits. Only hashes are stored.
type Keys struct{}

// OpenKeys opens the key file, making it when there is none.
func OpenKeys(path string) (*Keys, error) { panic("unfinished") }

// Key describes an API key. The key itself is shown once, by Create.
type Key struct {
	// ID names the key, Name is the owner's label.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Hash is the SHA-256 of the key.
	Hash schemas.Hash `json:"hash"`
	// PerMinute bounds requests a minute; 0 means no bound.
	PerMinute int `json:"per_minute,omitempty"`
	// Cap bounds what the key may spend in all; 0 means no bound. Spent is what it has.
	Cap   schemas.NanoTON `json:"cap,omitempty"`
	Spent schemas.NanoTON `json:"spent,omitempty"`
	// Created is when it was made.
	Created time.Time `json:"created"`
}
