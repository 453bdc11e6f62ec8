package consumers

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/tracing"
	"github.com/cocoon-network/cocoon/streams"
)

// Defaults of a worker's Config.
const (
	DefaultDrainTimeout = 2 * time.Minute
	DefaultJobTimeout   = time.Hour
	DefaultStallTimeout = 2 * time.Minute
)

// Limits of a worker.
const (
	// MaxWorkerModels bounds the models of one worker.
	MaxWorkerModels = 32
	// MaxWorkerJobs bounds the jobs that one worker holds for one model, whatever its engine says.
	MaxWorkerJobs = 4096
)

// Config says what a worker serves and how. Bus, Session, Engines, Catalogue and Environment are required.
type Config struct {
	// Bus is the connection to the network. It stays the caller's.
	Bus *streams.Bus
	// Session is the worker's standing with the brokers; the worker attests and renews it by itself.
	Session *enclave.Session
	// Engines run the models. They stay the caller's; a worker that ends has drained them, which wipes what jobs left in
	// their memory.
	Engines map[schemas.ModelID]Engine
	// Catalogue returns the verified catalogue in force; it is asked often and must be cheap.
	Catalogue func() *schemas.Catalogue
	// PolicyChanged returns a channel that is closed when the policy changes; the worker then shows fresh evidence at
	// once. nil leaves it to the brokers to refuse the old session.
	PolicyChanged func() <-chan struct{}
	// Environment is shown to everybody: production or simulated.
	Environment schemas.Environment
	// Owner is shown to everybody; it must be the one of the Session.
	Owner schemas.Owner
	// Ask is the lowest price multiplier served: classes below it are not pulled. 0 serves all.
	Ask schemas.BasisPoints
	// Host and Version are shown to operators.
	Host, Version string
	// DrainTimeout is how long running jobs may take after the worker was told to end; then they go back to the queue.
	// 0 means DefaultDrainTimeout.
	DrainTimeout time.Duration
	// JobTimeout bounds one run of one job; 0 means DefaultJobTimeout. A job's own deadline may end it sooner.
	JobTimeout time.Duration
	// StallTimeout is how long a job that has begun to answer may stand still, on an engine where nothing else moves either,
	// before the engine is taken for hung; before its first sign of life a job has five times as long. 0 means
	// DefaultStallTimeout.
	StallTimeout time.Duration
	// Restart brings a hung engine back: it returns when the engine answers again, or an error to be tried again. nil
	// waits for the engine to recover by itself.
	Restart func(ctx context.Context, model schemas.ModelID) error
	// Guard says when the machine has no room for further jobs.
	Guard GuardConfig
	// Metrics count what happens; nil counts into the void.
	Metrics *Metrics
	// Tracer opens the network's spans of jobs; nil opens none.
	Tracer *tracing.Tracer
	// Logger hears what happens, never what jobs say: see logKeys. nil discards.
	Logger *slog.Logger
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.JobTimeout == 0 {
		c.JobTimeout = DefaultJobTimeout
	}
	if c.StallTimeout == 0 {
		c.StallTimeout = DefaultStallTimeout
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	c.Guard = c.Guard.withDefaults()
	return c
}

// check refuses what cannot work.
func (c *Config) check() error {
	switch {
	case c.Bus == nil:
		return schemas.FieldError("bus", "is required")
	case c.Session == nil:
		return schemas.FieldError("session", "is required")
	case c.Catalogue == nil:
		return schemas.FieldError("catalogue", "is required")
	case c.Environment != schemas.Production && c.Environment != schemas.Simulated:
		return schemas.FieldError("environment", "must be production or simulated")
	case len(c.Engines) == 0 || len(c.Engines) > MaxWorkerModels:
		return schemas.FieldError("engines", fmt.Sprintf("must be 1 to %d", MaxWorkerModels))
	case c.Ask > schemas.MaxMultiplier:
		return schemas.FieldError("ask", "is above 100x")
	case c.DrainTimeout < 0 || c.JobTimeout < 0 || c.StallTimeout < 0:
		return schemas.FieldError("timeouts", "must not be negative")
	}
	for id, engine := range c.Engines {
		if _, err := schemas.ParseModelID(string(id)); err != nil {
			return err
		}
		if engine == nil {
			return schemas.FieldError("engines", "has a nil engine")
		}
	}
	return nil
}
