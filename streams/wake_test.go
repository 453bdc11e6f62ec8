package streams_test

import (
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestOneWakeOnePull: an idle puller asks once for each job that it is woken for, however many came before.
func TestOneWakeOnePull(t *testing.T) {
	t.Parallel()
	streamstest.Bubble(t, func(t *testing.T) {
		bus, ctx := streamstest.New(t), streamstest.Context(t)
		p := puller(t, bus, streams.PullerOptions{Classes: []schemas.Class{schemas.Standard}})
		pulls, err := bus.Conn().SubscribeSync("$JS.API.CONSUMER.MSG.NEXT.>")
		if err != nil {
			t.Fatal(err)
		}
		const jobs, room = 20, 8
		took := make(chan *streams.Delivery)
		go func() {
			defer close(took)
			for range jobs {
				found, err := p.Next(ctx, room)
				if err != nil || len(found) != 1 {
					t.Errorf("%d jobs, %v", len(found), err)
					return
				}
				took <- found[0]
			}
		}()
		before := 0
		for i := range jobs {
			time.Sleep(200 * time.Millisecond) // idle now, and what it has to look for again it has looked for
			if i == 1 {
				if before, _, err = pulls.Pending(); err != nil { // it found its way into the idle group
					t.Fatal(err)
				}
			}
			publish(t, bus, schemas.NewTenantID(), 1, nil)
			if d := <-took; d == nil {
				return
			} else if err := d.Done(ctx); err != nil {
				t.Fatal(err)
			}
		}
		<-took
		if err := bus.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if after, _, err := pulls.Pending(); err != nil || after-before != jobs-1 {
			t.Errorf("%d pulls for %d jobs, %v", after-before, jobs-1, err)
		}
	})
}
