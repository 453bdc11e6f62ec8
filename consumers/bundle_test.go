package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/stub"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/embedded"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// bundle is a network with everything but workers: a real server, a real broker on simulated hardware, a tenant.
type bundle struct {
	t      *testing.T
	server *embedded.Server // nil when the server is a process of its own
	url    string           // where the server listens, if it does
	bus    *streams.Bus
	net    *enclavetest.Net
	tenant *enclave.Tenant
	seals  *enclave.Submission
	route  streams.Route
	// broker answers the workers; a test may put another one there.
	broker atomic.Pointer[broker.Broker]
	// away makes the brokers unreachable.
	away atomic.Bool
}

// Leases of the networks of these tests: short, because tests wait for them to lapse, and long enough that a busy machine does
// not let them lapse by itself.
const (
	queueLease  = 2 * time.Second
	brokerLease = 3 * time.Second // the shortest a broker gives
)

// setup makes a network that ends with the test.
func setup(t *testing.T) *bundle { return setupOn(t, streamstest.Options{}) }

// setupOn is setup with options for the server and changes to the broker's configuration.
func setupOn(t *testing.T, o streamstest.Options, adjust ...func(*broker.Config)) *bundle {
	t.Helper()
	b := &bundle{t: t}
	if o.Topology.Lease == 0 {
		o.Topology.Lease = streams.Duration(queueLease)
	}
	b.bus, b.server = streamstest.NewWith(t, o)
	if o.TCP { // connections that find another server on the same port
		b.url = b.server.URL()
		b.bus = b.connect(streams.Config{})
	}
	b.open(adjust...)
	return b
}

// setupProcess is setup with the server in a process of its own.
func setupProcess(t *testing.T) (*bundle, *streamstest.Node) {
	t.Helper()
	node := streamstest.NewProcess(t, streams.Topology{Lease: streams.Duration(queueLease)})
	b := &bundle{t: t, url: node.URL()}
	b.bus = b.connect(streams.Config{})
	b.open()
	return b, node
}

// connect opens a connection of its own.
func (b *bundle) connect(s streams.Config) *streams.Bus {
	b.t.Helper()
	if s.URL == "" {
		s.URL = b.url
	}
	return streamstest.Connect(b.t, b.server, s)
}

// open makes everything but the server.
func (b *bundle) open(adjust ...func(*broker.Config)) {
	t := b.t
	t.Helper()
	b.net = enclavetest.New(t, append(adjust, func(c *broker.Config) { c.LeaseTerm = brokerLease })...)
	b.broker.Store(b.net.Broker)
	b.tenant = b.net.Tenant(t)
	b.seals = enclave.NewSubmission(b.tenant, b.net.Key(t))
	catalogue, err := b.net.Catalogue.Current()
	if err != nil {
		t.Fatal(err)
	}
	b.route = streams.RouteOf(&catalogue.Models[0])
	b.serveBroker()
}

// serveBroker answers the workers' calls until the test ends.
func (b *bundle) serveBroker() {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		err := b.bus.Serve(ctx, streams.ServeOptions{
			Subject: "broker.*", Queue: streams.BrokerGroup, MaxBody: schemas.MaxCall, Ready: func() { close(ready) },
		}, func(ctx context.Context, r streams.Request) ([]byte, error) {
			if b.away.Load() {
				return nil, &schemas.Error{Kind: schemas.KindUnavailable}
			}
			return b.broker.Load().Handle(ctx, enclave.Verb(r.Tokens[1]), r.Body)
		})
		if err != nil && ctx.Err() == nil {
			b.t.Errorf("broker: %v", err)
		}
	}()
	b.t.Cleanup(func() {
		cancel()
		<-ended
	})
	<-ready
}

// running is a worker that runs.
type running struct {
	*consumers.Worker
	t    *testing.T
	bus  *streams.Bus
	stop context.CancelFunc
	done chan struct{}
	err  error
}

// worker starts a worker with a connection and a session of its own. adjust may change its configuration.
func (b *bundle) worker(engine consumers.Engine, adjust ...func(*consumers.Config, *streams.Config)) *running {
	b.t.Helper()
	r := b.prepare(engine, adjust...)
	r.start()
	return r
}

