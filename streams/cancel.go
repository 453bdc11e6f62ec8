package streams

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cocoon-network/cocoon/schemas"
)

// CancelState says what a cancellation came to.
type CancelState string

// The answers to a cancellation.
const (
	// CancelDone: the job was waiting; it is out of the queue and its outcome says cancelled.
	CancelDone CancelState = "cancelled"
	// CancelStopping: a worker runs it and stops at its next step; the outcome follows.
	CancelStopping CancelState = "stopping"
	// CancelTooLate: the job has an outcome already.
	CancelTooLate CancelState = "finished"
)

// cancelTimeout bounds a cancellation when its context does not: control may have to look for the job.
const cancelTimeout = 20 * time.Second

// cancelAnswer is control's answer to a cancellation.
type cancelAnswer struct {
	State CancelState `json:"state"`
}

// Cancel asks control to end a job of a tenant. at is where the job was stored, as PublishJob said; with the zero Ack
// control looks for it. KindNotFound: there is no such job. It may be repeated.
func (b *Bus) Cancel(ctx context.Context, tenant schemas.TenantID, job schemas.JobID, at Ack) (CancelState, error) {
	if _, err := schemas.ParseTenantID(string(tenant)); err != nil {
		return "", err
	}
	if _, err := schemas.ParseJobID(string(job)); err != nil {
		return "", err
	}
	body, err := json.Marshal(at)
	if err != nil {
		return "", schemas.Errorf(schemas.KindInternal, "cancel: %w", err)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cancelTimeout)
		defer cancel()
	}
	text, err := b.Call(ctx, subjectCancel(tenant, job), body)
	if err != nil {
		return "", err
	}
	var answer cancelAnswer
	if err := schemas.DecodeJSON(text, &answer, maxRemoteError); err != nil {
		return "", err
	}
	return answer.State, nil
}

// ServeCancels answers cancellations until ctx ends; control calls it.
func (b *Bus) ServeCancels(ctx context.Context, cancel func(context.Context, schemas.TenantID, schemas.JobID, Ack) (CancelState, error)) error {
	return b.Serve(ctx, ServeOptions{Subject: "ctl.cancel.*.*", Queue: ControlGroup, MaxBody: maxRemoteError},
		func(ctx context.Context, r Request) ([]byte, error) {
			var at Ack
			if err := schemas.DecodeJSON(r.Body, &at, maxRemoteError); err != nil {
				return nil, err
			}
			tenant, err := schemas.ParseTenantID(r.Tokens[2])
			if err != nil {
				return nil, err
			}
			job, err := schemas.ParseJobID(r.Tokens[3])
			if err != nil {
				return nil, err
			}
			state, err := cancel(ctx, tenant, job, at)
			if err != nil {
				return nil, err
			}
			return json.Marshal(cancelAnswer{state})
		})
}

// stopBuffer bounds the notes about jobs to stop that wait to be read.
const stopBuffer = 1024

// ServeStops hears the cancellations of a model's running jobs until ctx ends. stop ends the job if this worker runs it
// and reports whether it does; the worker then publishes the cancelled outcome. A note is not stored: one that comes
// while the connection is away is missed, and the job runs to its end as if nobody had asked.
func (b *Bus) ServeStops(ctx context.Context, slug string, stop func(schemas.TenantID, schemas.JobID) bool) error {
	if !schemas.ValidToken(slug) {
		return schemas.FieldError("slug", "must be one subject token of a-z, 0-9, _ and -")
	}
	notes := make(chan *nats.Msg, stopBuffer)
	sub, err := b.nc.ChanSubscribe(subjectStop(slug), notes)
	if err != nil {
		return classify(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	denied, stopWatch := b.denials.denied(sub.Subject)
	defer stopWatch()
	if err := b.Flush(ctx); err != nil {
		return err
	}
	for {
		select {
		case err := <-denied:
			return err
		case m := <-notes:
			tenant, job, ok := strings.Cut(string(m.Data), ".")
			if !ok || !stop(schemas.TenantID(tenant), schemas.JobID(job)) {
				continue
			}
			if err := b.nc.Publish(subjectClaim(schemas.JobID(job)), nil); err != nil {
				b.log.Warn("a stop could not be claimed", "job", job, "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Stop tells the workers of a model to stop a job and reports whether one of them claims to run it within wait.
func (b *Bus) Stop(ctx context.Context, slug string, tenant schemas.TenantID, job schemas.JobID, wait time.Duration) (bool, error) {
	claims := make(chan *nats.Msg, 1)
	sub, err := b.nc.ChanSubscribe(subjectClaim(job), claims)
	if err != nil {
		return false, classify(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := b.Flush(ctx); err != nil {
		return false, err
	}
	if err := b.nc.Publish(subjectStop(slug), []byte(string(tenant)+"."+string(job))); err != nil {
		return false, classify(err)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-claims:
		return true, nil
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
