package streams

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// Delivery is one job taken from a queue, under a lease that lapses unless it is extended (see [Delivery.Extend]). Its methods may
// be called from several goroutines.
type Delivery struct {
	// Attributes were parsed and agree with the subject, which the sender's permissions cover.
	Attributes schemas.Attributes
	// Envelope is the sealed job.
	Envelope []byte
	// Route and Ack say where it came from.
	Route Route
	Ack   Ack
	// Delivered is 1 for the first delivery of the job; above 1, look for an outcome before running it.
	Delivered int
	// Queued is when the stream stored it, by the server's clock.
	Queued time.Time
	// TraceParent is the producer's trace context, if it sent one.
	TraceParent string

	bus *Bus
	// reply is the subject of acknowledgements; the others are kept for the dead letter, as they were queued.
	reply  string
	header nats.Header
	data   []byte
	class  schemas.Class
	tenant schemas.TenantID

	// wait is the length of a lease in this queue.
	wait time.Duration
	// mu guards leased.
	mu sync.Mutex
	// leased is when the lease began at the latest, with the monotonic clock's reading: a jump of the wall clock does not
	// move it.
	leased time.Time
}

// The acknowledgements of JetStream.
const (
	ackDone     = "+ACK"
	ackProgress = "+WPI"
	ackRetry    = "-NAK"
	ackTerm     = "+TERM"
)

// Lease is how long the job is still ours, by this machine's monotonic clock and counted from before the fetch or the last
// successful Extend was sent. At 0 another worker may have it: drop it without another word.
func (d *Delivery) Lease() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(0, d.wait-time.Since(d.leased))
}

// Beat is how often to extend the lease: a third of its length, [Heartbeat] unless the topology says otherwise.
func (d *Delivery) Beat() time.Duration { return d.wait / 3 }

// Extend renews the lease to its full length and returns when the server has confirmed it. Call it every [Delivery.Beat].
// After the lease it refuses with [ErrLeaseLost]: a late heartbeat would keep the job from its next holder.
func (d *Delivery) Extend(ctx context.Context) error {
	if d.Lease() == 0 {
		return ErrLeaseLost
	}
	before := time.Now()
	if err := d.ack(ctx, OpExtend, ackProgress, d.bus.once); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leased = before
	return nil
}

// Done removes the job from its queue and returns when the server has confirmed it. Call it as the last act, after the
// outcome is stored; repeating it is harmless, and so is a crash before it.
func (d *Delivery) Done(ctx context.Context) error {
	return d.ack(ctx, OpDone, ackDone, d.bus.retry)
}

// Retry gives the job back to its queue, to be delivered again after delay. A job whose lease has lapsed is not given
// back, because that would take it from its new holder: the error is [ErrLeaseLost].
func (d *Delivery) Retry(ctx context.Context, delay time.Duration) error {
	verb := ackRetry
	if delay > 0 {
		verb += ` {"delay": ` + strconv.FormatInt(int64(delay), 10) + `}`
	}
	return d.whileLeased(ctx, OpRetry, verb)
}

// Terminate removes the job from its queue without success; the outcome must be stored before. Like Retry it refuses
// with [ErrLeaseLost] after the lease.
func (d *Delivery) Terminate(ctx context.Context, reason string) error {
	return d.whileLeased(ctx, OpTerminate, ackTerm+" "+oneLine(reason))
}

// whileLeased sends an acknowledgement that would harm another holder of the job.
func (d *Delivery) whileLeased(ctx context.Context, op Op, verb string) error {
	lease := d.Lease()
	if lease == 0 {
		return ErrLeaseLost
	}
	ctx, cancel := context.WithTimeout(ctx, lease)
	defer cancel()
	return d.ack(ctx, op, verb, d.bus.retry)
}

// ack sends an acknowledgement and waits for the server's answer.
//
// Commit point: the answer. It proves that the server has processed the acknowledgement, not that the lease was ours.
func (d *Delivery) ack(ctx context.Context, op Op, verb string, try func(context.Context, func(context.Context) error) error) error {
	return try(ctx, func(ctx context.Context) error {
		return d.bus.write(ctx, op, d.reply, func() error {
			_, err := d.bus.request(ctx, &nats.Msg{Subject: d.reply, Data: []byte(verb)})
			return err
		})
	})
}

// oneLine keeps a reason printable and short.
func oneLine(s string) string {
	const limit = 256
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s)
	return s[:min(len(s), limit)]
}