// prepare is worker without the start, for tests that set a probe first.
func (b *bundle) prepare(engine consumers.Engine, adjust ...func(*consumers.Config, *streams.Config)) *running {
	b.t.Helper()
	c := workerConfig(b.t, b.net, engine)
	var s streams.Config
	for _, f := range adjust {
		f(&c, &s)
	}
	r := &running{t: b.t, bus: b.connect(s), done: make(chan struct{})}
	c.Bus = r.bus
	var err error
	if r.Worker, err = consumers.NewWorker(c); err != nil {
		b.t.Fatal(err)
	}
	return r
}

// workerConfig configures a worker of the network, but for its connection.
func workerConfig(t *testing.T, net *enclavetest.Net, engine consumers.Engine) consumers.Config {
	return consumers.Config{
		Session: net.NewSession(t), Engines: map[schemas.ModelID]consumers.Engine{enclavetest.Model: engine},
		Catalogue: func() *schemas.Catalogue {
			c, err := net.Catalogue.Current()
			if err != nil {
				t.Error(err)
			}
			return c
		},
		Environment: schemas.Simulated, Owner: attesttest.Owner, DrainTimeout: 10 * time.Second,
		Guard: consumers.GuardConfig{MemoryHigh: 1},
	}
}

// start runs the worker until the test ends or it is stopped.
func (r *running) start() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	r.stop = cancel
	go func() {
		defer close(r.done)
		r.err = r.Run(ctx)
	}()
	r.t.Cleanup(func() {
		cancel()
		<-r.done
		if r.err != nil && !errors.Is(r.err, consumers.ErrKilled) {
			r.t.Errorf("worker: %v", r.err)
		}
	})
}

// crash ends the worker as a power cut would: its connection is gone in the same moment.
func (r *running) crash() {
	r.bus.Conn().Close()
	r.Kill()
}

// end drains the worker and waits for it.
func (r *running) end() {
	r.t.Helper()
	r.stop()
	<-r.done
}

// request is an OpenAI request with the given prompt.
func request(prompt string, stream bool) schemas.Request {
	return schemas.Request{
		URL:    consumers.PathChat,
		Body:   fmt.Appendf(nil, `{"model":"m","stream":%v,"messages":[{"role":"user","content":%q}]}`, stream, prompt),
		Stream: stream,
	}
}

// seal seals one job; adjust may change its attributes.
func (b *bundle) seal(r schemas.Request, adjust ...func(*schemas.Attributes)) enclave.SealedJob {
	b.t.Helper()
	a := schemas.Attributes{Budget: enclavetest.Budget}
	for _, f := range adjust {
		f(&a)
	}
	sealed, err := b.seals.Seal(a, r, enclave.SpendLimit{Multiplier: 20_000})
	if err != nil {
		b.t.Fatal(err)
	}
	return sealed
}

// publish queues sealed jobs.
func (b *bundle) publish(jobs ...enclave.SealedJob) []streams.Ack {
	b.t.Helper()
	var acks []streams.Ack
	all := func(yield func(streams.Job) bool) {
		for _, j := range jobs {
			if !yield(streams.Job{Shard: b.route.Shard, Attributes: j.Attributes, Envelope: j.Envelope}) {
				return
			}
		}
	}
	for p := range b.bus.PublishJobs(streamstest.Context(b.t), all, streams.BulkOptions{}) {
		if p.Err != nil {
			b.t.Fatalf("publish job %d: %v", p.Index, p.Err)
		}
		acks = append(acks, p.Ack)
	}
	return acks
}

// submit seals and queues n jobs.
func (b *bundle) submit(n int, adjust ...func(*schemas.Attributes)) []enclave.SealedJob {
	b.t.Helper()
	jobs := make([]enclave.SealedJob, n)
	for i := range jobs {
		jobs[i] = b.seal(request(fmt.Sprintf("job %d", i), false), adjust...)
	}
	b.publish(jobs...)
	return jobs
}

