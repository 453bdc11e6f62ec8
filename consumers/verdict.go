package consumers

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Why a job's context ended, besides errLeaseLost. Each is the cause of a cancelled context and branches in judge.
var (
	errStopped  = &schemas.Error{Kind: schemas.KindCancelled, Message: "the tenant cancelled the job"}
	errOverdue  = &schemas.Error{Kind: schemas.KindExpired, Message: "the job's deadline passed"}
	errHung     = errors.New("consumers: the engine made no progress")
	errDraining = errors.New("consumers: the worker ends")
	errTooLong  = errors.New("consumers: the job ran longer than a worker may run one")
)

// Delays before a job that was given back is delivered again; each is jittered by half up and down.
const (
	delayMoment  = time.Second      // somebody had no room: soon
	delayShort   = 5 * time.Second  // something was away or broke: let it come back
	delayLong    = 15 * time.Second // another worker holds the lease: about when it may have lapsed
	maxDelay     = time.Minute      // whatever a refusal asks for
	maxBusyDelay = 30 * time.Second // of a job that finds no room again and again
)

// action is what happens to a job that did not run to its end.
type action int

const (
	// finish: publish an outcome that says so, then acknowledge. Nobody can do better.
	finish action = iota
	// again: give the job back to the queue, to be delivered after a delay.
	again
	// drop: let go without a word to the queue, because every word could hit another worker's delivery.
	drop
)

// verdict is what to do with a job after a failure.
type verdict struct {
	action action
	// status and kind are those of the outcome of a finished job; kind is also what metrics and logs say.
	status schemas.Status
	kind   schemas.Kind
	// after is the delay of a job that goes back, before jitter.
	after time.Duration
	// counts tells that the job itself may be at fault: its last attempt ends it as poison.
	counts bool
	// bury keeps a copy among the dead letters, for an operator to look at and replay.
	bury bool
}

// judge decides what becomes of a job after an error. It is the only place that does, for refusals of the broker,
// failures of the engine and causes of a cancelled context alike.
func judge(err error) verdict {
	// Why the worker itself stopped comes first: an engine answers KindCancelled to all of them.
	switch {
	case errors.Is(err, errLeaseLost), errors.Is(err, streams.ErrLeaseLost):
		return verdict{action: drop, kind: schemas.KindLeased}
	case errors.Is(err, errDraining):
		// The job is as good as untouched; another worker may have it at once.
		return verdict{action: again, kind: schemas.KindUnavailable, after: delayMoment / 10}
	case errors.Is(err, errHung), errors.Is(err, errTooLong):
		return verdict{action: again, kind: schemas.KindEngine, after: delayShort, counts: true}
	}
	var e *schemas.Error
	errors.As(err, &e)
	kind := schemas.KindOf(err)
	v := verdict{action: finish, status: schemas.Failed, kind: kind}
	switch kind {
	case schemas.KindLeased:
		// Another worker runs it by the broker's account; the queue thought that worker dead. Come back later.
		v = verdict{action: again, kind: kind, after: delayLong}
	case schemas.KindBusy:
		// No room at the broker or in the engine. Nothing was begun.
		v = verdict{action: again, kind: kind, after: delayMoment}
	case schemas.KindUnavailable, schemas.KindAttestation, schemas.KindDenied:
		// The broker or the engine is away, or this worker's session is no longer believed: nothing is wrong with the
		// job, and another worker may be luckier. The session is renewed elsewhere.
		v = verdict{action: again, kind: kind, after: delayShort}
	case schemas.KindPolicy:
		// The policy admits this worker not, or not for this model; it may admit others.
		v = verdict{action: again, kind: kind, after: delayShort}
	case schemas.KindPrice:
		// This worker asks more than the job pays; a cheaper one may come before the job expires.
		v = verdict{action: again, kind: kind, after: delayLong}
	case schemas.KindEngine:
		// The engine broke under it. Elsewhere or later it may run, or it breaks every engine: attempts are counted.
		v = verdict{action: again, kind: kind, after: delayShort, counts: true}
	case schemas.KindReplayed:
		// The job has had its outcome, or its grant was used: someone else is further. If no outcome comes, it returns.
		v = verdict{action: again, kind: kind, after: delayLong}
	case schemas.KindInternal, schemas.KindUnknown, schemas.KindCorrupt:
		// A bug or a broken part on our side, not the job's fault, but a job that triggers it every time must end.
		v = verdict{action: again, kind: schemas.KindInternal, after: delayShort, counts: true}
	case schemas.KindExpired:
		v.status = schemas.Expired
	case schemas.KindCancelled:
		v.status = schemas.Cancelled
	case schemas.KindPoison, schemas.KindSealed:
		// Every attempt failed, or nobody can open it: somebody should look at it.
		v.bury = true
	case schemas.KindInvalid, schemas.KindTooLarge, schemas.KindUnknownModel, schemas.KindUnsupported,
		schemas.KindKeyLost, schemas.KindCredit, schemas.KindConflict, schemas.KindNotFound:
		// Final: only the producer can change something.
	default:
		// A kind that a newer broker knows. Not to be guessed at, but not to be repeated for ever either.
		v = verdict{action: again, kind: kind, after: delayLong, counts: true}
	}
	if e != nil && e.RetryAfter > 0 && v.action == again {
		v.after = min(e.RetryAfter, maxDelay)
	}
	return v
}

// on replaces an error by the reason why ctx ended, if it did: whatever broke then broke because of that.
func on(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// poison turns a verdict that would give the job back into its end, when there is no attempt left.
func (v verdict) poison() verdict {
	if v.action == again && v.counts {
		return verdict{action: finish, status: schemas.Failed, kind: schemas.KindPoison, bury: true}
	}
	return v
}

// wait is the delay of a job that goes back after the given number of deliveries. One that finds no room, such as a job
// behind a thousand others of a tenant with little credit, asks less and less often: each asking costs a delivery and a grant
// call.
func (v verdict) wait(delivered int) time.Duration {
	d := v.after
	if v.kind != schemas.KindBusy || d <= 0 {
		return d
	}
	for ; delivered > 1 && d < maxBusyDelay; delivered-- {
		d = min(2*d, maxBusyDelay)
	}
	return d
}

// jitter spreads delays over half to one and a half, so that jobs which failed together do not come back together.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d/2 + rand.N(d)
}
