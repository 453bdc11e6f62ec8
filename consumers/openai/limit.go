package openai

// limiter is the number of requests that may be in flight: additive increase, multiplicative decrease.
type limiter struct {
	now, most float64
	fixed     bool // the server has said how many it takes
	hurt      bool // it has refused something since the last look
}

// When the limit falls and when it may rise.
const (
	highMemory = 0.92 // share of the key-value memory above which it falls
	easyMemory = 0.85 // below which it may rise
	queueShare = 0.1  // of the running requests that may wait
	decrease   = 0.7
	least      = 1
)

func newLimiter(most int) limiter {
	return limiter{now: min(firstLimit, float64(most)), most: float64(most)}
}

// limit is the whole number of it.
func (l *limiter) limit() int { return max(least, int(l.now)) }

// exact sets the limit that a server states. It may still fall when the server refuses.
func (l *limiter) exact(n int) {
	l.most = float64(n)
	if !l.fixed {
		l.now = l.most
	}
	l.fixed = true
}

// refused notes a 429 or 503.
func (l *limiter) refused() { l.hurt = true }

// observe adjusts the limit after a look at the metrics. A number that is not known neither raises nor lowers it.
func (l *limiter) observe(before, after load, inflight int) {
	queued := after.waiting > 1 && after.running >= 0 && float64(after.waiting) > queueShare*float64(after.running)
	full := after.memory > highMemory
	preempted := before.preempted >= 0 && after.preempted > before.preempted
	overloaded := l.hurt || !l.fixed && (queued || full || preempted)
	l.hurt = false
	if overloaded {
		l.now = max(least, l.now*decrease)
		return
	}
	used := inflight >= l.limit()-1 // a limit that nobody reaches says nothing
	if after.waiting <= 0 && after.memory < easyMemory && (used || l.fixed) {
		l.now = min(l.most, l.now+1)
	}
}
