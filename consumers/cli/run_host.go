package cli

import (
	"context"
	"errors"

	"github.com/cocoon-network/cocoon/consumers/fleet"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// HostOptions say what RunHost runs.
type HostOptions struct {
	// Worker is how each worker runs. Its Models are those that the host can serve (empty: all that the policy admits);
	// each worker serves one of them.
	Worker WorkerOptions
	// Slots is how many jobs one worker holds at a time, for the decision how many are needed; 0 means 16.
	Slots int
	// Default bounds the workers of a model while the FLEET bucket says nothing about it; zero means 0 to 1.
	Default streams.FleetModel
	// Pace says how fast the number of workers follows the backlog.
	Pace fleet.Pace
}

// defaultHostSlots is HostOptions.Slots when it is 0.
const defaultHostSlots = 16

// RunHost runs as many workers per model on this host as the backlog asks for, within the bounds that operators wrote into
// the FLEET bucket (`cocoon consumers scale`), until ctx ends and all of them have drained. Every worker opens an engine
// of its own, and closes it when it is stopped: with a minimum of 0 an idle model costs nothing.
func RunHost(ctx context.Context, o HostOptions) error {
	if err := o.Worker.check(); err != nil {
		return err
	}
	if o.Slots == 0 {
		o.Slots = defaultHostSlots
	}
	if o.Default == (streams.FleetModel{}) {
		o.Default.Max = 1
	}
	models, err := servable(ctx, o.Worker)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil
		}
		return err
	}
	c := fleet.Config{
		Look: fleet.FromBus(o.Worker.Bus, o.Worker.Host), Pace: o.Pace, Logger: o.Worker.Log,
		Start: func(ctx context.Context, model schemas.ModelID, _ int) error {
			w := o.Worker
			w.Models = []string{string(model)}
			return RunWorker(ctx, w)
		},
	}
	for _, m := range models {
		c.Models = append(c.Models, fleet.Model{ID: m.ID, Route: streams.RouteOf(&m), Slots: o.Slots, Default: o.Default})
	}
	host, err := fleet.New(c)
	if err != nil {
		return err
	}
	return host.Run(ctx)
}

// servable are the models that this host can serve by the policy and the catalogue in force.
func servable(ctx context.Context, o WorkerOptions) ([]schemas.Model, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f, err := newFollowing(&o)
	if err != nil {
		return nil, err
	}
	defer f.wait()
	defer cancel()
	if err := f.follow(ctx); err != nil {
		return nil, err
	}
	return f.models()
}
