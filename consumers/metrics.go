package consumers

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cocoon-network/cocoon/schemas"
)

// Metrics are the figures of a worker. Labels name the model (its slug), the class, and outcomes or kinds from fixed
// lists; never a tenant or a job. One Metrics may serve several workers of one process.
type Metrics struct {
	finished    *prometheus.CounterVec
	redelivered *prometheus.CounterVec
	given       *prometheus.CounterVec
	refused     *prometheus.CounterVec
	lost        prometheus.Counter
	receipts    *prometheus.CounterVec
	prompt      *prometheus.CounterVec
	generated   *prometheus.CounterVec
	running     *prometheus.GaugeVec
	slots       *prometheus.GaugeVec
	paused      prometheus.Gauge
	duration    *prometheus.HistogramVec
	wait        *prometheus.HistogramVec
	first       *prometheus.HistogramVec
	batch       prometheus.Histogram
}

// NewMetrics registers the figures of a worker with r; nil keeps them unregistered.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	seconds := func(name, help string, from float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(from, 2.5, 12),
		}, labels)
	}
	m := &Metrics{
		finished:    counter("cocoon_jobs_finished_total", "Jobs whose outcome this worker published first, by outcome.", "model", "class", "outcome"),
		redelivered: counter("cocoon_redeliveries_total", "Jobs that had been delivered before.", "model"),
		given:       counter("cocoon_jobs_returned_total", "Jobs given back to the queue, by reason.", "model", "kind"),
		refused:     counter("cocoon_grants_refused_total", "Grants the broker refused, by kind.", "kind"),
		lost:        prometheus.NewCounter(prometheus.CounterOpts{Name: "cocoon_leases_lost_total", Help: "Jobs dropped because their lease lapsed."}),
		receipts:    counter("cocoon_receipts_total", "Receipts signed and published.", "model"),
		prompt:      counter("cocoon_prompt_tokens_total", "Prompt tokens of published receipts, cached ones included.", "model"),
		generated:   counter("cocoon_generation_tokens_total", "Generated tokens of published receipts, reasoning included.", "model"),
		running:     gauge("cocoon_jobs_running", "Jobs this worker holds.", "model"),
		slots:       gauge("cocoon_job_slots", "Jobs this worker can hold.", "model"),
		paused:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "cocoon_worker_paused", Help: "1 while the worker takes no jobs."}),
		duration:    seconds("cocoon_job_duration_seconds", "From delivery to the stored outcome.", 0.002, "model", "class"),
		wait:        seconds("cocoon_job_queue_wait_seconds", "From sealing to delivery.", 0.002, "model", "class"),
		first:       seconds("cocoon_time_to_first_token_seconds", "From submission to the engine to its first token.", 0.001, "model"),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cocoon_grant_batch_jobs", Help: "Jobs per grant call.", Buckets: prometheus.ExponentialBuckets(1, 2, 7),
		}),
	}
	if r != nil {
		r.MustRegister(m.finished, m.redelivered, m.given, m.refused, m.lost, m.receipts, m.prompt, m.generated,
			m.running, m.slots, m.paused, m.duration, m.wait, m.first, m.batch)
	}
	return m
}

// lineMetrics are the figures of one model with their labels bound, so that the hot path looks nothing up.
type lineMetrics struct {
	all         *Metrics
	model       string
	redelivered prometheus.Counter
	receipts    prometheus.Counter
	prompt      prometheus.Counter
	generated   prometheus.Counter
	running     prometheus.Gauge
	slots       prometheus.Gauge
	first       prometheus.Observer
	duration    map[schemas.Class]prometheus.Observer
	wait        map[schemas.Class]prometheus.Observer
}

// of binds the figures to a model.
func (m *Metrics) of(model string) *lineMetrics {
	l := &lineMetrics{
		all: m, model: model,
		redelivered: m.redelivered.WithLabelValues(model),
		receipts:    m.receipts.WithLabelValues(model),
		prompt:      m.prompt.WithLabelValues(model),
		generated:   m.generated.WithLabelValues(model),
		running:     m.running.WithLabelValues(model),
		slots:       m.slots.WithLabelValues(model),
		first:       m.first.WithLabelValues(model),
		duration:    map[schemas.Class]prometheus.Observer{},
		wait:        map[schemas.Class]prometheus.Observer{},
	}
	for _, class := range schemas.Classes() {
		l.duration[class] = m.duration.WithLabelValues(model, string(class))
		l.wait[class] = m.wait.WithLabelValues(model, string(class))
	}
	return l
}

// finished counts a published outcome.
func (l *lineMetrics) finished(class schemas.Class, o *schemas.Outcome, u schemas.Usage, took time.Duration) {
	l.all.finished.WithLabelValues(l.model, string(class), string(o.Status)).Inc()
	l.duration[class].Observe(took.Seconds())
	if o.Receipt != "" {
		l.receipts.Inc()
		l.prompt.Add(float64(u.Prompt + u.Cached))
		l.generated.Add(float64(u.Completion + u.Reasoning))
	}
}

// returned counts a job that went back.
func (l *lineMetrics) returned(kind schemas.Kind) {
	l.all.given.WithLabelValues(l.model, kind.String()).Inc()
}
