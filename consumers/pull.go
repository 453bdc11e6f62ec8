package consumers

import (
	"context"
	"errors"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Waits of the pull loop.
const (
	// lookAgain is the longest the loop sleeps while it cannot pull: an engine may forget to say that it has room.
	lookAgain = time.Second
	// pullBackoff bounds the wait after the queue could not be reached.
	minPullBackoff = 100 * time.Millisecond
	maxPullBackoff = 5 * time.Second
)

// pull takes jobs for the line until ctx ends: as many as there are free slots, never one more, so that no job waits here
// while another worker could have begun it.
func (l *line) pull(ctx context.Context) {
	var p *streams.Puller
	var ask schemas.BasisPoints
	leave := func() {
		if p != nil {
			p.Close()
			p = nil
		}
	}
	defer leave()
	backoff := minPullBackoff
	for ctx.Err() == nil {
		if !l.open() || ask != l.w.ask() {
			leave() // an idle puller is woken for jobs, and would keep the news from workers that can take them
		}
		free := 0
		if l.open() {
			free = l.free()
		}
		if free == 0 {
			l.rest(ctx, lookAgain)
			continue
		}
		if p == nil {
			ask = l.w.ask()
			var err error
			if p, err = l.puller(ctx, ask); err != nil {
				l.unreachable(ctx, err, &backoff)
				continue
			}
		}
		jobs, err := l.next(ctx, p, free)
		for _, d := range jobs {
			l.take(d)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			l.unreachable(ctx, err, &backoff)
			continue
		}
		backoff = minPullBackoff
	}
}

// puller opens the queues of the classes that pay at least what the worker asks. None that do is KindPrice.
func (l *line) puller(ctx context.Context, ask schemas.BasisPoints) (*streams.Puller, error) {
	classes := served(l.w.c.Catalogue(), ask)
	if len(classes) == 0 {
		return nil, &schemas.Error{Kind: schemas.KindPrice, Field: "ask", Message: "is above the multiplier of every class"}
	}
	return l.w.c.Bus.NewPuller(ctx, streams.PullerOptions{Route: l.route, Classes: classes})
}

// served lists the classes whose multiplier is at least the ask, most urgent first.
func served(c *schemas.Catalogue, ask schemas.BasisPoints) []schemas.Class {
	var classes []schemas.Class
	for _, class := range schemas.Classes() {
		if c.Multiplier(class) >= ask {
			classes = append(classes, class)
		}
	}
	return classes
}

// next waits for up to free jobs. It ends early, without one, when the gates shut.
func (l *line) next(ctx context.Context, p *streams.Puller, free int) ([]*streams.Delivery, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	l.interrupt = cancel
	l.mu.Unlock()
	if !l.open() { // shut between the caller's look and the line above
		return nil, nil
	}
	return p.Next(ctx, free)
}

// rest sleeps until something may have changed, or for d.
func (l *line) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-l.wake:
	case <-l.engine.Watch():
	case <-t.C:
	}
}

// unreachable logs why nothing can be pulled and waits, longer from time to time.
func (l *line) unreachable(ctx context.Context, err error, backoff *time.Duration) {
	if *backoff == maxPullBackoff || *backoff == minPullBackoff {
		l.log.Warn("no jobs can be pulled", "kind", schemas.KindOf(err).String(), "error", err, "after", *backoff)
	}
	sleep(ctx, jitter(*backoff))
	*backoff = min(2**backoff, maxPullBackoff)
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// take begins a job. The first delivery of a job asks for its grant here and now, so that all jobs of one pull go into
// one call; a later one looks for an outcome first.
func (l *line) take(d *streams.Delivery) {
	t := newTask(l, d)
	l.enter(t)
	l.m.wait[d.Attributes.Class].Observe(max(time.Since(d.Attributes.Time), 0).Seconds())
	if d.Delivered > 1 {
		l.m.redelivered.Inc()
	} else if d.Attributes.Model == l.model {
		t.request()
	}
	l.w.tasks.Go(t.run)
}