// DeadLetter keeps a copy of the job (sealed bytes and public attributes) in the dead-letter stream, publishes a failed
// outcome with the cause's kind and removes the job from its queue. Each step may be repeated; a job that has an
// outcome already keeps it.
func (d *Delivery) DeadLetter(ctx context.Context, cause error) error {
	letter := deadMessage{
		route: d.Route, class: d.class, tenant: d.tenant, job: d.Attributes.ID, origin: d.Ack,
		kind: schemas.KindOf(cause), reason: cause.Error(), deliveries: d.Delivered, header: d.header, data: d.data,
	}
	if err := d.bus.bury(ctx, letter); err != nil {
		return err
	}
	if d.Attributes.ID != "" {
		if _, err := d.bus.PublishOutcome(ctx, failedOutcome(d.Attributes, cause)); err != nil {
			return err
		}
	}
	return d.Done(ctx)
}

// failedOutcome is the outcome of a job that could not be finished.
func failedOutcome(a schemas.Attributes, cause error) schemas.Outcome {
	kind := schemas.KindOf(cause)
	if kind == schemas.KindUnknown {
		kind = schemas.KindInternal
	}
	return schemas.Outcome{Job: a.ID, Tenant: a.Tenant, Model: a.Model, Status: schemas.Failed, Kind: kind}
}

// newDelivery reads a message of a queue. For a message that is no job it returns a delivery that can only be turned into a
// dead letter, and the reason; KindUnavailable means that its body could not be fetched now.
func (b *Bus) newDelivery(ctx context.Context, m jetstream.Msg, r Route, leased time.Time, wait time.Duration) (*Delivery, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "delivery without metadata: %w", err)
	}
	d := &Delivery{
		bus: b, reply: m.Reply(), header: nats.Header(m.Headers()), leased: leased, wait: wait, Route: r, data: m.Data(),
		Ack:       Ack{Stream: meta.Stream, Seq: meta.Sequence.Stream},
		Delivered: int(meta.NumDelivered), Queued: meta.Timestamp,
	}
	q, err := parseQueueSubject(m.Subject())
	if err != nil {
		return d, err
	}
	d.class, d.tenant = q.class, q.tenant
	if d.Attributes, err = attributesOf(q, d.header); err != nil {
		d.Attributes = schemas.Attributes{}
		return d, err
	}
	if trace := d.header[headerTrace]; len(trace) == 1 && len(trace[0]) <= maxTrace {
		d.TraceParent = trace[0]
	}
	if d.Envelope, err = b.checkOut(ctx, d.tenant, d.header, d.data); err != nil {
		return d, err
	}
	return d, nil
}

// queueSubject is a queue's subject taken apart.
type queueSubject struct {
	route  Route
	class  schemas.Class
	tenant schemas.TenantID
}

// parseQueueSubject takes q.<shard>.<model>.<class>.<lane>.<tenant> apart.
func parseQueueSubject(subject string) (q queueSubject, err error) {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 6 || tokens[0] != "q" {
		return q, schemas.FieldError("subject", "is not that of a queue")
	}
	if q.route.Shard, err = strconv.Atoi(tokens[1]); err != nil {
		return q, schemas.FieldError("subject", "has no shard")
	}
	q.route.Slug = tokens[2]
	if q.class, err = schemas.ParseClass(tokens[3]); err != nil {
		return q, err
	}
	if q.tenant, err = schemas.ParseTenantID(tokens[5]); err != nil {
		return q, err
	}
	return q, q.route.Check()
}

// attributesOf parses a job's attributes and holds them against its subject. The subject is what the sender's permissions
// cover, so it says who the tenant is.
func attributesOf(q queueSubject, h nats.Header) (schemas.Attributes, error) {
	a, err := schemas.ParseAttributes(h)
	if err != nil {
		return a, err
	}
	ref, err := schemas.ParseModelID(string(a.Model))
	if err != nil {
		return a, err
	}
	switch {
	case a.Tenant != q.tenant:
		return a, schemas.FieldError("ce-source", "is another tenant than the subject's")
	case a.Class != q.class:
		return a, schemas.FieldError("ce-cocoonclass", "is another class than the subject's")
	case ref.Slug() != q.route.Slug:
		return a, schemas.FieldError("ce-subject", "is another model than the subject's")
	}
	return a, nil
}

// checkOut returns the body of a message, from the object store when its header says so.
func (b *Bus) checkOut(ctx context.Context, tenant schemas.TenantID, h nats.Header, inline []byte) ([]byte, error) {
	name, size := h[headerBody], h[headerSize]
	if len(name) == 0 && len(size) == 0 {
		return inline, nil
	}
	if len(name) != 1 || len(size) != 1 || len(inline) != 0 {
		return inline, schemas.FieldError(headerBody, "needs one size and an empty body")
	}
	hash, err := schemas.ParseHash(name[0])
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseInt(size[0], 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != size[0] {
		return nil, schemas.FieldError(headerSize, "must be a whole number")
	}
	body, err := b.bodies(tenant).readAll(ctx, hash, n, MaxEnvelope)
	if errors.Is(err, schemas.KindNotFound) {
		// The sender stores the body before the message, so it will not come later.
		return nil, schemas.Errorf(schemas.KindCorrupt, "the body %s is not in the object store", hash)
	}
	return body, err
}
