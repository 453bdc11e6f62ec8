package streams

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cocoon-network/cocoon/schemas"
)

// headerError marks an answer that is an error: it holds the number of its kind, the body a remoteError.
const headerError = "cocoon-error"

// maxRemoteError bounds the body of an answer that is an error.
const maxRemoteError = 8 << 10

// remoteError is an error on its way to the caller. The cause stays where it happened.
type remoteError struct {
	Kind         schemas.Kind `json:"kind"`
	Field        string       `json:"field,omitempty"`
	Line         int          `json:"line,omitempty"`
	Message      string       `json:"message,omitempty"`
	RetryAfterMS int64        `json:"retry_after_ms,omitempty"`
}

// Call sends a request and returns the answer. An error that the other side returned arrives with its kind, field, message
// and RetryAfter. KindUnavailable: nobody answered before ctx ended or, when ctx has no deadline, Config.RequestTimeout
// passed (the request may have been carried out); errors.Is(err, nats.ErrNoResponders) tells that there is nobody.
// Nothing is repeated here.
func (b *Bus) Call(ctx context.Context, subject string, request []byte) ([]byte, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, b.conf.RequestTimeout)
		defer cancel()
	}
	answer, err := b.request(ctx, &nats.Msg{Subject: subject, Data: request})
	if err != nil {
		return nil, classify(err)
	}
	if len(answer.Header[headerError]) == 0 {
		return answer.Data, nil
	}
	return nil, parseRemote(answer.Data)
}

// parseRemote reads an error that another process sent.
func parseRemote(body []byte) error {
	var r remoteError
	if err := schemas.DecodeJSON(body, &r, maxRemoteError); err != nil {
		return schemas.Errorf(schemas.KindInternal, "an error that cannot be read: %w", err)
	}
	const maxWait = 24 * time.Hour
	wait := time.Duration(min(max(r.RetryAfterMS, 0), maxWait.Milliseconds())) * time.Millisecond
	return &schemas.Error{Kind: r.Kind, Field: r.Field, Line: r.Line, Message: r.Message, RetryAfter: wait}
}

// errorAnswer spells an error as an answer.
func errorAnswer(err error) *nats.Msg {
	r := remoteError{Kind: schemas.KindInternal, Message: "internal error"}
	var known *schemas.Error
	if errors.As(err, &known) {
		const maxText = 1 << 10
		r = remoteError{
			Kind: known.Kind, Field: known.Field[:min(len(known.Field), maxText)], Line: known.Line,
			Message: strings.ToValidUTF8(known.Message[:min(len(known.Message), maxText)], "?"), RetryAfterMS: known.RetryAfter.Milliseconds(),
		}
	}
	body, err := json.Marshal(r)
	if err != nil {
		body = []byte(`{"kind":` + strconv.Itoa(int(schemas.KindInternal)) + `}`)
	}
	return &nats.Msg{Header: nats.Header{headerError: {strconv.Itoa(int(r.Kind))}}, Data: body}
}

// Request is one request to a [Bus.Serve] handler.
type Request struct {
	// Subject is the subject it came on; Tokens are its parts.
	Subject string
	Tokens  []string
	// Body is the request itself, at most ServeOptions.MaxBody bytes.
	Body []byte
}

// Handler answers one request. A *schemas.Error is sent to the caller without its cause; any other error becomes
// KindInternal without its text. A panic becomes KindInternal too and is logged.
type Handler func(ctx context.Context, r Request) ([]byte, error)

// ServeOptions say how requests are served.
type ServeOptions struct {
	// Subject may hold wildcards.
	Subject string
	// Queue is the group of servers among which requests are shared. Empty: every server gets every request.
	Queue string
	// Workers bounds the requests handled at one time. Default 64.
	Workers int
	// Backlog bounds the requests that wait for a worker; further ones are answered KindBusy. Default 1,024.
	Backlog int
	// MaxBody refuses larger requests with KindTooLarge. Default 1 MiB.
	MaxBody int
	// Timeout bounds one handler call. Default 30 s.
	Timeout time.Duration
	// Ready, when set, is called once requests are received.
	Ready func()
}

// withDefaults fills in what is not set.
func (o ServeOptions) withDefaults() ServeOptions {
	set := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	set(&o.Workers, 64)
	set(&o.Backlog, 1024)
	set(&o.MaxBody, 1<<20)
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	return o
}

