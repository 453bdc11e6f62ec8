package streams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// Queue is one class of one model.
type Queue struct {
	Route Route         `json:"route"`
	Class schemas.Class `json:"class"`
}

// compare orders queues by shard, model and urgency.
func (q Queue) compare(p Queue) int {
	if c := q.Route.Shard - p.Route.Shard; c != 0 {
		return c
	}
	if c := strings.Compare(q.Route.Slug, p.Route.Slug); c != 0 {
		return c
	}
	return slices.Index(schemas.Classes(), q.Class) - slices.Index(schemas.Classes(), p.Class)
}

// parseQueueName takes the name of a queue's consumer apart.
func parseQueueName(shard int, name string) (q Queue, lane int, ok bool) {
	for _, class := range schemas.Classes() {
		slug, rest, found := strings.Cut(name, "_"+string(class))
		if !found {
			continue
		}
		if rest != "" {
			n, err := strconv.Atoi(strings.TrimPrefix(rest, "_"))
			if err != nil || n < 1 || n >= maxLanes || rest != "_"+strconv.Itoa(n) {
				continue
			}
			lane = n
		}
		q = Queue{Route{shard, slug}, class}
		return q, lane, q.Route.Check() == nil
	}
	return q, 0, false
}

// Shards lists the shards that have a job stream, in order.
func (b *Bus) Shards(ctx context.Context) ([]int, error) {
	all, err := b.streams(ctx)
	if err != nil {
		return nil, err
	}
	var shards []int
	for name := range all {
		if n, err := strconv.Atoi(strings.TrimPrefix(name, "JOBS_")); err == nil && StreamJobs(n) == name {
			shards = append(shards, n)
		}
	}
	slices.Sort(shards)
	return shards, nil
}

// Queues lists the queues of a shard that have a consumer, with what waits in each, from the stream's leader. The cost
// grows with the number of queues, not with that of jobs. Oldest is not filled in, see [Bus.OldestQueued].
func (b *Bus) Queues(ctx context.Context, shard int) ([]Backlog, error) {
	found := map[Queue]*Backlog{}
	var order []Queue
	err := b.consumers(ctx, StreamJobs(shard), func(info *jetstream.ConsumerInfo) {
		q, lane, ok := parseQueueName(shard, info.Name)
		if !ok {
			return
		}
		l := found[q]
		if l == nil {
			l = &Backlog{Route: q.Route, Class: q.Class, Lanes: 1}
			found[q] = l
			order = append(order, q)
		}
		l.Pending += info.NumPending
		l.InFlight += uint64(info.NumAckPending)
		l.Redelivered += uint64(info.NumRedelivered)
		if lane == 0 {
			l.Lanes = lanesOf(info.Config)
			if info.Paused && info.Config.PauseUntil != nil {
				l.Paused = *info.Config.PauseUntil
			}
		}
	})
	slices.SortFunc(order, Queue.compare)
	list := make([]Backlog, len(order))
	for i, q := range order {
		list[i] = *found[q]
	}
	return list, err
}

// consumers calls f for every consumer of a stream, page by page.
func (b *Bus) consumers(ctx context.Context, stream string, f func(*jetstream.ConsumerInfo)) error {
	subject := b.api("CONSUMER.LIST." + stream)
	for offset := 0; ; {
		var page struct {
			Total     int                       `json:"total"`
			Consumers []*jetstream.ConsumerInfo `json:"consumers"`
		}
		err := b.retry(ctx, func(ctx context.Context) error {
			return b.apiRequest(ctx, subject, fmt.Appendf(nil, `{"offset":%d}`, offset), &page)
		})
		if err != nil {
			return err
		}
		for _, info := range page.Consumers {
			f(info)
		}
		offset += len(page.Consumers)
		if len(page.Consumers) == 0 || offset >= page.Total {
			return nil
		}
	}
}

// OldestQueued is when the oldest job of a queue that is not done was stored; ok is false when the queue is empty.
func (b *Bus) OldestQueued(ctx context.Context, q Queue) (at time.Time, ok bool, err error) {
	body := fmt.Appendf(nil, `{"seq":1,"next_by_subj":%q}`, subjectQueue(q.Route, string(q.Class), "*"))
	var s stored
	err = b.retry(ctx, func(ctx context.Context) error {
		m, err := b.request(ctx, &nats.Msg{Subject: b.api("DIRECT.GET." + StreamJobs(q.Route.Shard)), Data: body})
		if err != nil {
			return err
		}
		s, err = directMessage(m)
		return err
	})
	if errors.Is(err, schemas.KindNotFound) {
		return time.Time{}, false, nil
	}
	return s.time, err == nil, err
}

