package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// opsTimeout bounds one request to an operators' address.
const opsTimeout = 10 * time.Second

// Ops is the address at which a process shows operators how it is: /metrics for Prometheus, /healthz (it lives) and
// /readyz (it can work).
type Ops struct {
	// Address is where it listens; empty serves nothing.
	Address string
	// Metrics are gathered for /metrics.
	Metrics prometheus.Gatherer
	// Ready says why the process cannot work now, for a person; nil means that it can as long as it lives.
	Ready func(ctx context.Context) error
	// Log hears when serving ends unasked. nil discards.
	Log *slog.Logger
}

// Start serves until stop is called. A taken or malformed address is a UsageError.
func (o Ops) Start(ctx context.Context) (stop func(), err error) {
	if o.Address == "" {
		return func() {}, nil
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Address)
	if err != nil {
		return nil, Usagef("--metrics: %w", err)
	}
	server := &http.Server{Handler: o.handler(), ReadHeaderTimeout: opsTimeout, WriteTimeout: opsTimeout}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			o.Log.Warn("metrics are no longer served", "error", err)
		}
	}()
	return func() {
		_ = server.Close() // what is being served may end early
		<-done
	}, nil
}

// Run serves until ctx ends.
func (o Ops) Run(ctx context.Context) error {
	stop, err := o.Start(ctx)
	if err != nil {
		return err
	}
	<-ctx.Done()
	stop()
	return nil
}

// handler routes the three paths.
func (o Ops) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if o.Ready != nil {
			if err := o.Ready(r.Context()); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}
