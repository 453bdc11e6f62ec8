package reference

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// slug is the queue of the program.
const slug = "reference"

// Limits of a program.
const (
	// Window is the number of jobs published and not acknowledged.
	Window = 256
	// fetchWait is how long one pull waits for jobs.
	fetchWait = time.Second
	// stallWait is how long a publish waits for room in the window.
	stallWait = 30 * time.Second
)

// Shape is what one job looks like on the wire: the bytes that the program moves. The id in the header of the job and the
// subjects are made anew for each job.
type Shape struct {
	JobHeader     map[string][]string
	Job           []byte
	OutcomeHeader map[string][]string
	Outcome       []byte
}

// Steps is work that is done beside the messages, at the points where the network does it. All methods are called
// concurrently.
type Steps interface {
	// Seal comes before a job is published, Answer between its delivery and its outcome, Open when the outcome is heard.
	Seal()
	Answer()
	Open()
}

// Program moves jobs through the streams. Its runs follow one another.
type Program struct {
	bus      *streams.Bus
	js       jetstream.JetStream
	consumer jetstream.Consumer
	tenant   schemas.TenantID
	shape    Shape
	slots    int
	steps    Steps
}

// New prepares a program on shard 0 with a tenant of its own. slots is the number of jobs at work at one time; steps may
// be nil.
func New(ctx context.Context, bus *streams.Bus, s Shape, slots int, steps Steps) (*Program, error) {
	p := &Program{bus: bus, tenant: schemas.NewTenantID(), shape: s, slots: slots, steps: steps}
	if steps == nil {
		p.steps = nothing{}
	}
	if err := bus.CreateConsumer(ctx, streams.Route{Slug: slug}, schemas.Standard); err != nil {
		return nil, err
	}
	var err error
	if p.js, err = jetstream.New(bus.Conn(), jetstream.WithPublishAsyncMaxPending(Window)); err != nil {
		return nil, err
	}
	p.consumer, err = p.js.Consumer(ctx, streams.StreamJobs(0), streams.QueueName(slug, schemas.Standard, 0))
	return p, err
}

// nothing is no steps.
type nothing struct{}

func (nothing) Seal()   {}
func (nothing) Answer() {}
func (nothing) Open()   {}

// Run takes n jobs the whole way and returns when all outcomes were heard and all jobs acknowledged. With a pace above 0 one
// job is published per pace. It returns the times from before a job's sealing to after its opening.
func (p *Program) Run(ctx context.Context, n int, pace time.Duration) ([]time.Duration, error) {
	clock := NewClock(n)
	var heard sync.WaitGroup
	heard.Add(n)
	prefix := "res." + string(p.tenant) + "."
	sub, err := p.bus.Conn().Subscribe(prefix+"*", func(m *nats.Msg) {
		p.steps.Open()
		clock.End(schemas.JobID(m.Subject[len(prefix):]))
		heard.Done()
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.work(ctx, n) })
	group.Go(func() error { return p.publish(ctx, n, pace, clock) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	heard.Wait()
	return clock.Times(), nil
}

// publish sends the jobs, a window of them at a time.
func (p *Program) publish(ctx context.Context, n int, pace time.Duration, clock *Clock) error {
	subject := streams.SubjectJob(streams.Route{Slug: slug}, schemas.Standard, p.tenant)
	acks := make([]jetstream.PubAckFuture, 0, n)
	for i := range n {
		if err := clock.Wait(ctx, i, pace); err != nil {
			return err
		}
		id := schemas.NewJobID()
		clock.Begin(id, time.Now())
		p.steps.Seal()
		m := &nats.Msg{Subject: subject, Header: maps.Clone(nats.Header(p.shape.JobHeader)), Data: p.shape.Job}
		m.Header["ce-id"] = []string{string(id)}
		ack, err := p.js.PublishMsgAsync(m, jetstream.WithMsgID(string(id)), jetstream.WithStallWait(stallWait))
		if err != nil {
			return err
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// work pulls and answers n jobs, as many at a time as there are slots.
func (p *Program) work(ctx context.Context, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	slots := make(chan struct{}, p.slots)
	for taken := 0; taken < n && ctx.Err() == nil; {
		slots <- struct{}{} // at least one is free
		free := min(1+cap(slots)-len(slots), n-taken)
		batch, err := p.consumer.Fetch(free, jetstream.FetchMaxWait(fetchWait))
		if err != nil {
			return err
		}
		first := true
		for m := range batch.Messages() {
			if !first {
				slots <- struct{}{}
			}
			first = false
			taken++
			group.Go(func() error {
				defer func() { <-slots }()
				return p.answer(ctx, m)
			})
		}
		if first {
			<-slots
		}
		if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
			return err
		}
	}
	return group.Wait()
}

// answer stores an outcome and acknowledges the job.
func (p *Program) answer(ctx context.Context, m jetstream.Msg) error {
	p.steps.Answer()
	out := &nats.Msg{
		Subject: streams.SubjectOutcome(p.tenant, schemas.JobID(m.Headers().Get("ce-id"))),
		Header:  maps.Clone(nats.Header(p.shape.OutcomeHeader)), Data: p.shape.Outcome,
	}
	if _, err := p.js.PublishMsg(ctx, out, jetstream.WithExpectLastSequencePerSubject(0)); err != nil {
		return err
	}
	return m.DoubleAck(ctx)
}