// SplitQueue gives every lane of a queue a consumer of its own, so that workers take from the tenants' lanes in turn.
// Jobs in flight may be delivered once more; the lease that the broker keeps stops double work.
//
// Commit points: the first consumer gives up all lanes but its own, and says so; then each other lane gets its consumer. A
// crash in between leaves lanes without a consumer, which the next CreateConsumer or SplitQueue makes.
func (b *Bus) SplitQueue(ctx context.Context, q Queue) error {
	shape, err := b.shardShape(ctx, q.Route.Shard)
	if err != nil || shape.lanes < 2 {
		return err
	}
	if err := b.putConsumer(ctx, StreamJobs(q.Route.Shard), queueConsumer(q.Route, q.Class, 0, shape.lanes, shape), ""); err != nil {
		return err
	}
	for lane := 1; lane < shape.lanes; lane++ {
		if err := b.createConsumer(ctx, q.Route, q.Class, lane, shape.lanes); err != nil {
			return err
		}
	}
	return b.noteLanes(q)
}

// JoinQueue makes a split queue one again. Call it when the queue is empty: jobs in flight may be delivered once more.
//
// Commit points: the other consumers go, then the first one takes all lanes. In between, jobs of those lanes wait.
func (b *Bus) JoinQueue(ctx context.Context, q Queue) error {
	shape, err := b.shardShape(ctx, q.Route.Shard)
	if err != nil {
		return err
	}
	stream := StreamJobs(q.Route.Shard)
	for lane := 1; lane < shape.lanes; lane++ {
		if err := b.deleteConsumer(ctx, stream, QueueName(q.Route.Slug, q.Class, lane)); err != nil {
			return err
		}
	}
	if err := b.putConsumer(ctx, stream, queueConsumer(q.Route, q.Class, 0, 1, shape), ""); err != nil {
		return err
	}
	return b.noteLanes(q)
}

// noteLanes tells the pullers of a model to look at its queues anew.
func (b *Bus) noteLanes(q Queue) error {
	return classify(b.nc.Publish(subjectLanes(q.Route.Slug), nil))
}

// deleteConsumer removes a consumer; one that is not there is no error.
func (b *Bus) deleteConsumer(ctx context.Context, stream, name string) error {
	subject := b.api("CONSUMER.DELETE." + stream + "." + name)
	err := b.retry(ctx, func(ctx context.Context) error {
		return b.write(ctx, OpConsumer, subject, func() error { return b.apiRequest(ctx, subject, nil, nil) })
	})
	if errors.Is(err, schemas.KindNotFound) {
		return nil
	}
	return err
}

// PauseQueue stops the delivery of a queue's jobs until the given time; the zero time resumes it. Jobs in flight go on.
func (b *Bus) PauseQueue(ctx context.Context, q Queue, until time.Time) error {
	first, err := b.consumerInfo(ctx, StreamJobs(q.Route.Shard), QueueName(q.Route.Slug, q.Class, 0))
	if err != nil {
		return err
	}
	body, err := json.Marshal(struct {
		Until time.Time `json:"pause_until,omitzero"`
	}{until})
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "pause: %w", err)
	}
	for lane := range lanesOf(first.Config) {
		subject := b.api("CONSUMER.PAUSE." + StreamJobs(q.Route.Shard) + "." + QueueName(q.Route.Slug, q.Class, lane))
		err := b.retry(ctx, func(ctx context.Context) error {
			return b.write(ctx, OpConsumer, subject, func() error { return b.apiRequest(ctx, subject, body, nil) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ServeEnsure answers [Bus.EnsureConsumer] until ctx ends; control calls it.
func (b *Bus) ServeEnsure(ctx context.Context, ensure func(context.Context, Queue) error) error {
	return b.Serve(ctx, ServeOptions{Subject: "ctl.ensure.*.*.*", Queue: ControlGroup, MaxBody: 1},
		func(ctx context.Context, r Request) ([]byte, error) {
			shard, err := strconv.Atoi(r.Tokens[2])
			if err != nil {
				return nil, schemas.FieldError("shard", "must be a number")
			}
			class, err := schemas.ParseClass(r.Tokens[4])
			if err != nil {
				return nil, err
			}
			q := Queue{Route{shard, r.Tokens[3]}, class}
			if err := q.Route.Check(); err != nil {
				return nil, err
			}
			return nil, ensure(ctx, q)
		})
}
