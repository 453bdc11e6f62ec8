package streams

import (
	"context"
	"encoding/json"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// maxBacklogs bounds control's answer about what waits.
const maxBacklogs = 8 << 20

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

// Backlogs asks control what waits, sorted by route and class. The answer is at most a few seconds old.
func (b *Bus) Backlogs(ctx context.Context) ([]Backlog, error) {
	text, err := b.Call(ctx, SubjectBacklog, nil)
	if err != nil {
		return nil, err
	}
	var list []Backlog
	return list, schemas.DecodeJSON(text, &list, maxBacklogs)
}

// ServeBacklogs answers [Bus.Backlogs] until ctx ends; control calls it.
func (b *Bus) ServeBacklogs(ctx context.Context, backlogs func() []Backlog) error {
	return b.Serve(ctx, ServeOptions{Subject: SubjectBacklog, Queue: ControlGroup, Workers: 4},
		func(context.Context, Request) ([]byte, error) {
			list := backlogs()
			if list == nil {
				list = []Backlog{}
			}
			return json.Marshal(list)
		})
}
