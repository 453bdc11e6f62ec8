package streams_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestBacklogs: what waits arrives whole and in order, whatever the number of queues, also where a page ends exactly.
func TestBacklogs(t *testing.T) {
	t.Parallel()
	for _, queues := range []int{0, 1, 999, 1000, 1001, 12_000} {
		t.Run(fmt.Sprint(queues), func(t *testing.T) {
			t.Parallel()
			bus, ctx := streamstest.New(t), streamstest.Context(t)
			var want []streams.Backlog
			for i := range queues {
				want = append(want, streams.Backlog{
					Route: streams.Route{Shard: i / 300, Slug: fmt.Sprintf("a-model-with-a-rather-long-name-of-some-revision-%05d", i/3)},
					Class: schemas.Classes()[i%3], Pending: 1 << 60, InFlight: 1 << 60, Redelivered: uint64(i), Oldest: 1 << 60, Lanes: 16,
					Paused: time.Date(2026, 11, 25, 1, 2, 3, 456_789, time.UTC),
				})
			}
			serving, stop := context.WithCancel(ctx)
			ended := make(chan error, 1)
			go func() { ended <- bus.ServeBacklogs(serving, func() []streams.Backlog { return want }) }()
			got, err := bus.Backlogs(ctx)
			for ; err != nil && ctx.Err() == nil; got, err = bus.Backlogs(ctx) { // until it is served
			}
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%.500s", err, diff)
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
