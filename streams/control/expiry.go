package control

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Limits of the index of deadlines.
const (
	// maxIndexed bounds the jobs in the index: 8 bytes each. What does not fit is read from the stream later.
	maxIndexed = 16 << 20
	// tick is the width of a slot: how exactly deadlines are kept.
	tick = time.Second
	// recheck is how often the index is held against the streams, in case an arrival was not heard.
	recheck = 30 * time.Second
	// enders is the number of jobs ended at one time.
	enders = 16
)

// index knows the deadline of every job that may still lie in a queue, by position. It is built from arrivals, and from the
// stream itself where arrivals were missed: at a start, after a reconnect and at intervals.
type index struct {
	s *Service
	// mu guards everything below; held only for map and slice work.
	mu     sync.Mutex
	shards map[int]*shardIndex
	count  int
	// look is signalled when positions must be read from the streams.
	look chan struct{}
}

// shardIndex is the index of one job stream.
type shardIndex struct {
	// next is the first position that was neither heard nor read.
	next uint64
	// gaps are positions below next that must be read: [from, to).
	gaps []gap
	// slots holds positions by the second of their deadline.
	slots map[int64][]uint64
}

// gap is a range of positions.
type gap struct{ from, to uint64 }

func newIndex(s *Service) *index {
	return &index{s: s, shards: map[int]*shardIndex{}, look: make(chan struct{}, 1)}
}

// shard returns the index of a shard; mu is held.
func (x *index) shard(n int) *shardIndex {
	sh := x.shards[n]
	if sh == nil {
		sh = &shardIndex{next: 1, slots: map[int64][]uint64{}}
		x.shards[n] = sh
	}
	return sh
}

// suspect makes run hold the index against the streams at once.
func (x *index) suspect() {
	select {
	case x.look <- struct{}{}:
	default:
	}
}

// add notes an arrival. Positions that were jumped over are read later.
func (x *index) add(a streams.Arrival) {
	x.mu.Lock()
	defer x.mu.Unlock()
	sh := x.shard(a.Queue.Route.Shard)
	switch {
	case a.Seq < sh.next:
		return // known, or part of a gap that will be read
	case a.Seq > sh.next:
		sh.gaps = append(sh.gaps, gap{sh.next, a.Seq})
		defer x.suspect()
	}
	sh.next = a.Seq + 1
	x.note(sh, a.Seq, a.Expiry)
}

// note files one position; mu is held. When the index is full the position becomes a gap, to be read later.
func (x *index) note(sh *shardIndex, seq uint64, expiry time.Time) {
	if x.count >= maxIndexed {
		if n := len(sh.gaps); n > 0 && sh.gaps[n-1].to == seq {
			sh.gaps[n-1].to++
			return
		}
		sh.gaps = append(sh.gaps, gap{seq, seq + 1})
		return
	}
	slot := expiry.Unix() // the zero time, of a job that cannot be read, is always due
	sh.slots[slot] = append(sh.slots[slot], seq)
	x.count++
}

// run reads what was missed and ends what is due, until ctx ends.
func (x *index) run(ctx context.Context) error {
	due := time.NewTicker(tick)
	defer due.Stop()
	again := time.NewTicker(recheck)
	defer again.Stop()
	for {
		var err error
		select {
		case <-due.C:
			err = x.endDue(ctx)
		case <-x.look:
			err = x.read(ctx)
		case <-again.C:
			err = x.read(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// read brings the index up to the streams.
func (x *index) read(ctx context.Context) error {
	shards, err := x.s.bus.Shards(ctx)
	if err != nil {
		return err
	}
	for _, shard := range shards {
		first, last, err := x.s.bus.Positions(ctx, shard)
		if err != nil {
			return err
		}
		for _, g := range x.takeGaps(shard, first, last) {
			if err := x.readGap(ctx, shard, g); err != nil {
				x.putBack(shard, g)
				return err
			}
		}
	}
	return nil
}

// takeGaps removes and returns the positions to read, now that the stream reaches from first to last.
func (x *index) takeGaps(shard int, first, last uint64) []gap {
	x.mu.Lock()
	defer x.mu.Unlock()
	sh := x.shard(shard)
	if sh.next <= last {
		sh.gaps = append(sh.gaps, gap{sh.next, last + 1})
		sh.next = last + 1
	}
	if x.count >= maxIndexed/2 {
		return nil // leave room for arrivals until deadlines have made some
	}
	gaps := sh.gaps
	sh.gaps = nil
	for i := range gaps {
		gaps[i].from = max(gaps[i].from, first)
	}
	return gaps
}

// putBack files a gap whose reading failed.
func (x *index) putBack(shard int, g gap) {
	x.mu.Lock()
	defer x.mu.Unlock()
	sh := x.shard(shard)
	sh.gaps = append(sh.gaps, g)
}

// readGap files the jobs of a range that are still queued.
func (x *index) readGap(ctx context.Context, shard int, g gap) error {
	if g.from >= g.to {
		return nil
	}
	return x.s.bus.ScanQueued(ctx, shard, "", g.from, func(j streams.Queued) (bool, error) {
		if j.Ack.Seq >= g.to {
			return false, nil
		}
		x.mu.Lock()
		x.note(x.shard(shard), j.Ack.Seq, j.Attributes.Expiry)
		x.mu.Unlock()
		x.s.demand.arrived(j.Queue)
		return true, nil
	})
}

// endDue ends the jobs whose deadline has passed and that are still queued.
func (x *index) endDue(ctx context.Context) error {
	now := time.Now()
	for shard, seqs := range x.takeDue(now.Add(-ExpirySlack)) {
		first, _, err := x.s.bus.Positions(ctx, shard)
		if err == nil {
			err = x.endAll(ctx, shard, seqs, first, now)
		}
		if err != nil {
			// Filed again as due at once: nothing is forgotten.
			x.mu.Lock()
			for _, seq := range seqs {
				x.note(x.shard(shard), seq, time.Time{})
			}
			x.mu.Unlock()
			return err
		}
	}
	return nil
}

// takeDue removes and returns the positions that are due.
func (x *index) takeDue(before time.Time) map[int][]uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	due := map[int][]uint64{}
	for shard, sh := range x.shards {
		for slot, seqs := range sh.slots {
			if slot < before.Unix() {
				due[shard] = append(due[shard], seqs...)
				x.count -= len(seqs)
				delete(sh.slots, slot)
			}
		}
	}
	return due
}

// endAll looks at each position that the stream may still hold and ends the job there.
func (x *index) endAll(ctx context.Context, shard int, seqs []uint64, first uint64, now time.Time) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(enders)
	for _, seq := range seqs {
		if seq < first {
			continue // done long ago
		}
		g.Go(func() error { return x.end(ctx, shard, seq, now) })
	}
	return g.Wait()
}

// end ends one job if it is still there and its own attributes say that it has expired. A job that cannot be read at all
// has no deadline; workers turn it into a dead letter.
func (x *index) end(ctx context.Context, shard int, seq uint64, now time.Time) error {
	j, err := x.s.bus.QueuedAt(ctx, streams.StreamJobs(shard), seq)
	if errors.Is(err, schemas.KindNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if j.Attributes.ID == "" {
		return x.s.bus.Bury(ctx, j, schemas.FieldError("", "is no job: its attributes cannot be read"), 0)
	}
	if !j.Attributes.Expired(now) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.note(x.shard(shard), seq, j.Attributes.Expiry)
		return nil
	}
	_, err = x.s.bus.End(ctx, j, schemas.Expired, schemas.KindExpired)
	if err == nil {
		x.s.gauges.ended(schemas.Expired)
	}
	return err
}
