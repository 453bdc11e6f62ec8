package control

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// lookers is the number of queues whose oldest job is looked up at one time.
const lookers = 16

// coolPolls is the number of looks in a row at which a split queue must be empty before it is joined.
const coolPolls = 30

// gauges knows what waits. It asks the leaders of the streams once per Options.Poll, whoever reads it.
type gauges struct {
	s *Service
	// mu guards what follows. Readers get copies.
	mu     sync.Mutex
	list   []streams.Backlog
	dead   uint64
	looked time.Time
	took   time.Duration
	counts map[schemas.Status]uint64
	// cool counts the looks at which a split queue was empty; only run uses it.
	cool map[streams.Queue]int
}

func newGauges(s *Service) *gauges {
	return &gauges{s: s, counts: map[schemas.Status]uint64{}, cool: map[streams.Queue]int{}}
}

// ended counts a job that control gave its outcome.
func (g *gauges) ended(status schemas.Status) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts[status]++
}

// run looks at all queues again and again until ctx ends.
func (g *gauges) run(ctx context.Context) error {
	for {
		if err := g.look(ctx); err != nil {
			return err
		}
		if !pause(ctx, g.s.o.Poll) {
			return ctx.Err()
		}
	}
}

// serve answers those who ask what waits.
func (g *gauges) serve(ctx context.Context) error { return g.s.bus.ServeBacklogs(ctx, g.Backlogs) }

// Backlogs returns what waited at the last look, sorted by queue.
func (g *gauges) Backlogs() []streams.Backlog {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]streams.Backlog(nil), g.list...)
}

// Backlogs returns what waited at the last look, sorted by queue.
func (s *Service) Backlogs() []streams.Backlog { return s.gauges.Backlogs() }

// look takes one look at all queues.
func (g *gauges) look(ctx context.Context) error {
	began := time.Now()
	shards, err := g.s.bus.Shards(ctx)
	if err != nil {
		return err
	}
	var all []streams.Backlog
	for _, shard := range shards {
		list, err := g.s.bus.Queues(ctx, shard)
		if err != nil {
			return err
		}
		g.s.demand.have(shard, list)
		all = append(all, list...)
	}
	if err := g.ages(ctx, all); err != nil {
		return err
	}
	dead, err := g.s.bus.DeadLetterState(ctx)
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.list, g.dead, g.looked, g.took = all, dead.Count, time.Now(), time.Since(began)
	g.mu.Unlock()
	return g.lanes(ctx, all)
}

// ages fills in the age of the oldest job of each queue that has any.
func (g *gauges) ages(ctx context.Context, list []streams.Backlog) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookers)
	for i := range list {
		l := &list[i]
		if l.Pending+l.InFlight == 0 {
			continue
		}
		group.Go(func() error {
			at, ok, err := g.s.bus.OldestQueued(ctx, l.Queue())
			if ok {
				l.Oldest = max(0, time.Since(at))
			}
			return err
		})
	}
	return group.Wait()
}

// lanes splits queues that have become hot and joins those that have been empty for a while.
func (g *gauges) lanes(ctx context.Context, list []streams.Backlog) error {
	for _, l := range list {
		q := l.Queue()
		if l.Lanes > 1 && l.Pending+l.InFlight == 0 {
			g.cool[q]++
		} else {
			delete(g.cool, q)
		}
		var err error
		switch {
		case l.Lanes == 1 && l.Pending >= g.s.o.Hot:
			g.s.log.Info("control: a queue is hot", "model", q.Route.Slug, "class", q.Class, "pending", l.Pending)
			err = g.s.bus.SplitQueue(ctx, q)
		case g.cool[q] >= coolPolls:
			delete(g.cool, q)
			err = g.s.bus.JoinQueue(ctx, q)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// queueLabels are the labels of a queue. There is never one for a tenant or a job.
var queueLabels = []string{"model", "class", "shard"}

// The metrics of control.
var (
	descBacklog = prometheus.NewDesc("cocoon_backlog_jobs", "Jobs that wait for a worker.", queueLabels, nil)
	descFlight  = prometheus.NewDesc("cocoon_in_flight_jobs", "Jobs that are at workers.", queueLabels, nil)
	descAgain   = prometheus.NewDesc("cocoon_redelivered_jobs", "Jobs at workers that were delivered before.", queueLabels, nil)
	descOldest  = prometheus.NewDesc("cocoon_oldest_job_age_seconds", "Age of the oldest job that is not done.", queueLabels, nil)
	descLanes   = prometheus.NewDesc("cocoon_queue_lanes", "Parts a queue is split into.", queueLabels, nil)
	descDead    = prometheus.NewDesc("cocoon_dlq_jobs", "Dead letters.", nil, nil)
	descEnded   = prometheus.NewDesc("cocoon_control_outcomes_total", "Outcomes made by this control service.", []string{"status"}, nil)
	descLooked  = prometheus.NewDesc("cocoon_backlog_look_timestamp_seconds", "When the queues were last looked at.", nil, nil)
	descTook    = prometheus.NewDesc("cocoon_backlog_look_seconds", "How long that took.", nil, nil)
	descStand   = prometheus.NewDesc("cocoon_workers_standing", "Workers by standing.", []string{"standing"}, nil)
)

// Describe implements prometheus.Collector.
func (s *Service) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descBacklog, descFlight, descAgain, descOldest, descLanes, descDead, descEnded, descLooked, descTook, descStand} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. It reads what the last look found and asks no server.
func (s *Service) Collect(ch chan<- prometheus.Metric) {
	g := s.gauges
	g.mu.Lock()
	defer g.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, l := range g.list {
		labels := []string{l.Route.Slug, string(l.Class), strconv.Itoa(l.Route.Shard)}
		gauge(descBacklog, float64(l.Pending), labels...)
		gauge(descFlight, float64(l.InFlight), labels...)
		gauge(descAgain, float64(l.Redelivered), labels...)
		gauge(descOldest, l.Oldest.Seconds(), labels...)
		gauge(descLanes, float64(l.Lanes), labels...)
	}
	gauge(descDead, float64(g.dead))
	for status, n := range g.counts {
		ch <- prometheus.MustNewConstMetric(descEnded, prometheus.CounterValue, float64(n), string(status))
	}
	if !g.looked.IsZero() {
		gauge(descLooked, float64(g.looked.UnixMilli())/1000)
		gauge(descTook, g.took.Seconds())
	}
	for standing, n := range s.records.standings() {
		gauge(descStand, float64(n), string(standing))
	}
}

var _ prometheus.Collector = (*Service)(nil)
