package consumers

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Worker takes jobs of its models from their queues, opens, runs and answers them. Make one with [NewWorker] and call Run
// once.
//
// What it promises for every job it takes:
//
//   - It is begun at once: a worker asks for as many jobs as its engines have free slots and never for more.
//   - It ends in an outcome that is stored before the job is acknowledged, or it goes back to the queue, or, when the
//     lease was lost, it is let go without a word. A crash at any point equals the last of these.
//   - Its outcome is compare-and-set: of two workers that run one job, one decides it and both go on.
//   - It carries a receipt only for tokens that the engine counted.
type Worker struct {
	c        Config
	log      *slog.Logger
	started  time.Time
	lines    []*line
	gate     gate // reasons against all models
	keeper   *keeper
	granter  *granter
	renewer  *renewer
	guard    *guard
	tick     time.Duration // of live chunks; 0 means the enclave's default
	askNow   atomic.Uint32
	ran      atomic.Bool
	presence chan struct{}   // something to tell changed; holds at most one
	reattest chan struct{}   // show fresh evidence now; holds at most one
	away     chan struct{}   // brokers do not answer; holds at most one
	policy   <-chan struct{} // closed when the policy changes that the last evidence was shown under; nil: never
	drained  chan struct{}   // closed by an order to drain, or a broken machine
	draining sync.Once
	tasks    sync.WaitGroup

	// base is the life of the worker's work; kill ends it, and with it everything, without a word. Both are set by Run.
	base context.Context
	kill context.CancelCauseFunc

	// probe, set by tests before Run, hears of every task at every point.
	probe func(point, *task)
}

// NewWorker checks the configuration.
func NewWorker(c Config) (*Worker, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	w := &Worker{
		c: c, started: time.Now(), renewer: newRenewer(), granter: newGranter(),
		presence: make(chan struct{}, 1), reattest: make(chan struct{}, 1), away: make(chan struct{}, 1),
		drained: make(chan struct{}),
	}
	w.log = quiet(c.Logger).With("worker", string(c.Session.ID()))
	w.gate.changed = w.gateChanged
	w.gate.set(gateSession, "not attested yet")
	w.keeper = newKeeper(func() { c.Metrics.lost.Inc() })
	w.granter.call = func(ctx context.Context, jobs []enclave.Candidate) ([]enclave.Granted, error) {
		return c.Session.Grant(ctx, w.call, jobs)
	}
	w.granter.refused = w.sessionFailed
	w.granter.batches = func(n int) { c.Metrics.batch.Observe(float64(n)) }
	w.granter.denied = func(k schemas.Kind) { c.Metrics.refused.WithLabelValues(k.String()).Inc() }
	w.renewer.call = func(ctx context.Context, jobs []*enclave.OpenJob) ([]error, error) {
		return c.Session.Renew(ctx, w.call, jobs)
	}
	w.renewer.ended = func(ctx context.Context, jobs []*enclave.OpenJob) ([]error, error) {
		return c.Session.Done(ctx, w.call, jobs)
	}
	w.guard = &guard{
		c: c.Guard, log: w.log,
		pause:  func(reason string) { w.gate.set(gateMachine, reason) },
		broken: func(reason string) { w.drainNow("machine: " + reason) },
	}
	return w, w.setAsk(c.Ask)
}

// ID is the worker's id; it is new with every session.
func (w *Worker) ID() schemas.WorkerID { return w.c.Session.ID() }

// Drain makes Run end as a cancelled context does: no further jobs, running ones finish.
func (w *Worker) Drain() { w.drainNow("drained by its host") }

