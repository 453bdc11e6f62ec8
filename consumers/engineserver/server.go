package engineserver

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/schemas"
)

// Options of a server.
type Options struct {
	// Trusted connections may say who the tenant is; set it for a socket that only the worker can reach.
	Trusted bool
	// Key, if set, is the bearer token that every request but /health must have.
	Key string
	// Load, if set, serves /models/load: it opens the engine of a model.
	Load func(ctx context.Context, model string) (consumers.Engine, error)
	// StuckAfter is how long one step may take before /health gives up on the engine; 0 means 2 minutes. It is for
	// engines that tell (see Stepper).
	StuckAfter time.Duration
	// DrainTimeout bounds the wait for running requests when the server stops; 0 means 30 seconds.
	DrainTimeout time.Duration
	// MaxBody bounds a request body; 0 means 64 MiB.
	MaxBody int64
	// Log gets requests that fail, without their text; nil discards.
	Log *slog.Logger
}

// Stepper is what an engine may offer besides: since when it has been computing, zero while it rests.
type Stepper interface{ Stepping() time.Time }

// Server serves engines by the names of their models.
type Server struct {
	o       Options
	started time.Time

	mu      sync.RWMutex // guards engines and draining
	engines map[string]consumers.Engine
	// draining is set once the server stops; /health tells.
	draining bool
}

// New makes a server without engines.
func New(o Options) *Server {
	if o.StuckAfter == 0 {
		o.StuckAfter = 2 * time.Minute
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 30 * time.Second
	}
	if o.MaxBody == 0 {
		o.MaxBody = 64 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{o: o, started: time.Now(), engines: map[string]consumers.Engine{}}
}

// Add serves an engine under a name. The server closes it when it stops. KindConflict: the name is taken.
func (s *Server) Add(name string, e consumers.Engine) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining:
		return &schemas.Error{Kind: schemas.KindUnavailable, Message: "the server stops"}
	case s.engines[name] != nil:
		return &schemas.Error{Kind: schemas.KindConflict, Field: "model", Message: "a model of this name is loaded"}
	}
	s.engines[name] = e
	return nil
}

// Unload drains an engine, closes it and forgets it.
func (s *Server) Unload(ctx context.Context, name string) error {
	s.mu.Lock()
	e := s.engines[name]
	delete(s.engines, name)
	s.mu.Unlock()
	if e == nil {
		return &schemas.Error{Kind: schemas.KindUnknownModel, Field: "model", Message: "no such model is loaded"}
	}
	return errors.Join(e.Drain(ctx), e.Close())
}

// names lists the models.
func (s *Server) names() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.engines))
}

// engine finds a model. A server with one model serves it under any name that is left out.
func (s *Server) engine(name string) (consumers.Engine, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.engines[name]; e != nil {
		return e, nil
	}
	if name == "" && len(s.engines) == 1 {
		for _, e := range s.engines {
			return e, nil
		}
	}
	return nil, &schemas.Error{Kind: schemas.KindUnknownModel, Field: "model", Message: "no such model is loaded"}
}

// Listen opens a unix socket ("unix:/path") that only this user may use, or a TCP address. A socket file that a dead
// process left is replaced; one that answers is not.
func Listen(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		return net.Listen("tcp", address)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, &schemas.Error{Kind: schemas.KindConflict, Field: "listen", Message: "somebody serves this socket already"}
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Run serves until ctx ends. Then it refuses new requests, waits for the running ones up to DrainTimeout, and closes the
// engines, which wipes their memory.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	const header, idle = 10 * time.Second, 2 * time.Minute
	web := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: header, IdleTimeout: idle, ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelWarn)}
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-inner.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.DrainTimeout)
		defer cancel()
		s.drain(grace)
		if err := web.Shutdown(grace); err != nil {
			return web.Close()
		}
		return nil
	})
	return g.Wait()
}

// drain empties and closes all engines.
func (s *Server) drain(ctx context.Context) {
	s.mu.Lock()
	s.draining = true
	engines := maps.Clone(s.engines)
	s.mu.Unlock()
	var wg sync.WaitGroup
	for name, e := range engines {
		wg.Go(func() {
			if err := e.Drain(ctx); err != nil {
				s.o.Log.Warn("requests were cut off", "model", name, "err", err)
			}
			if err := e.Close(); err != nil {
				s.o.Log.Error("the engine did not close", "model", name, "err", err)
			}
		})
	}
	wg.Wait()
}

// Handler is the HTTP interface.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{consumers.PathChat, consumers.PathCompletions, consumers.PathEmbeddings} {
		mux.HandleFunc("POST "+path, s.complete)
	}
	mux.HandleFunc("POST /tokenize", s.tokenize)
	mux.HandleFunc("GET /v1/models", s.models)
	mux.HandleFunc("GET /v1/models/{name...}", s.model)
	mux.HandleFunc("GET /health", s.health)
	mux.Handle("GET /metrics", s.metrics())
	if s.o.Load != nil {
		mux.HandleFunc("POST /models/load", s.load)
		mux.HandleFunc("POST /models/unload", s.unload)
	}
	return s.guarded(mux)
}

// guarded asks for the key.
func (s *Server) guarded(next http.Handler) http.Handler {
	if s.o.Key == "" {
		return next
	}
	want := []byte("Bearer " + s.o.Key)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" && subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			refuse(w, &schemas.Error{Kind: schemas.KindDenied, Message: "the key is missing or wrong"})
			return
		}
		next.ServeHTTP(w, r)
	})
}
