package streams

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of control's answers about what waits.
const (
	// backlogPage is the most queues in one answer, so that it fits a message of the server's default max_payload, 1 MiB.
	backlogPage = 1000
	// maxBacklogs bounds one answer in bytes, maxBacklogAfter one question.
	maxBacklogs     = 1 << 20
	maxBacklogAfter = 1 << 10
)

// Backlog is what waits for a model and class, seen by the leader of its queue.
type Backlog struct {
	Route Route         `json:"route"`
	Class schemas.Class `json:"class"`
	// Pending waits, InFlight is at workers, Redelivered of these not for the first time.
	Pending     uint64 `json:"pending"`
	InFlight    uint64 `json:"in_flight"`
	Redelivered uint64 `json:"redelivered"`
	// Oldest is the age of the oldest job that is not done, 0 when there is none.
	Oldest time.Duration `json:"oldest"`
	// Lanes is the number of parts the queue is split into.
	Lanes int `json:"lanes"`
	// Paused is set until when an operator has paused it.
	Paused time.Time `json:"paused,omitzero"`
}

// Queue is the queue it is about.
func (l Backlog) Queue() Queue { return Queue{l.Route, l.Class} }

// Backlogs asks control what waits, sorted by route and class, however many queues there are. The answer is at most a few
// seconds old; a queue that comes or goes while it is read may be missing.
func (b *Bus) Backlogs(ctx context.Context) ([]Backlog, error) {
	var all []Backlog
	var after []byte
	for {
		text, err := b.Call(ctx, SubjectBacklog, after)
		if err != nil {
			return nil, err
		}
		var page []Backlog
		if err := schemas.DecodeJSON(text, &page, maxBacklogs); err != nil {
			return nil, err
		}
		if all = append(all, page...); len(page) < backlogPage {
			return all, nil
		}
		if after, err = json.Marshal(page[len(page)-1].Queue()); err != nil {
			return nil, schemas.Errorf(schemas.KindInternal, "backlogs: %w", err)
		}
	}
}

// ServeBacklogs answers [Bus.Backlogs] until ctx ends; control calls it. The list must be sorted by queue.
func (b *Bus) ServeBacklogs(ctx context.Context, backlogs func() []Backlog) error {
	return b.Serve(ctx, ServeOptions{Subject: SubjectBacklog, Queue: ControlGroup, Workers: 4, MaxBody: maxBacklogAfter},
		func(_ context.Context, r Request) ([]byte, error) {
			list, err := backlogsAfter(backlogs(), r.Body)
			if err != nil {
				return nil, err
			}
			return json.Marshal(list)
		})
}

// backlogsAfter is the page of a sorted list that comes after a queue; an empty question is for the first one.
func backlogsAfter(list []Backlog, question []byte) ([]Backlog, error) {
	if len(question) > 0 {
		var after Queue
		if err := schemas.DecodeJSON(question, &after, maxBacklogAfter); err != nil {
			return nil, err
		}
		i, found := slices.BinarySearchFunc(list, after, func(l Backlog, q Queue) int { return l.Queue().compare(q) })
		if found {
			i++
		}
		list = list[i:]
	}
	return append([]Backlog{}, list[:min(len(list), backlogPage)]...), nil
}
