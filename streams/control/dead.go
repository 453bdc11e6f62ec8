package control

import (
	"context"
	"errors"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// dead turns jobs that were delivered too often into dead letters, until ctx ends.
func (s *Service) dead(ctx context.Context) error {
	return s.bus.Exhaustions(ctx, s.exhausted)
}

// exhausted ends one job. Every step may be repeated, by this service or another.
func (s *Service) exhausted(ctx context.Context, e streams.Exhausted) error {
	j, err := s.bus.QueuedAt(ctx, e.Place.Stream, e.Place.Seq)
	if errors.Is(err, schemas.KindNotFound) {
		return nil // done after all
	}
	if err != nil {
		return err
	}
	cause := schemas.Errorf(schemas.KindPoison, "delivered %d times without an outcome", e.Deliveries)
	if err := s.bus.Bury(ctx, j, cause, e.Deliveries); err != nil {
		return err
	}
	s.log.Warn("control: a job is dead", "model", j.Queue.Route.Slug, "class", j.Queue.Class, "deliveries", e.Deliveries)
	s.gauges.ended(schemas.Failed)
	return nil
}
