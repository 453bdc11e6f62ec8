package consumers

import (
	"context"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/tracing"
	"github.com/cocoon-network/cocoon/streams"
)

// Limits of a task.
const (
	// outcomeTimeout bounds how long a worker tries to store one outcome before it lets the lease lapse.
	outcomeTimeout = time.Minute
	// doneTimeout bounds how long it tries to acknowledge after that.
	doneTimeout = 15 * time.Second
	// giveBackTimeout bounds the word with which a job goes back.
	giveBackTimeout = 5 * time.Second
	// stopGrace is how long an engine may go on with a cancelled request before the job's lease is let go.
	stopGrace = 10 * time.Second
)

// point names a place in the life of a task where a crash would leave different things behind; tests stop there.
type point string

// The points, in order.
const (
	pointTaken     point = "taken"     // pulled, nothing done
	pointGranted   point = "granted"   // opened, not begun
	pointRunning   point = "running"   // inside the engine
	pointAnswered  point = "answered"  // the engine is done, nothing stored
	pointPublished point = "published" // the outcome is stored, the job not acknowledged
)

// task is one delivery of one job, from the queue to its end. It runs in one goroutine; only stop is called by others.
type task struct {
	line     *line
	delivery *streams.Delivery
	ctx      context.Context
	stop     context.CancelCauseFunc
	lease    *lease
	taken    time.Time
	asked    <-chan enclave.Granted // nil before the grant was asked for
	counted  bool                   // by the engine; guarded by line.mu
	// pulse is for the watchdog.
	pulse pulse
}

// newTask takes responsibility for a delivery. Its context ends with the reason why the job must not go on.
func newTask(l *line, d *streams.Delivery) *task {
	until, why := time.Now().Add(l.w.c.JobTimeout), errTooLong
	if d.Attributes.Expiry.Before(until) {
		until, why = d.Attributes.Expiry, error(errOverdue)
	}
	ctx, release := context.WithDeadlineCause(l.w.base, until, why)
	ctx, stop := context.WithCancelCause(ctx)
	t := &task{line: l, delivery: d, ctx: ctx, taken: time.Now()}
	t.stop = func(cause error) {
		stop(cause)
		release()
	}
	t.lease = l.w.keeper.hold(d, t.stop)
	return t
}

// run is the life of the task. A crash anywhere before the acknowledgement repeats it elsewhere and harms nothing: the
// outcome is compare-and-set.
func (t *task) run() {
	defer t.line.leave(t)
	defer t.lease.release()
	defer t.stop(nil)
	t.line.w.at(pointTaken, t)
	if t.answered() {
		t.line.log.Debug("the job had its outcome already", "job", t.delivery.Attributes.ID)
		t.done()
		return
	}
	span := t.span("worker.take", t.taken)
	job, err := t.grant()
	span.End(err)
	if err != nil {
		t.fail(nil, on(t.ctx, err), schemas.Usage{})
		return
	}
	t.line.w.at(pointGranted, t)
	defer t.line.w.renewer.hold(job, t.stop)()
	span = t.span("worker.run", time.Time{})
	answer, err := t.execute(job)
	span.Attempt(job.Grant().Attempt)
	span.Tokens(answer.usage.Total())
	span.End(err)
	if err != nil {
		t.fail(job, on(t.ctx, err), answer.usage)
		return
	}
	t.line.w.at(pointAnswered, t)
	t.succeed(job, answer)
}

// span opens a span of the job.
func (t *task) span(name string, began time.Time) *tracing.Span {
	a := &t.delivery.Attributes
	span := t.line.w.c.Tracer.Job(t.ctx, name, a.ID, began)
	span.Model(a.Model, a.Class)
	return span
}

// answered reports whether a job that was delivered before has its outcome: a worker that died between outcome and
// acknowledgement left it so. When that cannot be found out the job runs; compare-and-set decides then.
func (t *task) answered() bool {
	if t.delivery.Delivered <= 1 {
		return false
	}
	a := &t.delivery.Attributes
	_, err := t.line.w.c.Bus.Outcome(t.ctx, a.Tenant, a.ID)
	return err == nil
}

// request asks for permission to open the job, together with others that ask at the same time.
func (t *task) request() {
	a := &t.delivery.Attributes
	t.asked = t.line.w.granter.request(enclave.Candidate{Attributes: *a, Envelope: t.delivery.Envelope})
}

// grant waits for the brokers' answer.
func (t *task) grant() (*enclave.OpenJob, error) {
	if t.delivery.Attributes.Model != t.line.model {
		return nil, &schemas.Error{Kind: schemas.KindInvalid, Field: "ce-subject", Message: "names another model than the queue"}
	}
	if t.asked == nil {
		t.request()
	}
	granted := t.line.w.granter.await(t.asked)
	if granted.Err != nil {
		return nil, granted.Err
	}
	if t.ctx.Err() != nil {
		t.giveUpLease(granted.Job)
		return nil, t.ctx.Err()
	}
	return granted.Job, nil
}

// giveUpLease tells the broker that the job will not be finished here, so that another worker can have it at once. It is a
// courtesy: without it the lease lapses by itself.
func (t *task) giveUpLease(job *enclave.OpenJob) {
	ctx, cancel := context.WithTimeout(t.line.w.base, giveBackTimeout)
	defer cancel()
	if _, err := t.line.w.c.Session.Return(ctx, t.line.w.call, []*enclave.OpenJob{job}); err != nil {
		t.line.log.Debug("the broker was not told that a job goes back", "error", err)
	}
}
