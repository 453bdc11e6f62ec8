package streams

import (
	"context"
	"errors"
	"math/rand/v2"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// Pauses between the tries of one write.
const (
	firstPause = 20 * time.Millisecond
	maxPause   = 500 * time.Millisecond
)

// retry calls try until it succeeds, fails for good, or RetryFor has passed or ctx has ended. Each try has RequestTimeout.
// Only KindUnavailable is repeated: everything else was an answer. The bytes of a write are the same on every try.
func (b *Bus) retry(ctx context.Context, try func(context.Context) error) error {
	over := time.Now().Add(b.conf.RetryFor)
	err := b.once(ctx, try)
	if !b.worthwhile(err) { // nearly always: no second deadline is needed then
		return err
	}
	ctx, cancel := context.WithDeadline(ctx, over)
	defer cancel()
	for pause := firstPause; sleep(ctx, pause/2+rand.N(pause)); pause = min(2*pause, maxPause) {
		if err = b.once(ctx, try); !b.worthwhile(err) {
			return err
		}
	}
	return err
}

// worthwhile reports whether another try may bring what this one did not.
func (b *Bus) worthwhile(err error) bool {
	return errors.Is(err, schemas.KindUnavailable) && !b.nc.IsClosed()
}

// once is one try under its own deadline.
func (b *Bus) once(ctx context.Context, try func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return classify(err)
	}
	ctx, cancel := context.WithTimeout(ctx, b.conf.RequestTimeout)
	defer cancel()
	return classify(try(ctx))
}

// sleep waits for d and reports false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// write passes one try of an external write through Config.Intercept.
func (b *Bus) write(ctx context.Context, op Op, subject string, do func() error) error {
	if b.conf.Intercept == nil {
		return do()
	}
	return b.conf.Intercept(ctx, Write{Op: op, Subject: subject}, do)
}

// publish stores one message and returns the acknowledgement, repeating the same bytes while the cluster is away.
//
// Commit point: the acknowledgement. An error leaves open whether the message is stored; Nats-Msg-Id or an expected
// sequence in m must make a repetition harmless.
func (b *Bus) publish(ctx context.Context, op Op, m *nats.Msg) (ack *jetstream.PubAck, err error) {
	err = b.retry(ctx, func(ctx context.Context) error {
		return b.write(ctx, op, m.Subject, func() (err error) {
			ack, err = b.publishOnce(ctx, m)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return ack, nil
}

// publishOnce is one try of publish.
func (b *Bus) publishOnce(ctx context.Context, m *nats.Msg) (ack *jetstream.PubAck, err error) {
	err = b.watchDenial(ctx, m.Subject, func(ctx context.Context) (err error) {
		ack, err = b.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
		return err
	})
	return ack, err
}

// request sends one request and returns the answer; the caller classifies the error.
func (b *Bus) request(ctx context.Context, m *nats.Msg) (answer *nats.Msg, err error) {
	err = b.watchDenial(ctx, m.Subject, func(ctx context.Context) (err error) {
		answer, err = b.nc.RequestMsgWithContext(ctx, m)
		return err
	})
	return answer, err
}

// denials connects refusals, which the server reports beside the answers, with those who must hear of them: without it a
// call without permission would just time out, and a subscription stay silent.
type denials struct {
	// mu guards watching; held only to add, remove and look up.
	mu       sync.Mutex
	watching map[string]map[*denialWatch]struct{}
}

// denialWatch is somebody who waits on a subject.
type denialWatch struct{ denied func(error) }

// deniedSubject takes the subject out of the server's -ERR line, whose form is part of the NATS protocol.
var deniedSubject = regexp.MustCompile(`for (?:Publish|Subscription) to "(\S+?)"`)

// report tells those who wait on the subject of a permission violation.
func (d *denials) report(err error) {
	m := deniedSubject.FindStringSubmatch(err.Error())
	if m == nil {
		return
	}
	d.mu.Lock()
	var told []*denialWatch
	for w := range d.watching[m[1]] {
		told = append(told, w)
	}
	d.mu.Unlock()
	for _, w := range told {
		w.denied(schemas.Errorf(schemas.KindDenied, "no permission for %q: %w", m[1], err))
	}
}

// watch calls denied, maybe more than once, when the server refuses the subject, until stop is called.
func (d *denials) watch(subject string, denied func(error)) (stop func()) {
	w := &denialWatch{denied}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.watching == nil {
		d.watching = map[string]map[*denialWatch]struct{}{}
	}
	if d.watching[subject] == nil {
		d.watching[subject] = map[*denialWatch]struct{}{}
	}
	d.watching[subject][w] = struct{}{}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.watching[subject], w)
		if len(d.watching[subject]) == 0 {
			delete(d.watching, subject)
		}
	}
}

// denied is watch as a channel, which holds the first refusal.
func (d *denials) denied(subject string) (<-chan error, func()) {
	c := make(chan error, 1)
	return c, d.watch(subject, func(err error) {
		select {
		case c <- err:
		default:
		}
	})
}

// watchDenial calls f with a context that ends when the server refuses the subject.
func (b *Bus) watchDenial(ctx context.Context, subject string, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer b.denials.watch(subject, cancel)()
	err := f(ctx)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, schemas.KindDenied) {
		return cause
	}
	return err
}
