package fleet

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Defaults and limits of a host.
const (
	DefaultEvery = 2 * time.Second
	// MaxWorkersPerModel bounds the workers of one model on one host, whatever the operators write.
	MaxWorkersPerModel = 256
	minRestart         = time.Second
	maxRestart         = time.Minute
)

// Model is a model that a host can serve.
type Model struct {
	// ID and Route name it.
	ID    schemas.ModelID
	Route streams.Route
	// Slots is how many jobs one worker holds at a time.
	Slots int
	// Default bounds its workers while the FLEET bucket says nothing about it.
	Default streams.FleetModel
}

// Config says what a host can run. Models, Look and Start are required.
type Config struct {
	// Models are those the host has the weights and the room for.
	Models []Model
	// Look tells what is going on; see FromBus.
	Look Look
	// Start runs one worker for a model until ctx ends, drained. n counts the workers of that model that this host has
	// ever started. An error is logged and the worker started again after a while.
	Start func(ctx context.Context, model schemas.ModelID, n int) error
	// Every is the time between two decisions; 0 means DefaultEvery.
	Every time.Duration
	// Pace says how fast the number of workers follows the backlog.
	Pace Pace
	// Logger is optional.
	Logger *slog.Logger
}

// Host runs workers. Make one with New and call Run once.
type Host struct {
	c     Config
	log   *slog.Logger
	crews []*crew
}

// New checks the configuration.
func New(c Config) (*Host, error) {
	if len(c.Models) == 0 {
		return nil, schemas.FieldError("models", "must name at least one model")
	}
	if c.Look == nil || c.Start == nil {
		return nil, schemas.FieldError("look", "look and start are required")
	}
	if c.Every == 0 {
		c.Every = DefaultEvery
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Host{c: c, log: c.Logger}
	for _, m := range c.Models {
		if err := m.Route.Check(); err != nil {
			return nil, err
		}
		h.crews = append(h.crews, &crew{
			host: h, model: m, bounds: m.Default, scaler: scaler{pace: c.Pace.withDefaults()}, restart: minRestart,
		})
	}
	return h, nil
}

// Run starts and stops workers until ctx ends, then waits until all have drained.
func (h *Host) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	tick := time.NewTicker(h.c.Every)
	defer tick.Stop()
	for {
		news, err := h.c.Look(ctx)
		if err != nil && ctx.Err() == nil {
			h.log.Warn("the backlog is unknown: the number of workers stays", "error", err)
		}
		for _, c := range h.crews {
			c.decide(ctx, &workers, news, err == nil)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Workers is the number of workers per model slug, those that drain not counted.
func (h *Host) Workers() map[string]int {
	n := map[string]int{}
	for _, c := range h.crews {
		n[c.model.Route.Slug] = c.size()
	}
	return n
}

// crew is the workers of one model.
type crew struct {
	host   *Host
	model  Model
	bounds streams.FleetModel
	scaler scaler
	last   Load // as it was last seen

	// mu guards the fields below, which ending workers change.
	mu      sync.Mutex
	stops   []*member
	started int
	// notBefore is when a worker may be started again after one has failed.
	notBefore time.Time
	restart   time.Duration
}

// member is one running worker.
type member struct {
	stop  context.CancelFunc
	begun time.Time
}

// size is the number of workers that do not drain.
func (c *crew) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.stops)
}

// decide brings the number of workers to what the news ask for.
func (c *crew) decide(ctx context.Context, workers *sync.WaitGroup, news News, fresh bool) {
	if fresh {
		c.last = news.Load[c.model.Route.Slug]
		c.bounds = c.model.Default
		if b, ok := news.Bounds[c.model.Route.Slug]; ok {
			c.bounds = b
		}
	}
	have := c.size()
	want := max(min(have, c.bounds.Max), c.bounds.Min)
	if fresh {
		want = c.scaler.next(time.Now(), have, Demand{
			Waiting: c.last.Waiting, Held: c.last.Held, Others: c.last.Others, Slots: c.model.Slots,
			Min: c.bounds.Min, Max: c.bounds.Max,
		})
	}
	want = min(max(want, 0), MaxWorkersPerModel)
	if want != have {
		c.host.log.Info("the number of workers changes", "model", c.model.Route.Slug, "have", have, "want", want,
			"waiting", c.last.Waiting, "held", c.last.Held)
	}
	for ; have < want && ctx.Err() == nil && c.mayStart(); have++ {
		c.start(ctx, workers)
	}
	for ; have > want; have-- {
		c.stopNewest()
	}
}

// mayStart reports whether the pause after a failed worker is over.
func (c *crew) mayStart() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !time.Now().Before(c.notBefore)
}

// start begins one worker.
func (c *crew) start(ctx context.Context, workers *sync.WaitGroup) {
	ctx, stop := context.WithCancel(ctx)
	m := &member{stop: stop, begun: time.Now()}
	c.mu.Lock()
	c.started++
	n := c.started
	c.stops = append(c.stops, m)
	c.mu.Unlock()
	workers.Go(func() {
		defer stop()
		c.ended(ctx, m, c.host.c.Start(ctx, c.model.ID, n))
	})
}

// ended forgets a worker. One that was not stopped and failed holds the next start back, longer each time until one has
// lived for a while.
func (c *crew) ended(ctx context.Context, m *member, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stops = slices.DeleteFunc(c.stops, func(other *member) bool { return other == m })
	if ctx.Err() != nil || err == nil {
		return
	}
	if time.Since(m.begun) > maxRestart {
		c.restart = minRestart
	}
	c.host.log.Error("a worker failed", "model", c.model.Route.Slug, "error", err, "after", c.restart)
	c.notBefore = time.Now().Add(c.restart)
	c.restart = min(2*c.restart, maxRestart)
}

// stopNewest lets the worker that began last drain.
func (c *crew) stopNewest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.stops) - 1
	if last < 0 {
		return
	}
	c.stops[last].stop()
	c.stops = c.stops[:last]
}
