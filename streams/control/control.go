package control

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Options of a control service. The zero value works, without reputation.
type Options struct {
	// Verify checks the signatures of an outcome's grant and receipt (receipt may be empty) and returns them. nil: no
	// reputation, because anybody's claims would count.
	Verify func(grant, receipt string) (schemas.Grant, schemas.Receipt, error)
	// Floor is the policy's floor of good behaviour now. nil: nobody is put on probation.
	Floor func() schemas.Reputation
	// Poll is how often queues are looked at. Default 2 s.
	Poll time.Duration
	// Hot is the number of waiting jobs at which a queue is split into lanes. Default 64.
	Hot uint64
	// Logger is optional.
	Logger *slog.Logger
}

// ExpirySlack is how long after a job's deadline control ends it; until then its worker may do so itself.
const ExpirySlack = 5 * time.Second

// Service is a control service. Several may run at the same time, and each may be killed at any time.
type Service struct {
	bus *streams.Bus
	o   Options
	log *slog.Logger

	demand  *demand
	index   *index
	gauges  *gauges
	stops   *stops
	records *records
}

// New prepares a control service.
func New(bus *streams.Bus, o Options) *Service {
	if o.Poll <= 0 {
		o.Poll = 2 * time.Second
	}
	if o.Hot == 0 {
		o.Hot = 64
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{bus: bus, o: o, log: o.Logger}
	s.demand = newDemand(s)
	s.index = newIndex(s)
	s.gauges = newGauges(s)
	s.stops = newStops(s)
	s.records = newRecords(s)
	return s
}

// Run serves until ctx ends and then returns nil. While the cluster is away it waits.
func (s *Service) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for name, part := range map[string]func(context.Context) error{
		"arrivals":     s.arrivals,
		"ensure":       s.demand.serve,
		"expiry":       s.index.run,
		"cancel":       s.stops.serve,
		"stopping":     s.stops.follow,
		"dead letters": s.dead,
		"queues":       s.gauges.run,
		"backlog":      s.gauges.serve,
		"reputation":   s.records.run,
	} {
		g.Go(func() error { return s.keep(ctx, name, part) })
	}
	return g.Wait()
}

// restartPause is the pause before a part that failed runs again.
const restartPause = time.Second

// keep runs one part again and again until ctx ends. The parts share nothing but indexes that they can rebuild, so that
// one that fails, say because the cluster is away, does not take the others with it.
func (s *Service) keep(ctx context.Context, name string, part func(context.Context) error) error {
	for {
		err := part(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.log.Warn("control: a part starts again", "part", name, "error", err)
		if !pause(ctx, restartPause) {
			return nil
		}
	}
}

// pause waits for d and reports false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// arrivals hears every stored job, for demand and for the index of deadlines.
func (s *Service) arrivals(ctx context.Context) error {
	feed, err := s.bus.Arrivals(ctx)
	if err != nil {
		return err
	}
	defer feed.Close()
	s.index.suspect() // what came before the subscription was not heard
	for {
		a, err := feed.Next(ctx)
		if err == streams.ErrMissed {
			s.index.suspect()
			continue
		}
		if err != nil {
			return err
		}
		s.index.add(a)
		s.demand.arrived(a.Queue)
	}
}
