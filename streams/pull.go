package streams

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// PullerOptions say what a [Puller] takes.
type PullerOptions struct {
	// Route is the model.
	Route Route
	// Classes are taken in this order, each only when those before it are empty. Default: all, most urgent first.
	Classes []schemas.Class
	// Poll is how often an idle puller looks for jobs that came back to the queue without a wake-up. Default 1 s.
	Poll time.Duration
}

// Puller takes jobs of one model from its queues. One goroutine uses it.
//
// It sweeps over the queues with pulls that do not wait, so that it never has a request standing that could bring more
// than it has room for. When a sweep finds nothing it joins the queue group of idle pullers: each job that arrives
// wakes one of them, and says where it lies. A puller that becomes full leaves the group and passes on the wake-ups it
// could not use. See wake.go.
type Puller struct {
	bus    *Bus
	o      PullerOptions
	queues []*queue
	// wakes is the subscription in the idle group, nil while there is no room.
	wakes *nats.Subscription
	// notes hears that the lanes of a queue have changed.
	notes *nats.Subscription
	wake  chan *nats.Msg
	note  chan *nats.Msg
	// opened is when the lanes were last looked up.
	opened time.Time
}

// queue is one class of the model and its lanes.
type queue struct {
	class schemas.Class
	lanes []*lane
	// turn is the lane to visit first next time.
	turn int
}

// lane is one consumer.
type lane struct {
	consumer jetstream.Consumer
	// maybe tells that the lane may hold jobs: cleared when a pull brought less than asked, set by a wake-up.
	maybe bool
	// announced are the places in the stream of jobs that we were woken for and that nobody has been seen to take.
	announced []uint64
	// called tells that there was a wake-up since the last look; unsure that a job may have been stored just before we
	// could hear of it. tries is how often we have looked again for either.
	called, unsure bool
	tries          int
	// taken is the place of the job that the lane gave us last. Jobs are delivered first in the order of their places: what
	// was announced and lies before it was delivered before it, here or elsewhere.
	taken uint64
}

// wait is the length of the lane's leases.
func (l *lane) wait() time.Duration { return l.consumer.CachedInfo().Config.AckWait }

// relook is how often a puller looks whether the lanes have changed.
const relook = 15 * time.Second

// NewPuller prepares to take jobs of one model. It creates the queues' consumers where they are missing.
func (b *Bus) NewPuller(ctx context.Context, o PullerOptions) (*Puller, error) {
	if err := o.Route.Check(); err != nil {
		return nil, err
	}
	if len(o.Classes) == 0 {
		o.Classes = schemas.Classes()
	}
	if o.Poll <= 0 {
		o.Poll = time.Second
	}
	p := &Puller{bus: b, o: o, wake: make(chan *nats.Msg, wakeBuffer), note: make(chan *nats.Msg, 1)}
	for _, class := range o.Classes {
		p.queues = append(p.queues, &queue{class: class})
	}
	var err error
	if p.notes, err = b.nc.ChanSubscribe(subjectLanes(o.Route.Slug), p.note); err != nil {
		return nil, classify(err)
	}
	for _, q := range p.queues {
		if err := p.open(ctx, q); err != nil {
			p.Close()
			return nil, err
		}
	}
	p.opened = time.Now()
	return p, nil
}

// Close leaves the group of idle pullers. Deliveries stay valid.
func (p *Puller) Close() {
	p.leave()
	_ = p.notes.Unsubscribe()
}