// Serve answers requests until ctx ends; then it takes no more, answers those it has taken and returns nil. It ends early,
// with an error, when the connection is closed or the subscription is denied.
func (b *Bus) Serve(ctx context.Context, o ServeOptions, h Handler) error {
	o = o.withDefaults()
	waiting := make(chan *nats.Msg, o.Backlog)
	take := func(m *nats.Msg) {
		select {
		case waiting <- m:
		default:
			b.answer(m, errorAnswer(&schemas.Error{Kind: schemas.KindBusy, Message: "too many requests wait", RetryAfter: busyHint}))
		}
	}
	sub, err := b.nc.QueueSubscribe(o.Subject, o.Queue, take)
	if err != nil {
		return classify(err)
	}
	if err := b.Flush(ctx); err != nil {
		_ = sub.Unsubscribe()
		return err
	}
	closed := sub.StatusChanged(nats.SubscriptionClosed)
	denied, stop := b.denials.denied(o.Subject)
	defer stop()
	if o.Ready != nil {
		o.Ready()
	}
	// Handlers outlive ctx by their timeout at most: what was taken is answered.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var workers sync.WaitGroup
	over := make(chan struct{})
	for range o.Workers {
		workers.Go(func() {
			for {
				select {
				case m := <-waiting:
					b.handle(work, o, h, m)
				case <-over:
					b.handleRest(work, o, h, waiting)
					return
				}
			}
		})
	}
	ended := b.untilClosed(ctx, sub, closed, denied)
	close(over) // not waiting: a callback may still be at it
	workers.Wait()
	return ended
}

// handleRest answers what has been taken and waits.
func (b *Bus) handleRest(ctx context.Context, o ServeOptions, h Handler, waiting <-chan *nats.Msg) {
	for {
		select {
		case m := <-waiting:
			b.handle(ctx, o, h, m)
		default:
			return
		}
	}
}

// untilClosed waits for the end of ctx and then of the subscription's callback, after which nothing is taken any more.
func (b *Bus) untilClosed(ctx context.Context, sub *nats.Subscription, closed <-chan nats.SubStatus, denied <-chan error) error {
	select {
	case <-ctx.Done():
	case err := <-denied:
		_ = sub.Unsubscribe()
		return err
	case <-closed:
		return schemas.Errorf(schemas.KindUnavailable, "the connection was closed")
	}
	end := sub.Drain
	if b.conf.InProcess != nil {
		// Nothing is under way in the network that a drain would wait for, and its timers must not cross test bubbles.
		end = sub.Unsubscribe
	}
	if err := end(); err != nil {
		return nil // closed meanwhile
	}
	// A connection that is closed during the drain does not tell the end of the subscription.
	for sub.IsValid() && !b.nc.IsClosed() {
		select {
		case <-closed:
			return nil
		case <-time.After(firstPause):
		}
	}
	return nil
}

// handle answers one request.
func (b *Bus) handle(ctx context.Context, o ServeOptions, h Handler, m *nats.Msg) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	if len(m.Data) > o.MaxBody {
		b.answer(m, errorAnswer(schemas.Errorf(schemas.KindTooLarge, "request is larger than %d bytes", o.MaxBody)))
		return
	}
	body, err := b.guarded(ctx, h, Request{Subject: m.Subject, Tokens: strings.Split(m.Subject, "."), Body: m.Data})
	if err != nil {
		b.answer(m, errorAnswer(err))
		return
	}
	b.answer(m, &nats.Msg{Data: body})
}

// guarded calls the handler and turns a panic into an error: one bad request must not end a service.
func (b *Bus) guarded(ctx context.Context, h Handler, r Request) (body []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			b.log.Error("a handler panicked", "subject", r.Subject, "panic", p)
			err = schemas.Errorf(schemas.KindInternal, "internal error")
		}
	}()
	return h(ctx, r)
}

// answer sends an answer if one is wanted. An answer that is lost is a timeout at the caller.
func (b *Bus) answer(m, answer *nats.Msg) {
	if m.Reply == "" {
		return
	}
	answer.Subject = m.Reply
	if err := b.nc.PublishMsg(answer); err != nil {
		b.log.Warn("an answer could not be sent", "subject", m.Subject, "error", err)
	}
}
