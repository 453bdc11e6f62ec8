package consumers

import (
	"context"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of grants.
const (
	// maxGrantCalls bounds the grant calls under way at one time. While all are, jobs gather and go together in the next:
	// batches grow with the load and nobody waits for a batch to fill.
	maxGrantCalls = 4
	// grantTimeout bounds one call, attesting anew included.
	grantTimeout = 20 * time.Second
)

// waiting is one job that wants a grant.
type waiting struct {
	candidate enclave.Candidate
	reply     chan enclave.Granted // holds one
}

// granter asks the brokers for grants, many jobs in one call.
type granter struct {
	ask  chan waiting
	call func(ctx context.Context, jobs []enclave.Candidate) ([]enclave.Granted, error)
	// refused hears when a call failed as a whole: the brokers are away or do not accept this worker.
	refused func(error)
	batches func(n int)
	denied  func(schemas.Kind)
	over    chan struct{} // closed when run has ended
}

// newGranter returns a granter; run makes it work.
func newGranter() *granter {
	return &granter{ask: make(chan waiting, schemas.MaxGrantBatch), over: make(chan struct{})}
}

// request asks for one job's grant; await gets the answer. Every request must be awaited: a grant that nobody waits for
// would block the job until its lease lapses.
func (g *granter) request(c enclave.Candidate) <-chan enclave.Granted {
	w := waiting{candidate: c, reply: make(chan enclave.Granted, 1)}
	select {
	case g.ask <- w:
	case <-g.over:
	}
	return w.reply
}

// await returns the answer to a request. A granter that has ended answers errDraining to what it did not ask.
func (g *granter) await(reply <-chan enclave.Granted) enclave.Granted {
	select {
	case answer := <-reply:
		return answer
	case <-g.over:
	}
	select {
	case answer := <-reply: // it came before the end
		return answer
	default:
		return enclave.Granted{Err: errDraining}
	}
}

// run gathers and asks until ctx ends. What it took by then is answered. Whoever gathers also makes the call: at low rates
// every goroutine that a job passes through is a part of its latency.
func (g *granter) run(ctx context.Context) {
	defer close(g.over)
	var callers sync.WaitGroup
	for range maxGrantCalls {
		callers.Go(func() {
			for batch, ok := g.gather(ctx); ok; batch, ok = g.gather(ctx) {
				g.answer(ctx, batch)
			}
		})
	}
	callers.Wait()
}

// gather waits for one job and takes all others that wait at that moment, up to a call's limit.
func (g *granter) gather(ctx context.Context) (batch []waiting, ok bool) {
	select {
	case <-ctx.Done():
		return nil, false
	case w := <-g.ask:
		batch = append(batch, w)
	}
	for len(batch) < schemas.MaxGrantBatch {
		select {
		case w := <-g.ask:
			batch = append(batch, w)
		default:
			return batch, true
		}
	}
	return batch, true
}

// answer makes one call and hands out what came back.
func (g *granter) answer(ctx context.Context, batch []waiting) {
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	jobs := make([]enclave.Candidate, len(batch))
	for i := range batch {
		jobs[i] = batch[i].candidate
	}
	g.batches(len(batch))
	granted, err := g.call(ctx, jobs)
	if err != nil {
		g.refused(err)
	}
	for i := range batch {
		answer := enclave.Granted{Err: err}
		if err == nil {
			answer = granted[i]
		}
		if answer.Err != nil {
			g.denied(schemas.KindOf(answer.Err))
		}
		batch[i].reply <- answer
	}
}
