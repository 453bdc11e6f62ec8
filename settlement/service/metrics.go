package service

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/settlement"
)

// scrapeTimeout bounds the look at ledger and stream that a scrape makes.
const scrapeTimeout = 5 * time.Second

// metric describes one figure of settlement.
func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("cocoon_settlement_"+name, help, labels, nil)
}

// The figures of settlement.
var (
	outcomesDesc = metric("outcomes_total", "Outcomes read since the process started, by what became of them.", "result")
	lagDesc      = metric("lag_outcomes", "Outcomes in the stream that are not booked yet.")
	amountDesc   = metric("amount_nanoton", "What the books hold, by whose it is.", "account")
	stoppedDesc  = metric("payouts_stopped", "1 while payouts are stopped.")
	upDesc       = metric("ledger_up", "1 when the ledger answered this scrape.")
)

// Describe implements prometheus.Collector.
func (s *Services) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{outcomesDesc, lagDesc, amountDesc, stoppedDesc, upDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. What cannot be read now is left out.
func (s *Services) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	stats := s.Intake.Stats()
	for result, n := range map[string]uint64{"booked": stats.Booked, "free": stats.Free, "rejected": stats.Rejected} {
		ch <- prometheus.MustNewConstMetric(outcomesDesc, prometheus.CounterValue, float64(n), result)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if lag, err := s.lag(ctx); err == nil {
		gauge(lagDesc, float64(lag))
	}
	p, err := s.ledger.Payouts(ctx)
	if err != nil {
		gauge(upDesc, 0)
		return
	}
	gauge(upDesc, 1)
	gauge(stoppedDesc, boolean(p.Stopped != ""))
	for account, n := range amounts(p) {
		gauge(amountDesc, float64(n), account)
	}
}

// amounts names the sums of the books.
func amounts(p settlement.PayoutState) map[string]schemas.NanoTON {
	return map[string]schemas.NanoTON{
		"tenants": p.Held, "owed": p.Owed, "inflight": p.Inflight, "paid": p.Paid, "fees": p.Fees, "gas": p.Gas, "treasury": p.Booked,
	}
}

// boolean is 1 or 0.
func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// lag is how many outcomes lie in the stream that are not booked.
func (s *Services) lag(ctx context.Context) (uint64, error) {
	last, err := s.Feed.Last(ctx)
	if err != nil {
		return 0, err
	}
	at, err := s.ledger.StreamPosition(ctx)
	if err != nil || at >= last {
		return 0, err
	}
	return last - at, nil
}

// ops is the operators' address of the services; ready means that the ledger answers.
func (s *Services) ops() (cli.Ops, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(s); err != nil {
		return cli.Ops{}, err
	}
	return cli.Ops{Address: s.metrics, Metrics: registry, Ready: func(ctx context.Context) error {
		_, err := s.ledger.Position(ctx)
		return err
	}}, nil
}
