package consumers

import (
	"context"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// maxOrder bounds an operator's order in bytes.
const maxOrder = 4 << 10

// obey follows the operator's entry for this worker in the FLEET bucket until ctx ends.
func (w *Worker) obey(ctx context.Context) {
	key := streams.PrefixWorker + string(w.ID())
	for ctx.Err() == nil {
		err := w.c.Bus.Bucket(streams.BucketFleet).Watch(ctx, key, func(e streams.Entry) error {
			if e.Key == key {
				w.order(e)
			}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			w.log.Warn("orders are not heard", "error", err)
			sleep(ctx, jitter(retryOutcome))
		}
	}
}

// order carries one entry out. An entry that is gone means what a worker does by itself; one that cannot be read changes
// nothing.
func (w *Worker) order(e streams.Entry) {
	var o streams.FleetWorker
	if !e.Deleted {
		if err := schemas.DecodeJSON(e.Value, &o, maxOrder); err != nil {
			w.log.Warn("an order cannot be read", "error", err)
			return
		}
	}
	if o.Drain {
		w.drainNow("drained by the operator")
		return
	}
	reason := ""
	if o.Disabled {
		reason = "disabled by the operator"
	}
	if w.gate.set(gateOrder, reason) {
		w.log.Info("an order was obeyed", "reason", reason)
	}
	ask := o.Ask
	if ask == 0 {
		ask = w.c.Ask
	}
	if err := w.setAsk(ask); err != nil {
		w.log.Warn("an order cannot be obeyed", "error", err)
	}
}
