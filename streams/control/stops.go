package control

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Limits of cancellations.
const (
	// claimWait is how long workers have to say that they run the job.
	claimWait = 250 * time.Millisecond
	// owed is how long a worker that claimed a job has to publish its outcome before control does.
	owed = 2 * streams.AckWait
	// maxOwed bounds the outcomes waited for; beyond it nobody checks on the workers.
	maxOwed = 65536
	// maxSearch bounds the tenant's jobs looked at when it is not known where a job lies.
	maxSearch = 1_000_000
)

// stops cancels jobs.
type stops struct {
	s *Service
	// mu guards owed: jobs that a worker said it stops, with the time until which it may.
	mu   sync.Mutex
	owed map[schemas.JobID]owedJob
}

// owedJob is a job whose worker owes an outcome.
type owedJob struct {
	job   streams.Queued
	until time.Time
}

func newStops(s *Service) *stops { return &stops{s: s, owed: map[schemas.JobID]owedJob{}} }

// serve answers cancellations until ctx ends.
func (c *stops) serve(ctx context.Context) error { return c.s.bus.ServeCancels(ctx, c.cancel) }

// cancel ends one job of a tenant; the subject of the request proves who asks.
func (c *stops) cancel(ctx context.Context, tenant schemas.TenantID, job schemas.JobID, at streams.Ack) (streams.CancelState, error) {
	if done, err := c.hasOutcome(ctx, tenant, job); err != nil || done {
		return streams.CancelTooLate, err
	}
	j, err := c.find(ctx, tenant, job, at)
	if errors.Is(err, schemas.KindNotFound) {
		if done, errDone := c.hasOutcome(ctx, tenant, job); errDone != nil || done {
			return streams.CancelTooLate, errDone
		}
	}
	if err != nil {
		return "", err
	}
	claimed, err := c.s.bus.Stop(ctx, j.Queue.Route.Slug, tenant, job, claimWait)
	if err != nil {
		return "", err
	}
	if claimed {
		c.owe(j)
		return streams.CancelStopping, nil
	}
	// Nobody runs it. A worker that takes it from here on finds the outcome or is refused by it.
	first, err := c.s.bus.End(ctx, j, schemas.Cancelled, schemas.KindCancelled)
	if err != nil {
		return "", err
	}
	if !first {
		return streams.CancelTooLate, nil
	}
	c.s.gauges.ended(schemas.Cancelled)
	return streams.CancelDone, nil
}

// hasOutcome tells whether a job has ended.
func (c *stops) hasOutcome(ctx context.Context, tenant schemas.TenantID, job schemas.JobID) (bool, error) {
	_, err := c.s.bus.Outcome(ctx, tenant, job)
	if errors.Is(err, schemas.KindNotFound) {
		return false, nil
	}
	return err == nil, err
}

// find looks up a queued job, where the caller says it is or among all jobs of its tenant.
func (c *stops) find(ctx context.Context, tenant schemas.TenantID, job schemas.JobID, at streams.Ack) (streams.Queued, error) {
	if at.Stream != "" {
		j, err := c.s.bus.QueuedAt(ctx, at.Stream, at.Seq)
		if err != nil {
			return j, err
		}
		if j.Tenant == tenant && j.Attributes.ID == job {
			return j, nil
		}
	}
	var found streams.Queued
	shards, err := c.s.bus.Shards(ctx)
	if err != nil {
		return found, err
	}
	left := maxSearch
	for _, shard := range shards {
		err := c.s.bus.ScanQueued(ctx, shard, tenant, 1, func(j streams.Queued) (bool, error) {
			left--
			if j.Attributes.ID == job {
				found = j
				return false, nil
			}
			return left > 0, nil
		})
		if err != nil || found.Attributes.ID != "" {
			return found, err
		}
	}
	return found, schemas.Errorf(schemas.KindNotFound, "no such job in a queue")
}

// owe remembers that a worker has to publish an outcome.
func (c *stops) owe(j streams.Queued) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.owed) < maxOwed {
		c.owed[j.Attributes.ID] = owedJob{j, time.Now().Add(owed)}
	}
}

// follow ends the jobs whose workers did not keep their word, until ctx ends. It lives in memory only: if control dies, such
// a job runs again as if nobody had asked, and the tenant may ask again.
func (c *stops) follow(ctx context.Context) error {
	for pause(ctx, time.Second) {
		for _, o := range c.late(time.Now()) {
			if done, err := c.hasOutcome(ctx, o.job.Tenant, o.job.Attributes.ID); err != nil || done {
				continue
			}
			if _, err := c.s.bus.End(ctx, o.job, schemas.Cancelled, schemas.KindCancelled); err != nil {
				return err
			}
			c.s.gauges.ended(schemas.Cancelled)
		}
	}
	return ctx.Err()
}

// late removes and returns the jobs whose time is up.
func (c *stops) late(now time.Time) []owedJob {
	c.mu.Lock()
	defer c.mu.Unlock()
	var late []owedJob
	for id, o := range c.owed {
		if now.After(o.until) {
			late = append(late, o)
			delete(c.owed, id)
		}
	}
	return late
}
