package gateway_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cocoon-network/cocoon/producers/gateway"
	"github.com/cocoon-network/cocoon/producers/producerstest"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := setup(t, producerstest.Echo, func(o *gateway.Options) { o.Metrics = registry })
	for _, body := range []string{string(producerstest.Ask("x", "")), string(producerstest.Ask("x", `,"stream":true`)), `{`} {
		read(t, b.post(t, "/v1/chat/completions", body))
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	if got["cocoon_gateway_requests_total POST /v1/chat/completions 200"] != 2 || got["cocoon_gateway_requests_total POST /v1/chat/completions 400"] != 1 ||
		got["cocoon_gateway_requests_in_flight"] != 0 || got["cocoon_gateway_spent_nanoton_total"] == 0 {
		t.Errorf("metrics = %v", got)
	}
}
