package consumers

import (
	"context"
	"errors"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Waits between two tries to be admitted.
const (
	minAttestBackoff = time.Second
	maxAttestBackoff = time.Minute
	attestTimeout    = time.Minute
	// policySpread is about how long a fleet takes to show evidence after a change of policy, instead of all at once.
	policySpread = time.Second
)

// admit shows evidence for the first time. Brokers that cannot be reached are waited for; a refusal is an error: a worker
// that was never admitted is set up wrongly, and somebody should see it now.
func (w *Worker) admit(ctx context.Context) error {
	for backoff := minAttestBackoff; ; backoff = min(2*backoff, maxAttestBackoff) {
		err := w.show(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return nil // asked to end before it began: nothing is held
		case notAdmitted(err):
			return err
		}
		w.log.Warn("the brokers cannot be reached", "kind", schemas.KindOf(err).String(), "error", err, "after", backoff)
		select {
		case <-w.drained:
			return nil
		default:
		}
		sleep(ctx, jitter(backoff))
	}
}

// show makes a new session with fresh evidence and opens the gate.
func (w *Worker) show(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attestTimeout)
	defer cancel()
	if w.c.PolicyChanged != nil { // before the evidence is judged, so that no change is missed
		w.policy = w.c.PolicyChanged()
	}
	if err := w.c.Session.Attest(ctx, w.call); err != nil {
		return err
	}
	w.log.Info("the worker is admitted", "until", w.c.Session.Expires())
	w.gate.set(gateSession, "")
	return nil
}

// notAdmitted tells a refusal from brokers that are away.
func notAdmitted(err error) bool {
	return errors.Is(err, schemas.KindPolicy) || errors.Is(err, schemas.KindAttestation)
}

// attest keeps the worker admitted until ctx ends: fresh evidence after two thirds of a session, at once when the policy
// or the ask changes, and again and again while the brokers are away or refuse it. Meanwhile nothing is pulled, so that
// jobs are not taken from workers that could run them; running jobs go on.
func (w *Worker) attest(ctx context.Context) {
	backoff := minAttestBackoff
	wait := w.renewAfter()
	for {
		w.awaitAttest(ctx, wait)
		if ctx.Err() != nil {
			return
		}
		err := w.show(ctx)
		switch {
		case err == nil:
			backoff, wait = minAttestBackoff, w.renewAfter()
			continue
		case ctx.Err() != nil:
			return
		case notAdmitted(err):
			w.log.Error("the worker is not admitted", "kind", schemas.KindOf(err).String(), "error", err, "after", backoff)
			w.gate.set(gateSession, "not admitted: "+schemas.KindOf(err).String())
		case time.Now().After(w.c.Session.Expires()):
			w.log.Warn("the brokers cannot be reached", "error", err, "after", backoff)
			w.gate.set(gateSession, "no broker")
		}
		wait, backoff = jitter(backoff), min(2*backoff, maxAttestBackoff)
	}
}

// renewAfter is when evidence is shown again while nothing happens: after two thirds of the session, jittered so that a
// fleet does not come all together.
func (w *Worker) renewAfter() time.Duration {
	left := max(time.Until(w.c.Session.Expires()), 0)
	return left*6/10 + jitter(left/15)
}

// awaitAttest sleeps until evidence should be shown.
func (w *Worker) awaitAttest(ctx context.Context, wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-w.reattest:
	case <-w.policy:
		sleep(ctx, jitter(policySpread))
	}
}

// sessionFailed hears that a call failed as a whole. Nothing more is pulled until a session stands again: every job that
// were taken meanwhile would use up a delivery for nothing.
func (w *Worker) sessionFailed(err error) {
	if w.base.Err() != nil {
		return
	}
	w.gate.set(gateSession, "no grants: "+schemas.KindOf(err).String())
	poke(w.reattest)
}
