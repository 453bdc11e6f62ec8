package gateway

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/tracing"
)

// metrics count what the gateway does. Labels are the route and the status only: no key, tenant or job.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	flying   prometheus.Gauge
	spent    prometheus.Counter
}

// newMetrics makes the metrics and registers them, when there is somewhere to register.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cocoon_gateway_requests_total", Help: "Requests by route and HTTP status.",
		}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cocoon_gateway_request_duration_seconds", Help: "Time from a request's arrival to the end of its answer, by route.",
			Buckets: []float64{.01, .03, .1, .3, 1, 3, 10, 30, 100, 300},
		}, []string{"route"}),
		flying: prometheus.NewGauge(prometheus.GaugeOpts{Name: "cocoon_gateway_requests_in_flight", Help: "Requests that wait for their answer."}),
		spent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cocoon_gateway_spent_nanoton_total", Help: "What receipts have charged for inference requests, in nanoTON; batches are not in it.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.flying, m.spent} {
		if err := r.Register(c); err != nil {
			return nil, schemas.Errorf(schemas.KindConflict, "register metrics: %w", err)
		}
	}
	return m, nil
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// measure counts a request around its handler. Status 0 is a client that went away before it was answered.
func (m *metrics) measure(mux *http.ServeMux, tracer *tracing.Tracer, w http.ResponseWriter, r *http.Request) {
	_, route := mux.Handler(r)
	begun := time.Now()
	m.flying.Inc()
	sw := &statusWriter{ResponseWriter: w}
	if ctx, span := tracer.Start(tracer.Incoming(r.Context(), r.Header), "gateway.request"); span != nil {
		r = r.WithContext(ctx)
		defer func() { span.Route(route, sw.status); span.End(nil) }()
	}
	mux.ServeHTTP(sw, r)
	m.flying.Dec()
	m.requests.WithLabelValues(route, strconv.Itoa(sw.status)).Inc()
	m.seconds.WithLabelValues(route).Observe(time.Since(begun).Seconds())
}
