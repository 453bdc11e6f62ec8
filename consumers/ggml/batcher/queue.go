package batcher

import "slices"

// queue holds the waiting sequences and who was served how much.
//
// Fairness follows the virtual token counter: each tenant has a count of the tokens it was served, and the turn is with
// the tenant that has the lowest. A tenant that comes back after a pause starts no lower than the lowest active one, so
// nobody can save up service by staying away.
type queue struct {
	waiting []*sequence
	served  map[string]uint64
	active  map[string]int // sequences of a tenant in here or running
}

// Prices of the counter: a generated token takes a whole pass for itself, a prompt token does not.
const (
	promptPrice    = 1
	generatedPrice = 2
)

// enter adds a sequence that has just arrived.
func (q *queue) enter(s *sequence) {
	if q.active[s.Tenant] == 0 {
		q.forget()
		if low, any := q.lowest(); any {
			q.served[s.Tenant] = max(q.served[s.Tenant], low)
		}
	}
	q.active[s.Tenant]++
	q.waiting = append(q.waiting, s)
}

// back returns a preempted sequence. It was never gone for the tenant's account.
func (q *queue) back(s *sequence) { q.waiting = append(q.waiting, s) }

// leave notes that a sequence has ended, wherever it was.
func (q *queue) leave(s *sequence) {
	if q.active[s.Tenant]--; q.active[s.Tenant] == 0 {
		delete(q.active, s.Tenant)
	}
}

// charge counts service.
func (q *queue) charge(tenant string, tokens uint64) { q.served[tenant] += tokens }

// next is the sequence whose turn it is, nil if there is none: the highest priority, then the least served tenant, then the
// earliest arrival. Those whose prompt is being computed for them are not in the race yet.
func (q *queue) next() *sequence {
	var best *sequence
	for _, s := range q.waiting {
		if !s.early() && (best == nil || q.before(s, best)) {
			best = s
		}
	}
	return best
}

func (q *queue) before(a, b *sequence) bool {
	if a.Priority != b.Priority {
		return a.Priority > b.Priority
	}
	if x, y := q.served[a.Tenant], q.served[b.Tenant]; a.Tenant != b.Tenant && x != y {
		return x < y
	}
	return a.arrival < b.arrival
}

// remove takes a sequence out.
func (q *queue) remove(s *sequence) {
	if i := slices.Index(q.waiting, s); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
}

// lowest is the least count among active tenants.
func (q *queue) lowest() (low uint64, any bool) {
	for t := range q.active {
		if v := q.served[t]; !any || v < low {
			low, any = v, true
		}
	}
	return low, any
}

// forget bounds the memory of tenants that are away: once there are too many, all of them are forgotten. They come back
// at the lowest active count, which is what a new tenant gets.
func (q *queue) forget() {
	if len(q.served) < maxTenants {
		return
	}
	for t := range q.served {
		if q.active[t] == 0 {
			delete(q.served, t)
		}
	}
}
