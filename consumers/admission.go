package consumers

import (
	"context"
	"errors"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// Waits between two tries to be admitted.
const (
	minAttestBackoff = time.Second
	maxAttestBackoff = time.Minute
	attestTimeout    = time.Minute
	reachTimeout     = 3 * time.Second
	// maxReachWait bounds the wait between two calls to brokers that are away: they cost nothing, and jobs wait.
	maxReachWait = 5 * time.Second
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

// reach asks the brokers for a challenge, the cheapest call there is, and opens the gate when one answers: they were away
// and came back, and the session still stands.
func (w *Worker) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	challenge := schemas.EncodeCall(&schemas.ChallengeRequest{Version: schemas.EnvelopeVersion})
	if _, err := w.call(ctx, enclave.VerbChallenge, challenge); err != nil {
		return err
	}
	w.log.Info("the brokers answer again")
	w.gate.set(gateSession, "")
	return nil
}

// attest keeps the worker admitted until ctx ends: fresh evidence after two thirds of a session, at once when the policy
// or the ask changes, and again and again while the brokers refuse it. Brokers that are merely away are waited for. In both
// cases nothing is pulled meanwhile, so that jobs are not taken from workers that could run them; running jobs go on.
func (w *Worker) attest(ctx context.Context) {
	backoff, wait, away := minAttestBackoff, w.renewAfter(), false
	for {
		switch w.awaitAttest(ctx, wait) {
		case newsOver:
			return
		case newsAway:
			away = true
		case newsChanged:
			away = false
		case newsNone:
		}
		try := w.show
		if away && time.Until(w.c.Session.Expires()) > attestTimeout {
			try = w.reach
		}
		err := try(ctx)
		switch {
		case err == nil:
			backoff, wait, away = minAttestBackoff, w.renewAfter(), false
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
		if away {
			wait = min(wait, maxReachWait)
		}
	}
}

// renewAfter is when evidence is shown again while nothing happens: after two thirds of the session, jittered so that a
// fleet does not come all together.
func (w *Worker) renewAfter() time.Duration {
	left := max(time.Until(w.c.Session.Expires()), 0)
	return left*6/10 + jitter(left/15)
}

// news is why the attest loop woke up.
type news int

const (
	newsNone    news = iota // the time is over
	newsOver                // the context has ended
	newsAway                // brokers did not answer a call
	newsChanged             // policy, ask, or what the brokers think of the session
)

// awaitAttest sleeps until the brokers should be called.
func (w *Worker) awaitAttest(ctx context.Context, wait time.Duration) news {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return newsOver
	case <-t.C:
		return newsNone
	case <-w.away:
		return newsAway
	case <-w.reattest:
		return newsChanged
	case <-w.policy:
		sleep(ctx, jitter(policySpread))
		return newsChanged
	}
}

// sessionFailed hears that a grant call failed as a whole. Nothing more is pulled until the brokers answer again: every job
// that were taken meanwhile would use up a delivery for nothing. Brokers that are only busy need a moment, and no more.
func (w *Worker) sessionFailed(err error) {
	kind := schemas.KindOf(err)
	switch {
	case w.base.Err() != nil:
	case kind == schemas.KindBusy:
		for _, l := range w.lines {
			l.pause(jitter(judge(err).after))
		}
	default:
		w.gate.set(gateSession, "no grants: "+kind.String())
		if kind == schemas.KindUnavailable {
			poke(w.away)
		} else {
			poke(w.reattest)
		}
	}
}