// outcome waits for the outcome of a job.
func (b *bundle) outcome(j enclave.SealedJob) schemas.Outcome {
	b.t.Helper()
	o, err := b.bus.AwaitOutcome(streamstest.Context(b.t), j.Attributes.Tenant, j.Attributes.ID)
	if err != nil {
		b.t.Fatalf("outcome of job %s: %v", j.Attributes.ID, err)
	}
	return o
}

// answer waits for the outcome of a job and opens it as its tenant does.
func (b *bundle) answer(j enclave.SealedJob) enclave.Answer {
	b.t.Helper()
	a, err := b.tenant.OpenResult(b.outcome(j), enclave.Expect{Job: j.Attributes.ID, Envelope: j.Hash, Broker: b.net.Broker.Public()})
	if err != nil {
		b.t.Fatalf("open job %s: %v", j.Attributes.ID, err)
	}
	return a
}

// queued is the number of jobs in the queues, those at workers included.
func (b *bundle) queued() uint64 {
	b.t.Helper()
	return b.messages(streams.StreamJobs(b.route.Shard))
}

// messages is the number of messages in a stream.
func (b *bundle) messages(stream string) uint64 {
	b.t.Helper()
	ctx := streamstest.Context(b.t)
	js, err := jetstream.New(b.bus.Conn())
	if err != nil {
		b.t.Fatal(err)
	}
	s, err := js.Stream(ctx, stream)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// oneOutcomeEach demands one good outcome for every job, and no other.
func (b *bundle) oneOutcomeEach(jobs []enclave.SealedJob) {
	b.t.Helper()
	if n := b.messages(streams.StreamOutcomes); n != uint64(len(jobs)) {
		b.t.Errorf("%d outcomes for %d jobs", n, len(jobs))
	}
	lost := 0
	for _, j := range jobs {
		o, err := b.bus.Outcome(streamstest.Context(b.t), j.Attributes.Tenant, j.Attributes.ID)
		if errors.Is(err, schemas.KindNotFound) {
			lost++
			continue
		}
		if err != nil {
			b.t.Fatal(err)
		}
		a, err := b.tenant.OpenResult(o, enclave.Expect{Job: j.Attributes.ID, Envelope: j.Hash, Broker: b.net.Broker.Public()})
		if err != nil {
			b.t.Errorf("job %s: %v", j.Attributes.ID, err)
		} else if err := a.Result.Err(); err != nil {
			b.t.Errorf("job %s at attempt %d: %v", j.Attributes.ID, a.Grant.Attempt, err)
		}
	}
	if lost > 0 {
		b.t.Errorf("%d jobs lost", lost)
	}
}

// patience is how long a test waits for what must happen. It bounds a broken test, not a slow machine.
const patience = time.Minute

// eventually waits until a condition holds.
func (b *bundle) eventually(what string, holds func() bool) {
	b.t.Helper()
	for end := time.Now().Add(patience); !holds(); {
		if time.Now().After(end) {
			b.t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// tally counts what happened at a point, by job.
type tally struct {
	mu sync.Mutex
	n  map[consumers.Point]map[schemas.JobID]int
}

// probe counts and calls f.
func (c *tally) probe(f func(consumers.Point, schemas.JobID, int)) func(consumers.Point, schemas.JobID, int) {
	return func(p consumers.Point, id schemas.JobID, delivered int) {
		c.mu.Lock()
		if c.n == nil {
			c.n = map[consumers.Point]map[schemas.JobID]int{}
		}
		if c.n[p] == nil {
			c.n[p] = map[schemas.JobID]int{}
		}
		c.n[p][id]++
		c.mu.Unlock()
		if f != nil {
			f(p, id, delivered)
		}
	}
}

// at is how often a job was at a point.
func (c *tally) at(p consumers.Point, id schemas.JobID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[p][id]
}

// newStub is the stub engine with a few slots.
func newStub(slots int, script func(*consumers.Request) stub.Act) *stub.Engine {
	return stub.New(stub.Options{Slots: slots, Script: script})
}

// prompted reports whether a request holds a text.
func prompted(r *consumers.Request, text string) bool { return strings.Contains(string(r.Body), text) }
