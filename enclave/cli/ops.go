//go:build !worker

package cli

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// opsTimeout bounds one request to the operator's address.
const opsTimeout = 10 * time.Second

// serveOps serves /metrics, /healthz (the process lives) and /readyz (it reaches the message system) until stop is called.
func serveOps(address string, metrics prometheus.Gatherer, bus *streams.Bus, log *slog.Logger) (stop func(), err error) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := bus.Flush(r.Context()); err != nil {
			http.Error(w, "the message system is away", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, cli.Usagef("--metrics: %w", err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: opsTimeout, WriteTimeout: opsTimeout}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Warn("metrics are no longer served", "error", err)
		}
	}()
	return func() {
		_ = server.Close() // what was being served may end early
		<-done
	}, nil
}
