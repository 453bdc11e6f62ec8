package broker

import (
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Standing is what the operator's records say about a worker. It can only withhold grants, so who keeps the records need not
// be trusted with anything but availability.
type Standing int

// The standings.
const (
	// Good: grants without a limit.
	Good Standing = iota
	// Probation: one job at a time.
	Probation
	// Suspended: none.
	Suspended
)

// Waits that refusals for a standing name.
const (
	suspendedRetry = time.Minute
	probationRetry = time.Second
)

// probation remembers the one job of each worker on probation.
type probation struct {
	mu   sync.Mutex // guards jobs
	jobs map[schemas.WorkerID]jobKey
}

// checkStanding refuses what the worker's standing does not allow.
func (j *job) checkStanding() error {
	p, worker := &j.broker.probation, j.caller.id
	standing := j.broker.cfg.Standing(worker, j.caller.Owner)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch standing {
	case Suspended:
		return &schemas.Error{Kind: schemas.KindDenied, Field: "worker", Message: "is suspended for the jobs it has lost", RetryAfter: suspendedRetry}
	case Probation:
		if held, ok := p.jobs[worker]; ok && held != j.key && j.broker.leases.live(held, worker, j.now) {
			return &schemas.Error{Kind: schemas.KindDenied, Field: "worker", Message: "is on probation: one job at a time", RetryAfter: probationRetry}
		}
		p.jobs[worker] = j.key
	default:
		delete(p.jobs, worker)
	}
	return nil
}
