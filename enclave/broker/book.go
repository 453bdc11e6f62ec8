package broker

import (
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

const (
	// bookLag is how much later than a lease's end settlement must have looked before a reservation is dropped: the outcome
	// may still have been on its way.
	bookLag = time.Minute
	// maxReservation is how long after its lease a reservation is kept when settlement says nothing new. Settlement may be
	// away that long before a tenant could spend the same credit twice, and then the locked stake pays.
	maxReservation = 15 * time.Minute
	// creditRetry is the earliest useful retry when other jobs of the tenant are in the way.
	creditRetry = 5 * time.Second
)

// book is the credit that this broker has reserved for jobs it granted and settlement has not seen yet.
type book struct {
	mu      sync.Mutex // guards tenants
	tenants map[schemas.TenantID]*reservations
}

// reservations are those of one tenant.
type reservations struct {
	total schemas.NanoTON
	jobs  map[jobKey]*reservation
}

// reservation is the ceiling of one job.
type reservation struct {
	amount schemas.NanoTON
	// until is the end of the lease.
	until time.Time
}

// newBook makes an empty book.
func newBook() *book { return &book{tenants: map[schemas.TenantID]*reservations{}} }

// reserve sets a job's ceiling aside, or prolongs what was set aside. KindCredit: the account does not cover the ceiling.
// KindBusy: it does, but not beside everything else reserved; a tenant with a small account is slowed down, not refused.
func (b *book) reserve(tenant schemas.TenantID, key jobKey, ceiling schemas.NanoTON, account schemas.Credit, until, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.tenants[tenant]
	if r == nil {
		r = &reservations{jobs: map[jobKey]*reservation{}}
		b.tenants[tenant] = r
	}
	if have := r.jobs[key]; have != nil && have.amount == ceiling {
		have.until = until
		return nil
	}
	if ceiling > account.Available-r.total {
		r.settle(account, now)
	}
	if ceiling > account.Available-r.total {
		if len(r.jobs) == 0 {
			delete(b.tenants, tenant)
		}
		if ceiling <= account.Available {
			return &schemas.Error{Kind: schemas.KindBusy, Field: "ce-cocoonbudget", Message: "the tenant's running jobs have reserved what the account has left", RetryAfter: creditRetry}
		}
		return &schemas.Error{Kind: schemas.KindCredit, Field: "ce-cocoonbudget", Message: "the account does not cover the job's ceiling"}
	}
	if have := r.jobs[key]; have != nil {
		r.total -= have.amount
	}
	r.jobs[key] = &reservation{ceiling, until}
	r.total += ceiling
	return nil
}

// settle drops the reservations of jobs that settlement must have booked by now. The caller holds the book's mu.
func (r *reservations) settle(account schemas.Credit, now time.Time) {
	for key, have := range r.jobs {
		booked := !account.Updated.Before(have.until.Add(bookLag))
		if booked || now.Sub(have.until) > maxReservation {
			r.total -= have.amount
			delete(r.jobs, key)
		}
	}
}

// end moves the end of a job's lease: to now for a job that is done, into the past for one that owes nothing.
func (b *book) end(tenant schemas.TenantID, key jobKey, done bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.tenants[tenant]
	if r == nil || r.jobs[key] == nil {
		return
	}
	if done {
		r.jobs[key].until = now
		return
	}
	r.total -= r.jobs[key].amount
	if delete(r.jobs, key); len(r.jobs) == 0 {
		delete(b.tenants, tenant)
	}
}

// prolong moves the end of a job's lease.
func (b *book) prolong(tenant schemas.TenantID, key jobKey, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.tenants[tenant]; r != nil && r.jobs[key] != nil {
		r.jobs[key].until = until
	}
}

// sweep drops what is settled, so that tenants who come no more take no memory.
func (b *book) sweep(account func(schemas.TenantID) (schemas.Credit, bool), now time.Time) {
	b.mu.Lock()
	tenants := make([]schemas.TenantID, 0, len(b.tenants))
	for tenant := range b.tenants {
		tenants = append(tenants, tenant)
	}
	b.mu.Unlock()
	for _, tenant := range tenants {
		a, ok := account(tenant)
		if !ok {
			a = schemas.Credit{}
		}
		b.mu.Lock()
		if r := b.tenants[tenant]; r != nil {
			if r.settle(a, now); len(r.jobs) == 0 {
				delete(b.tenants, tenant)
			}
		}
		b.mu.Unlock()
	}
}
