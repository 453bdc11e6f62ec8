package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/tracing"
)

// Client is what the gateway needs of a [producers.Client].
type Client interface {
	batch.Client
	Submit(ctx context.Context, j producers.Job) (*producers.Handle, error)
	Get(ctx context.Context, id schemas.JobID) (*producers.Status, error)
	Price(ctx context.Context, j producers.Job) (producers.Cost, error)
	Derive(label string) [32]byte
}

var _ Client = (*producers.Client)(nil)

// Defaults of Options.
const (
	DefaultKeepAlive     = 15 * time.Second
	DefaultMaxConcurrent = 1024
	DefaultWriteTimeout  = 30 * time.Second
	DefaultBodyTimeout   = 60 * time.Second
)

// Options configure a gateway. Client is required.
type Options struct {
	// Client submits the jobs.
	Client Client
	// Keys are the API keys that may call; nil lets anyone in who reaches the listener.
	Keys *Keys
	// Dir is where files and batches are kept; empty turns /v1/files and /v1/batches off.
	Dir string
	// Detach lets a job go on when its HTTP client goes away. Default: it is cancelled, unless it has an idempotency key,
	// with which the client can come back for the answer.
	Detach bool
	// KeepAlive is the pause after which a stream without events gets a comment. Default 15 s.
	KeepAlive time.Duration
	// MaxConcurrent bounds the requests that wait for an answer; one more is 429. Default 1,024.
	MaxConcurrent int
	// WriteTimeout bounds one write to a client that does not read. Default 30 s.
	WriteTimeout time.Duration
	// BodyTimeout bounds the wait for the next bytes of a request's body. Default 60 s.
	BodyTimeout time.Duration
	// Metrics is where the gateway's Prometheus metrics are registered; nil keeps them to itself.
	Metrics prometheus.Registerer
	// Tracer opens a span for each request, below the application's own (header traceparent); nil opens none.
	Tracer *tracing.Tracer
	// Logger hears about requests, never about their content. nil discards.
	Logger *slog.Logger
}

// withDefaults fills zero values.
func (o Options) withDefaults() (Options, error) {
	if o.Client == nil {
		return o, schemas.FieldError("Client", "is required")
	}
	for _, d := range []struct {
		v       *time.Duration
		initial time.Duration
	}{{&o.KeepAlive, DefaultKeepAlive}, {&o.WriteTimeout, DefaultWriteTimeout}, {&o.BodyTimeout, DefaultBodyTimeout}} {
		if *d.v <= 0 {
			*d.v = d.initial
		}
	}
	if o.MaxConcurrent <= 0 {
		o.MaxConcurrent = DefaultMaxConcurrent
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// Gateway is OpenAI's API. It is an http.Handler, safe for concurrent use.
type Gateway struct {
	o     Options
	mux   *http.ServeMux
	salt  string
	slots chan struct{}
	files *files
	jobs  *batches
	meter *metrics
	// listing is what operators were shown of the batches last.
	listing listing

	mu    sync.Mutex // guards guids
	guids guidTable
}

// New returns a gateway.
func New(o Options) (*Gateway, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	salt := o.Client.Derive("gateway/cache-salt/v1")
	g := &Gateway{o: o, slots: make(chan struct{}, o.MaxConcurrent), salt: hex.EncodeToString(salt[:16]), guids: newGUIDTable()}
	if g.meter, err = newMetrics(o.Metrics); err != nil {
		return nil, err
	}
	if o.Dir != "" {
		if g.files, err = openFiles(o.Dir); err != nil {
			return nil, err
		}
		g.jobs = newBatches(o.Dir, g)
	}
	g.routes()
	return g, nil
}

// routes is the one table of what is served.
func (g *Gateway) routes() {
	g.mux = http.NewServeMux()
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request, *caller) error) {
		g.mux.HandleFunc(pattern, g.guard(h))
	}
	for _, url := range openai.Endpoints() {
		handle("POST "+url, g.infer)
	}
	handle("GET /v1/models", g.listModels)
	handle("GET /v1/models/{id...}", g.getModel)
	handle("GET /v1/receipts/{job}", g.getReceipt)
	handle("POST /v1/files", g.postFile)
	handle("GET /v1/files", g.listFiles)
	handle("GET /v1/files/{id}", g.getFile)
	handle("GET /v1/files/{id}/content", g.getContent)
	handle("GET /v1/files/{id}/cost-estimate", g.getEstimate)
	handle("DELETE /v1/files/{id}", g.deleteFile)
	handle("POST /v1/batches", g.postBatch)
	handle("GET /v1/batches", g.listBatches)
	handle("GET /v1/batches/{id}", g.getBatch)
	handle("POST /v1/batches/{id}/cancel", g.cancelBatch)
	g.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	g.mux.HandleFunc("GET /readyz", g.ready)
	g.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		g.refuse(w, r, &schemas.Error{Kind: schemas.KindNotFound, Field: "url", Message: "there is no " + r.Method + " " + clip(r.URL.Path)})
	})
}

// clip keeps hostile paths short.
func clip(s string) string {
	const limit = 128
	return s[:min(len(s), limit)]
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Request-Id", "req_"+strings.ToLower(rand.Text()))
	h.Set("X-Cocoon-Environment", string(g.o.Client.Environment()))
	h.Set("X-Content-Type-Options", "nosniff")
	g.extend(w) // the time limit of an earlier request's last write still lies on the connection
	g.meter.measure(g.mux, g.o.Tracer, w, r)
}

// ready answers whether the network can be reached and its documents verify.
func (g *Gateway) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
	defer cancel()
	if _, err := g.o.Client.Catalogue(ctx); err != nil {
		g.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// Run runs the batches, those that an earlier process left included, until ctx ends. It must be called once; a gateway
// without Dir has nothing to run and only waits.
func (g *Gateway) Run(ctx context.Context) error {
	if g.jobs == nil {
		<-ctx.Done()
		return nil
	}
	return g.jobs.run(ctx)
}

// Server returns an http.Server with the limits that a gateway needs. Serve it with a listener of your own.
func (g *Gateway) Server() *http.Server {
	return &http.Server{
		Handler:           g,
		ReadHeaderTimeout: 10 * time.Second, // a client that dribbles its header loses its connection
		IdleTimeout:       time.Minute,      // ten thousand idle connections are gone after it
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(g.o.Logger.Handler(), slog.LevelDebug),
	}
}