// Next waits until there is at least one job and returns between 1 and limit of them: pass the number of free slots. Nothing
// is fetched ahead. Lanes of a model are visited in turn, so that one tenant's flood does not delay the others.
// Messages that are no jobs (malformed, forged) are turned into dead letters and never returned.
// The error is ctx's when it ended (nothing is lost then), KindDenied, or KindUnavailable when the cluster was away;
// call again in all cases but the first two.
func (p *Puller) Next(ctx context.Context, limit int) ([]*Delivery, error) {
	if limit < 1 {
		return nil, schemas.FieldError("limit", "must be at least 1")
	}
	if p.wakes == nil {
		p.suspect()
	}
	for {
		if err := p.listen(ctx); err != nil {
			return nil, err
		}
		found, err := p.sweep(ctx, limit)
		if len(found) > 0 {
			if len(found) == limit {
				p.leave()
			}
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		if p.wakes == nil {
			// Join first and look again: what arrived before the subscription was not announced to us.
			if err := p.join(); err != nil {
				return nil, err
			}
			continue
		}
		if err := p.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// wait sleeps until something may have changed.
func (p *Puller) wait(ctx context.Context) error {
	delay, look := p.o.Poll, p.suspect
	if soon, wanted := p.soon(); wanted {
		delay, look = soon, p.lookAgain
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case m := <-p.wake:
		p.heard(m)
	case <-p.note:
		p.opened = time.Time{} // long ago
	case <-timer.C:
		look()
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// listen takes in what was said meanwhile, without waiting: wake-ups, and changes of the lanes. Those are looked up at
// intervals too, in case the note about them was missed.
func (p *Puller) listen(ctx context.Context) error {
	changed := time.Since(p.opened) > relook
	for {
		select {
		case m := <-p.wake:
			p.heard(m)
		case <-p.note:
			changed = true
		default:
			if changed {
				return p.reopen(ctx)
			}
			return nil
		}
	}
}

// sweep takes up to limit jobs, class by class.
func (p *Puller) sweep(ctx context.Context, limit int) (found []*Delivery, err error) {
	for _, q := range p.queues {
		for len(found) < limit {
			more, errTake := p.turn(ctx, q, limit-len(found))
			found = append(found, more...)
			if errTake != nil {
				return found, errTake
			}
			if !q.maybe() {
				break
			}
		}
	}
	return found, nil
}

// maybe tells whether any lane may hold jobs.
func (q *queue) maybe() bool {
	for _, l := range q.lanes {
		if l.maybe {
			return true
		}
	}
	return false
}

// turn visits each lane of a queue once, starting after the one visited last, and takes an equal share from each.
func (p *Puller) turn(ctx context.Context, q *queue, limit int) (found []*Delivery, err error) {
	live := 0
	for _, l := range q.lanes {
		if l.maybe {
			live++
		}
	}
	if live == 0 {
		return nil, nil
	}
	share := (limit + live - 1) / live
	for range q.lanes {
		if len(found) == limit {
			break
		}
		l := q.lanes[q.turn%len(q.lanes)]
		q.turn++
		if !l.maybe {
			continue
		}
		more, err := p.take(ctx, l, min(share, limit-len(found)))
		found = append(found, more...)
		if err != nil {
			return found, p.failed(ctx, q, err)
		}
	}
	return found, nil
}

// take pulls up to n jobs from one lane without waiting, or, when it was woken for one job, this one job.
func (p *Puller) take(ctx context.Context, l *lane, n int) ([]*Delivery, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	before := time.Now() // a lease counts from before the request: it can only be shorter than we think, never longer
	one := l.called && len(l.announced) == 1
	l.called = false
	var batch jetstream.MessageBatch
	var err error
	if one {
		batch, err = l.consumer.Fetch(1, jetstream.FetchMaxWait(calledWait))
	} else {
		batch, err = l.consumer.FetchNoWait(n)
	}
	if err != nil {
		return nil, err
	}
	var found []*Delivery
	got := 0
	for m := range batch.Messages() {
		got++
		if d := p.accept(ctx, m, before, l.wait()); d != nil {
			l.met(d)
			found = append(found, d)
		}
	}
	l.maybe = got == n && !one
	if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
		return found, err
	}
	return found, nil
}

// accept turns a message into a delivery, or ends it here when it is no job.
func (p *Puller) accept(ctx context.Context, m jetstream.Msg, leased time.Time, wait time.Duration) *Delivery {
	d, err := p.bus.newDelivery(ctx, m, p.o.Route, leased, wait)
	switch {
	case err == nil:
		return d
	case d == nil:
		p.bus.log.Error("a delivery cannot be read", "subject", m.Subject(), "error", err)
	case errors.Is(err, schemas.KindUnavailable) || ctx.Err() != nil:
		// Its body cannot be fetched now. Without another word the lease lapses and it comes again; giving it back is faster.
		if err := d.Retry(ctx, time.Second); err != nil {
			p.bus.log.Warn("a job could not be given back", "seq", d.Ack.Seq, "error", err)
		}
	default:
		p.bus.log.Warn("a message is no job", "stream", d.Ack.Stream, "seq", d.Ack.Seq, "tenant", d.tenant, "error", err)
		if err := d.DeadLetter(ctx, err); err != nil {
			p.bus.log.Warn("a dead letter could not be stored", "seq", d.Ack.Seq, "error", err)
		}
	}
	return nil
}

// failed decides after a pull that brought an error: a consumer that is gone is made again, everything else is for the
// caller.
func (p *Puller) failed(ctx context.Context, q *queue, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	gone := errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound)
	if !gone {
		return classify(err)
	}
	return p.open(ctx, q)
}

// open looks up the consumers of a queue, as many as it has lanes now, and creates them where they are missing.
func (p *Puller) open(ctx context.Context, q *queue) error {
	first, err := p.consumer(ctx, q.class, 0)
	if err != nil {
		return err
	}
	lanes := []*lane{{consumer: first, maybe: true}}
	for i := 1; i < lanesOf(first.CachedInfo().Config); i++ {
		c, err := p.consumer(ctx, q.class, i)
		if err != nil {
			return err
		}
		lanes = append(lanes, &lane{consumer: c, maybe: true})
	}
	q.lanes = lanes
	return nil
}

// reopen looks up how many lanes the queues have now.
func (p *Puller) reopen(ctx context.Context) error {
	for _, q := range p.queues {
		first, err := p.consumer(ctx, q.class, 0)
		if err != nil {
			return err
		}
		if lanesOf(first.CachedInfo().Config) == len(q.lanes) {
			continue
		}
		if err := p.open(ctx, q); err != nil {
			return err
		}
	}
	p.opened = time.Now()
	return nil
}

// consumer looks up one consumer, creating it when it is missing.
func (p *Puller) consumer(ctx context.Context, class schemas.Class, lane int) (c jetstream.Consumer, err error) {
	stream, name := StreamJobs(p.o.Route.Shard), QueueName(p.o.Route.Slug, class, lane)
	look := func(ctx context.Context) error {
		return p.bus.watchDenial(ctx, p.bus.api("CONSUMER.INFO."+stream+"."+name), func(ctx context.Context) (err error) {
			c, err = p.bus.js.Consumer(ctx, stream, name)
			return err
		})
	}
	err = p.bus.retry(ctx, look)
	if errors.Is(err, schemas.KindNotFound) {
		ensure := func(ctx context.Context) error { return p.bus.EnsureConsumer(ctx, p.o.Route, class) }
		if err = p.bus.retry(ctx, ensure); err == nil {
			err = p.bus.retry(ctx, look)
		}
	}
	return c, err
}
