package streams

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of a bulk submission.
const (
	defaultWindow = 256
	maxWindow     = 4096
)

// BulkOptions steer [Bus.PublishJobs].
type BulkOptions struct {
	// Window is the number of jobs sent and not yet acknowledged. Default 256, at most 4,096.
	Window int
	// WaitBusy is how long one job waits for room in a full queue before it fails with KindBusy. Default 0: not at all.
	WaitBusy time.Duration
}

// Published is the result of one job of a bulk submission.
type Published struct {
	// Index counts the jobs of the sequence from 0.
	Index int
	// Job is its id.
	Job schemas.JobID
	// Ack is valid when Err is nil; Err is as in [Bus.PublishJob].
	Ack Ack
	Err error
}

// inFlight is a job whose acknowledgement has not come.
type inFlight struct {
	index  int
	job    schemas.JobID
	msg    *nats.Msg
	future jetstream.PubAckFuture
	// err is set when the job could not be sent at all.
	err error
}

// PublishJobs stores many jobs, a window of them at a time. It yields exactly one result per job, in the order of the
// jobs; one job's failure does not stop the others. Ending the loop early leaves at most Window jobs published
// without a result; publishing them again is harmless. It runs in the caller's goroutine and reads jobs only as
// fast as the window moves.
func (b *Bus) PublishJobs(ctx context.Context, jobs iter.Seq[Job], o BulkOptions) iter.Seq[Published] {
	window := o.Window
	if window <= 0 {
		window = defaultWindow
	}
	window = min(window, maxWindow)
	return func(yield func(Published) bool) {
		ring := make([]inFlight, window) // job i is at i modulo window
		next := 0
		for j := range jobs {
			at := &ring[next%window]
			if next >= window && !yield(b.settle(ctx, *at, o.WaitBusy)) {
				return
			}
			*at = b.launch(ctx, next, j)
			next++
		}
		for i := max(0, next-window); i < next; i++ {
			if !yield(b.settle(ctx, ring[i%window], o.WaitBusy)) {
				return
			}
		}
	}
}

// launch sends a job without waiting for its acknowledgement.
func (b *Bus) launch(ctx context.Context, index int, j Job) inFlight {
	f := inFlight{index: index, job: j.Attributes.ID}
	if f.err = ctx.Err(); f.err != nil {
		f.err = classify(f.err)
		return f
	}
	if f.msg, f.err = b.jobMessage(ctx, j); f.err != nil {
		return f
	}
	f.err = b.write(ctx, OpJob, f.msg.Subject, func() (err error) {
		f.future, err = b.async.PublishMsgAsync(f.msg, jetstream.WithStallWait(b.conf.RequestTimeout))
		return err
	})
	return f
}

// settle waits for the acknowledgement of a job. What the first try left open is tried again with the same bytes, one job
// after the other: that happens while the cluster is away, when a window would not help.
func (b *Bus) settle(ctx context.Context, f inFlight, waitBusy time.Duration) Published {
	p := Published{Index: f.index, Job: f.job, Err: classify(f.err)}
	if f.future != nil && f.err == nil {
		select {
		case ack := <-f.future.Ok():
			p.Ack = ackOf(ack)
			return p
		case err := <-f.future.Err():
			p.Err = classify(err)
		case <-ctx.Done():
			p.Err = classify(ctx.Err())
			return p
		}
	}
	if f.msg == nil || p.Err == nil {
		return p
	}
	if errors.Is(p.Err, schemas.KindUnavailable) || errors.Is(p.Err, schemas.KindBusy) && waitBusy > 0 {
		p.Ack, p.Err = b.again(ctx, f.msg, waitBusy)
	}
	return p
}

// again publishes one message until it is stored, refused for good, or has waited too long for room.
func (b *Bus) again(ctx context.Context, m *nats.Msg, waitBusy time.Duration) (Ack, error) {
	deadline := time.Now().Add(waitBusy)
	for pause := firstPause; ; pause = min(2*pause, busyHint) {
		ack, err := b.publish(ctx, OpJob, m)
		if err == nil {
			return ackOf(ack), nil
		}
		if !errors.Is(err, schemas.KindBusy) || !time.Now().Add(pause).Before(deadline) || !sleep(ctx, pause) {
			return Ack{}, err
		}
	}
}
