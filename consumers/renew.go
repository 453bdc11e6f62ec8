package consumers

import (
	"context"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// Times of renewals.
const (
	// renewEvery is how often the brokers' leases are looked at; those in the last two thirds of their life are renewed.
	renewEvery   = 2 * time.Second
	renewTimeout = 10 * time.Second
)

// renewer keeps the brokers' leases of running jobs and says which ones ended. They are not the queue's: the queue's lease
// keeps another worker from being sent the job, the broker's keeps another worker from being able to open it.
type renewer struct {
	call func(ctx context.Context, jobs []*enclave.OpenJob) ([]error, error)
	// ended tells the brokers about jobs that have their outcome; it frees the tenant's credit sooner than the lapse would.
	ended func(ctx context.Context, jobs []*enclave.OpenJob) ([]error, error)

	// mu guards jobs and over.
	mu   sync.Mutex
	jobs map[*enclave.OpenJob]*kept
	over []*enclave.OpenJob
}

// kept is one job whose lease is kept.
type kept struct {
	lose context.CancelCauseFunc
	// since is when the lease began, by this machine's monotonic clock: what the broker wrote into the grant is its wall clock,
	// and ours may be set at any time.
	since time.Time
}

// maxUnreported bounds the ended jobs that brokers have not been told of; further ones lapse by themselves.
const maxUnreported = 16 << 10

// newRenewer returns a renewer; run makes it work.
func newRenewer() *renewer {
	return &renewer{jobs: map[*enclave.OpenJob]*kept{}}
}

// hold keeps the lease of a job until the returned function is called. lose is called with errLeaseLost when the broker
// says that it is another's.
func (r *renewer) hold(job *enclave.OpenJob, lose context.CancelCauseFunc) (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.jobs[job] = &kept{lose: lose, since: time.Now()}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.jobs, job)
	}
}

// finished notes that a job has its outcome.
func (r *renewer) finished(job *enclave.OpenJob) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.over) < maxUnreported {
		r.over = append(r.over, job)
	}
}

// run renews and reports until ctx ends.
func (r *renewer) run(ctx context.Context) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		inBatches(ctx, r.due(time.Now()), r.renew)
		r.report(ctx)
	}
}

// report tells the brokers which jobs ended. What is lost here lapses by itself.
func (r *renewer) report(ctx context.Context) {
	r.mu.Lock()
	over := r.over
	r.over = nil
	r.mu.Unlock()
	inBatches(ctx, over, func(ctx context.Context, jobs []*enclave.OpenJob) {
		ctx, cancel := context.WithTimeout(ctx, renewTimeout)
		defer cancel()
		_, _ = r.ended(ctx, jobs)
	})
}

// inBatches calls f for parts of jobs that fit one call.
func inBatches(ctx context.Context, jobs []*enclave.OpenJob, f func(context.Context, []*enclave.OpenJob)) {
	for len(jobs) > 0 && ctx.Err() == nil {
		n := min(len(jobs), schemas.MaxRenewBatch)
		f(ctx, jobs[:n])
		jobs = jobs[n:]
	}
}

// due lists the jobs whose lease has used up a third of its life.
func (r *renewer) due(now time.Time) []*enclave.OpenJob {
	r.mu.Lock()
	defer r.mu.Unlock()
	var due []*enclave.OpenJob
	for job, k := range r.jobs {
		if g := job.Grant(); k.due(g.Lease.Sub(g.Issued), now) {
			due = append(due, job)
		}
	}
	return due
}

// due reports whether a lease of the given length has used up a third of its life.
func (k *kept) due(term time.Duration, now time.Time) bool { return now.Sub(k.since) >= term/3 }

// renew makes one call. A call that fails is repeated at the next look: a lease that lapses meanwhile is refused then.
func (r *renewer) renew(ctx context.Context, jobs []*enclave.OpenJob) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	before := time.Now() // a lease counts from before the call: it can only be shorter than we think
	errs, err := r.call(ctx, jobs)
	if err != nil {
		return
	}
	for i, err := range errs {
		if err == nil {
			r.renewed(jobs[i], before)
		} else if !schemas.Retriable(err) || schemas.KindOf(err) == schemas.KindLeased {
			r.lost(jobs[i])
		}
	}
}

// renewed notes that a lease began anew.
func (r *renewer) renewed(job *enclave.OpenJob, since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.jobs[job]; k != nil {
		k.since = since
	}
}

// lost ends a job whose lease is another's.
func (r *renewer) lost(job *enclave.OpenJob) {
	r.mu.Lock()
	k := r.jobs[job]
	r.mu.Unlock()
	if k != nil {
		k.lose(errLeaseLost)
	}
}
