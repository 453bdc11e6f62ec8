package control

import (
	"context"
	"sync"

	"github.com/cocoon-network/cocoon/streams"
)

// maxWanted bounds the queues that wait for their consumer.
const maxWanted = 65536

// demand creates consumers for the queues in which jobs arrive.
type demand struct {
	s *Service
	// mu guards known: the queues that have a consumer as far as we know. The gauges correct it.
	mu    sync.Mutex
	known map[streams.Queue]bool
	// wanted passes on new queues, so that reading arrivals never waits for the creation of one.
	wanted chan streams.Queue
}

func newDemand(s *Service) *demand {
	return &demand{s: s, known: map[streams.Queue]bool{}, wanted: make(chan streams.Queue, maxWanted)}
}

// arrived notes a job's queue.
func (d *demand) arrived(q streams.Queue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known[q] {
		return
	}
	select {
	case d.wanted <- q:
		d.known[q] = true
	default: // the next arrival asks again
	}
}

// have replaces what is known of a shard by what its stream says.
func (d *demand) have(shard int, queues []streams.Backlog) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for q := range d.known {
		if q.Route.Shard == shard {
			delete(d.known, q)
		}
	}
	for _, l := range queues {
		d.known[l.Queue()] = true
	}
}

// serve creates consumers: for queues in which a job arrived, and for workers that ask.
func (d *demand) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- d.s.bus.ServeEnsure(ctx, d.ensure) }()
	for {
		select {
		case q := <-d.wanted:
			if err := d.ensure(ctx, q); err != nil {
				d.forget(q)
				d.s.log.Warn("control: a queue could not be made", "model", q.Route.Slug, "class", q.Class, "error", err)
			}
		case err := <-served:
			return err
		case <-ctx.Done():
			cancel()
			return <-served
		}
	}
}

// ensure creates the consumers of a queue. Commit point: the server's answer; any number of us may do it.
func (d *demand) ensure(ctx context.Context, q streams.Queue) error {
	return d.s.bus.CreateConsumer(ctx, q.Route, q.Class)
}

// forget makes the next arrival ask again.
func (d *demand) forget(q streams.Queue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, q)
}
