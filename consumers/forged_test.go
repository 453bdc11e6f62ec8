package consumers_test

import (
	"fmt"
	"testing"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/stub"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// TestForgedAcks: acknowledgements do not fence: whoever may speak on the subject of a delivery, such as a worker that held the
// job before, can take it from its holder or out of the queue. The holder answers all the same, nobody else runs the job while the
// brokers' lease lasts, and there is one outcome.
func TestForgedAcks(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"-NAK", "+ACK", "+TERM", "+WPI", "+NXT", "", "nonsense"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			release := make(chan struct{})
			var count tally
			holder := b.prepare(newStub(1, func(*consumers.Request) stub.Act { <-release; return stub.Act{} }))
			holder.SetProbe(count.probe(nil))
			holder.start()
			j := b.seal(request("held", false))
			place := b.publish(j)[0]
			b.eventually("it runs", func() bool { return count.at(consumers.PointGranted, j.Attributes.ID) == 1 })
			other := newStub(1, nil)
			b.worker(other)
			b.answer(b.submit(1)[0]) // the other one works
			queue := streams.QueueName(b.route.Slug, schemas.Standard, 0)
			forged := fmt.Sprintf("$JS.ACK.%s.%s.1.%d.1.0.0", place.Stream, queue, place.Seq)
			if err := b.bus.Conn().Publish(forged, []byte(verb)); err != nil {
				t.Fatal(err)
			}
			b.answer(b.submit(1)[0]) // and goes on, whatever it was given besides
			if n := other.Runs(); n != 2 {
				t.Errorf("the other worker ran %d jobs, want the two that nobody held", n)
			}
			close(release)
			if a := b.answer(j); a.Result.Err() != nil || a.Grant.Worker != holder.ID() || a.Grant.Attempt != 1 {
				t.Errorf("ended by worker %s at attempt %d: %v", a.Grant.Worker, a.Grant.Attempt, a.Result.Err())
			}
			b.eventually("the queue is empty", func() bool { return b.queued() == 0 })
			if n := b.messages(streams.StreamOutcomes); n != 3 {
				t.Errorf("%d outcomes of 3 jobs", n)
			}
		})
	}
}
