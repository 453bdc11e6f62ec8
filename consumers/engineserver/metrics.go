package engineserver

import (
	"maps"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cocoon-network/cocoon/consumers"
)

// Counting is what an engine may offer besides: counters that only grow, by the names in metricNames.
type Counting interface{ Counts() map[string]float64 }

// Gauges that every engine has.
var (
	running = gauge("num_requests_running", "Requests in the running batch.")
	waiting = gauge("num_requests_waiting", "Requests that wait for a slot.")
	slots   = gauge("max_num_seqs", "Most requests in the batch.")
	kvUsage = gauge("kv_cache_usage_perc", "Key-value memory in use or promised, 0 to 1.")
	kvTotal = gauge("kv_cache_tokens", "Key-value memory in tokens.")
	healthy = gauge("engine_healthy", "1 while the engine can serve.")
)

// counters by the names that Counting gives.
var counters = map[string]*prometheus.Desc{
	"steps":         counter("iterations_total", "Forward passes."),
	"step_tokens":   counter("iteration_tokens_total", "Tokens in forward passes."),
	"prompt":        counter("prompt_tokens_total", "Prompt tokens of all requests."),
	"generated":     counter("generation_tokens_total", "Generated tokens."),
	"shared":        counter("prefix_cache_hits_total", "Prompt tokens that were shared instead of computed."),
	"finished":      counter("request_success_total", "Requests that ended well."),
	"failed":        counter("request_failure_total", "Requests that failed."),
	"cancelled":     counter("request_cancelled_total", "Requests that were cancelled or too late."),
	"preempted":     counter("num_preemptions_total", "Sequences that gave way when memory ran out."),
	"wipes":         counter("kv_cache_wipes_total", "Times that memory of departed tenants was overwritten."),
	"step_failures": counter("iteration_failures_total", "Forward passes that failed."),
}

func gauge(name, help string) *prometheus.Desc   { return desc(name, help) }
func counter(name, help string) *prometheus.Desc { return desc(name, help) }

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("cocoon:"+name, help, []string{"model_name"}, nil)
}

// metrics serves /metrics.
func (s *Server) metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{s})
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// collector asks the engines when somebody scrapes.
type collector struct{ s *Server }

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{running, waiting, slots, kvUsage, kvTotal, healthy} {
		to <- d
	}
	for _, d := range counters {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	c.s.mu.RLock()
	engines := maps.Clone(c.s.engines)
	c.s.mu.RUnlock()
	for name, e := range engines {
		load := e.Capacity()
		send := func(d *prometheus.Desc, v float64) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, name)
		}
		known := func(d *prometheus.Desc, v int) {
			if v != consumers.Unknown {
				send(d, float64(v))
			}
		}
		known(running, load.Running)
		known(waiting, load.Waiting)
		known(slots, load.Slots)
		if load.KVTotal > 0 && load.KVUsed >= 0 {
			send(kvUsage, float64(load.KVUsed)/float64(load.KVTotal))
			send(kvTotal, float64(load.KVTotal))
		}
		send(healthy, map[bool]float64{true: 1}[load.Healthy])
		if e, ok := e.(Counting); ok {
			for k, v := range e.Counts() {
				if d := counters[k]; d != nil {
					to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, name)
				}
			}
		}
	}
}