// Run serves until ctx ends or an order drains the worker, then drains and returns nil. It returns an error when the worker
// could never begin: an engine that does not answer or cannot count, a model that is not in the catalogue, or a worker
// that is not admitted. A worker that was admitted and no longer is finishes what it holds, takes nothing more and goes
// on trying, because policies change back.
func (w *Worker) Run(ctx context.Context) error {
	if w.ran.Swap(true) {
		return &schemas.Error{Kind: schemas.KindConflict, Message: "a worker runs once"}
	}
	if err := w.open(ctx); err != nil {
		return err
	}
	w.base, w.kill = context.WithCancelCause(context.WithoutCancel(ctx))
	defer w.kill(nil)
	services, end := context.WithCancel(w.base)
	var running sync.WaitGroup
	defer running.Wait()
	defer end()
	start := func(service func(context.Context)) { running.Go(func() { service(services) }) }
	for _, service := range []func(context.Context){
		w.keeper.run, w.granter.run, w.renewer.run, w.guard.run, w.obey, w.announce,
	} {
		start(service)
	}
	if err := w.admit(ctx); err != nil {
		return err
	}
	start(w.attest)
	for _, l := range w.lines {
		start(l.watch.run)
		start(l.hearStops)
	}
	w.log.Info("the worker serves", "count", len(w.lines), "environment", string(w.c.Environment))
	w.serve(ctx, services)
	return context.Cause(w.base)
}

// serve pulls until the worker is to end, and then waits for what it holds.
func (w *Worker) serve(ctx, services context.Context) {
	pulls, stopPulls := context.WithCancel(services)
	defer stopPulls()
	var pulling sync.WaitGroup
	for _, l := range w.lines {
		pulling.Go(func() { l.pull(pulls) })
	}
	select {
	case <-ctx.Done():
		w.drainNow("the worker ends")
	case <-w.drained:
	case <-w.base.Done():
	}
	stopPulls()
	pulling.Wait()
	w.finish()
}

// open checks the engines and prepares a line for each model.
func (w *Worker) open(ctx context.Context) error {
	catalogue := w.c.Catalogue()
	for id, engine := range w.c.Engines {
		m, err := catalogue.Find(string(id))
		if err != nil {
			return err
		}
		info, err := engine.Info(ctx)
		if err != nil {
			return err
		}
		if err := checkEngine(info); err != nil {
			return err
		}
		w.lines = append(w.lines, newLine(w, id, streams.RouteOf(m), engine))
	}
	return nil
}

// hearStops cancels jobs for their tenants until ctx ends.
func (l *line) hearStops(ctx context.Context) {
	for ctx.Err() == nil {
		err := l.w.c.Bus.ServeStops(ctx, l.route.Slug, l.stop)
		if err != nil && ctx.Err() == nil {
			l.log.Warn("cancellations are not heard", "error", err)
			sleep(ctx, jitter(retryOutcome))
		}
	}
}

// ask is the lowest multiplier served now.
func (w *Worker) ask() schemas.BasisPoints { return schemas.BasisPoints(w.askNow.Load()) }

// setAsk changes it; the brokers learn it with the next session, which it brings about.
func (w *Worker) setAsk(ask schemas.BasisPoints) error {
	if err := w.c.Session.SetAsk(ask); err != nil {
		return err
	}
	if schemas.BasisPoints(w.askNow.Swap(uint32(ask))) == ask {
		return nil
	}
	for _, l := range w.lines { // other classes are served now
		l.pullAnew()
	}
	poke(w.presence)
	poke(w.reattest)
	return nil
}

// gateChanged tells everybody who waits for a gate.
func (w *Worker) gateChanged() {
	paused := 0.0
	if !w.gate.open() {
		paused = 1
	}
	w.c.Metrics.paused.Set(paused)
	for _, l := range w.lines {
		l.gateChanged()
	}
	poke(w.presence)
}

// poke puts a value into a channel that holds one, unless it is there already.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// call carries a request to the brokers.
func (w *Worker) call(ctx context.Context, verb enclave.Verb, request []byte) ([]byte, error) {
	return w.c.Bus.Call(ctx, streams.SubjectBroker(string(verb)), request)
}

// at tells the test, if there is one, where a task is.
func (w *Worker) at(p point, t *task) {
	if w.probe != nil {
		w.probe(p, t)
	}
}
