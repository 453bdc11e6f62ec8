package cli

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/schemas"
)

// brokerMetrics are what a broker shows to Prometheus. Labels are from fixed lists only.
type brokerMetrics struct {
	decisions *prometheus.CounterVec
	dropped   prometheus.Counter
}

// newBrokerMetrics registers the metrics; r may be nil: nobody looks.
func (s *brokerService) newBrokerMetrics(r prometheus.Registerer) (*brokerMetrics, error) {
	m := &brokerMetrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cocoon_broker_decisions_total", Help: "Decisions of the broker; kind is empty when it granted.",
		}, []string{"verb", "kind"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cocoon_broker_audit_dropped_total", Help: "Decisions that were not stored because the audit stream was too slow.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.decisions, m.dropped,
		gauge("cocoon_policy_expires_timestamp_seconds", "When the policy in force expires.", func() float64 {
			policy, err := s.keeper.Current()
			if err != nil {
				return 0
			}
			return float64(policy.Expires.Unix())
		}),
		gauge("cocoon_catalogue_expires_timestamp_seconds", "When the catalogue in force expires.", func() float64 {
			catalogue, err := s.catalogues.Current()
			if err != nil {
				return 0
			}
			return float64(catalogue.Expires.Unix())
		}),
		gauge("cocoon_epoch_ends_timestamp_seconds", "When the keys that jobs are sealed to now are replaced.", func() float64 {
			return float64(s.broker.EpochEnds().Unix())
		}),
	} {
		if err := r.Register(c); err != nil {
			return nil, schemas.Errorf(schemas.KindInternal, "metrics: %w", err)
		}
	}
	return m, nil
}

// gauge is a value that is read when somebody looks.
func gauge(name, help string, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
}

// count counts one decision.
func (m *brokerMetrics) count(d broker.Decision) {
	kind := ""
	if d.Kind != schemas.KindUnknown {
		kind = d.Kind.String()
	}
	m.decisions.WithLabelValues(string(d.Verb), kind).Inc()
}
