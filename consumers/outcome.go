package consumers

import (
	"context"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// retryOutcome is the wait between two tries to store an outcome, on top of what the bus tries by itself.
const retryOutcome = 500 * time.Millisecond

// succeed seals the answer and ends the job with it.
func (t *task) succeed(job *enclave.OpenJob, a answer) {
	d := a.done
	result := schemas.Result{
		Status: d.Status, ContentType: d.ContentType, Body: d.Body, FinishReason: d.FinishReason, Usage: d.Usage,
		Charge: t.line.w.charge(job, d.Usage), Queue: schemas.Milliseconds(d.Queue),
		FirstToken: schemas.Milliseconds(d.TTFT), Total: schemas.Milliseconds(d.Total), Fingerprint: d.Fingerprint,
	}
	o, err := job.Finish(result, a.started, a.finished)
	if err != nil {
		t.fail(job, err, schemas.Usage{}) // an answer that is too large, or that may not be sealed
		return
	}
	t.line.m.first.Observe(d.TTFT.Seconds())
	t.conclude(job, o, d.Usage, nil)
}

// charge is what a usage costs under the grant: zero when the grant names a catalogue that this worker has not seen. It
// informs the tenant; money is made from the receipt alone.
func (w *Worker) charge(job *enclave.OpenJob, u schemas.Usage) schemas.Charge {
	grant, catalogue := job.Grant(), w.c.Catalogue()
	if catalogue.Version != grant.Catalogue {
		return schemas.Charge{}
	}
	charge, err := catalogue.Cost(grant.Model, u, grant.Multiplier)
	if err != nil {
		return schemas.Charge{}
	}
	return charge
}

// fail does what judge says about a job that has no answer. job is nil before it was opened; used is what it had cost by
// then.
func (t *task) fail(job *enclave.OpenJob, err error, used schemas.Usage) {
	v := judge(err)
	a := &t.delivery.Attributes
	if job != nil && job.Grant().Attempt >= a.Attempts {
		if p := v.poison(); p != v {
			v, err = p, &schemas.Error{Kind: schemas.KindPoison, Message: "failed on every attempt, the last time with: " + v.kind.String()}
		}
	}
	t.line.log.Info("a job has no answer", "job", a.ID, "class", string(a.Class), "kind", v.kind.String(), "delivered", t.delivery.Delivered)
	switch v.action {
	case drop:
	case again:
		t.giveBack(job, v)
	case finish:
		t.refuse(job, err, used, v)
	}
}

// giveBack returns the job to its queue. When the word is lost the lease lapses and has the same effect, later.
func (t *task) giveBack(job *enclave.OpenJob, v verdict) {
	if !t.lease.held() {
		return
	}
	if job != nil {
		t.giveUpLease(job)
	}
	ctx, cancel := context.WithTimeout(t.line.w.base, giveBackTimeout)
	defer cancel()
	if err := t.delivery.Retry(ctx, jitter(v.wait(t.delivery.Delivered))); err != nil {
		t.line.log.Debug("a job could not be given back", "job", t.delivery.Attributes.ID, "error", err)
		return
	}
	t.line.m.returned(v.kind)
}

// refuse ends the job with a typed outcome. A job that was opened tells its tenant more, sealed; one that was cancelled
// after it had produced tokens owes for exactly these.
func (t *task) refuse(job *enclave.OpenJob, err error, used schemas.Usage, v verdict) {
	var cause error // what stands on a dead letter: never a message that an engine may have written
	if v.bury {
		cause = &schemas.Error{Kind: v.kind, Message: "the job could not be finished"}
	}
	if job == nil {
		t.conclude(nil, enclave.Refused(&t.delivery.Attributes, err), schemas.Usage{}, cause)
		return
	}
	result := schemas.Failure(err)
	if v.status == schemas.Cancelled && used.Total() > 0 {
		result.Usage, result.Charge = used, t.line.w.charge(job, used)
	}
	now := time.Now()
	o, sealErr := job.Finish(result, t.taken, now)
	if sealErr != nil {
		o, used = enclave.Refused(&t.delivery.Attributes, err), schemas.Usage{}
	}
	t.conclude(job, o, used, cause)
}

// conclude stores the outcome and acknowledges the job. buried, if not nil, keeps a copy among the dead letters.
func (t *task) conclude(job *enclave.OpenJob, o schemas.Outcome, used schemas.Usage, buried error) {
	span := t.span("worker.publish", time.Time{})
	first, ok := t.publish(job, &o)
	if !ok {
		span.End(schemas.KindUnavailable)
		return // the lease lapses and the job runs again, or has an outcome from elsewhere
	}
	// Commit point: an outcome of the job is stored. A crash from here on delivers the job once more to a worker that
	// finds the outcome and acknowledges.
	span.End(nil)
	t.line.w.at(pointPublished, t)
	if job != nil {
		t.line.w.renewer.finished(job)
	}
	if first {
		t.line.ended(&o)
		t.line.speed.add(used.Completion + used.Reasoning)
		t.line.m.finished(t.delivery.Attributes.Class, &o, used, time.Since(t.taken))
	}
	if buried != nil && first {
		t.bury(buried)
		return
	}
	t.done()
}

// publish stores the outcome unless the job has one. ok is false when nothing is known or the job is no longer ours.
func (t *task) publish(job *enclave.OpenJob, o *schemas.Outcome) (first, ok bool) {
	ctx, cancel := context.WithTimeout(t.line.w.base, outcomeTimeout)
	defer cancel()
	for t.lease.held() {
		first, err := t.line.w.c.Bus.PublishOutcome(ctx, *o)
		if err == nil {
			return first, true
		}
		t.line.log.Warn("an outcome could not be stored", "job", o.Job, "kind", schemas.KindOf(err).String())
		switch schemas.KindOf(err) {
		case schemas.KindInvalid, schemas.KindTooLarge:
			if o.Status == schemas.Failed {
				return false, false
			}
			// The answer cannot be carried; saying so can.
			*o = enclave.Refused(&t.delivery.Attributes, &schemas.Error{Kind: schemas.KindTooLarge})
			if job != nil {
				o.Grant = ""
			}
			continue
		}
		if sleep(ctx, jitter(retryOutcome)); ctx.Err() != nil {
			break
		}
	}
	return false, false
}

// done acknowledges the job: the last act. It is repeated for a while; when it stays unheard the job is delivered again
// and found answered.
func (t *task) done() {
	ctx, cancel := context.WithTimeout(t.line.w.base, doneTimeout)
	defer cancel()
	for ctx.Err() == nil {
		err := t.delivery.Done(ctx)
		if err == nil {
			return
		}
		t.line.log.Debug("a job could not be acknowledged", "job", t.delivery.Attributes.ID, "error", err)
		sleep(ctx, jitter(retryOutcome))
	}
}

// bury keeps a copy of the job among the dead letters and acknowledges it. Each step may be repeated; when it fails the job
// is delivered again and only acknowledged, and its failed outcome tells the tenant all the same.
func (t *task) bury(cause error) {
	ctx, cancel := context.WithTimeout(t.line.w.base, doneTimeout)
	defer cancel()
	if err := t.delivery.DeadLetter(ctx, cause); err != nil {
		t.line.log.Warn("a job could not be kept as a dead letter", "job", t.delivery.Attributes.ID, "error", err)
		t.done()
	}
}
