package batcher

import (
	"context"
	"slices"
	"time"
)

// vacate takes a running sequence out of its slot and frees its memory.
func (b *Batcher) vacate(s *sequence) {
	b.running = slices.DeleteFunc(b.running, func(r *sequence) bool { return r == s })
	b.free(s.Tenant, s.slot, s.cells)
	s.slot, s.cells = -1, nil
}

// free gives a slot and its memory back. What it held stays there until the next wipe if the tenant is gone with it.
func (b *Batcher) free(tenant string, slot int, cells []*cell) {
	b.cfg.Model.Forget(slot)
	b.pool.release(cells)
	b.slots = append(b.slots, slot)
	if !b.present(tenant) {
		b.dirty = b.dirty || b.pool.touched > b.pool.used
	}
}

// present reports whether a tenant has anything in memory. Requests without a tenant are strangers to each other.
func (b *Batcher) present(tenant string) bool {
	return tenant != "" &&
		(slices.ContainsFunc(b.running, func(s *sequence) bool { return s.Tenant == tenant }) ||
			slices.ContainsFunc(b.kept, func(k *kept) bool { return k.tenant == tenant }))
}

// keep turns the slot of a finished sequence into kept memory.
func (b *Batcher) keep(s *sequence, now time.Time) {
	if s.Tenant == "" || b.cfg.Keep == 0 || b.draining || len(s.cells) < minShared {
		b.vacate(s)
		return
	}
	if len(b.kept) == b.cfg.Keep {
		b.dropKept(0)
	}
	b.running = slices.DeleteFunc(b.running, func(r *sequence) bool { return r == s })
	b.kept = append(b.kept, &kept{tenant: s.Tenant, slot: s.slot, tokens: s.tokens[:len(s.cells)], cells: s.cells, at: now})
}

// touch marks kept memory as used now.
func (b *Batcher) touch(k *kept, now time.Time) {
	k.at = now
	i := slices.Index(b.kept, k)
	b.kept = append(slices.Delete(b.kept, i, i+1), k)
}

// dropKept frees one kept memory; 0 is the one that was not used for the longest time.
func (b *Batcher) dropKept(i int) {
	k := b.kept[i]
	b.kept = slices.Delete(b.kept, i, i+1)
	b.free(k.tenant, k.slot, k.cells)
}

func (b *Batcher) dropAllKept() {
	for len(b.kept) > 0 {
		b.dropKept(0)
	}
}

// wipe overwrites the free memory that may hold anything.
func (b *Batcher) wipe(now time.Time) {
	if !b.dirty {
		return
	}
	if n := b.pool.touched - b.pool.used; n > 0 {
		if _, err := guard(func() (struct{}, error) { return struct{}{}, b.cfg.Model.Wipe(n) }); err != nil {
			b.cfg.Log.Error("memory was not wiped; it will be tried again", "err", err)
			b.wiped = now
			return
		}
		b.count.Wipes++
	}
	if b.pool.used == 0 { // else what is in use may lie anywhere below the mark
		b.pool.touched = 0
	}
	b.dirty, b.wiped = false, now
}

// tidy does what is due: kept memory that nobody used for long, and wiping. It returns when it wants to be called again,
// zero if it has nothing to wait for.
func (b *Batcher) tidy(now time.Time) time.Time {
	for len(b.kept) > 0 && now.Sub(b.kept[0].at) >= b.cfg.KeepFor {
		b.dropKept(0)
	}
	if b.dirty && (now.Sub(b.wiped) >= b.cfg.WipeEvery || b.draining) {
		b.wipe(now)
	}
	var next time.Time
	if len(b.kept) > 0 {
		next = b.kept[0].at.Add(b.cfg.KeepFor)
	}
	if due := b.wiped.Add(b.cfg.WipeEvery); b.dirty && (next.IsZero() || due.Before(next)) {
		next = due
	}
	return next
}

// rest waits until there is something to do. Nothing runs and nothing waits.
func (b *Batcher) rest(ctx context.Context) error {
	b.mu.Lock()
	now := time.Now()
	b.pool.total = b.cfg.Cells
	if b.draining {
		b.dropAllKept()
	}
	next := b.tidy(now)
	if b.draining && !b.dirty {
		b.finishDrain()
	}
	b.mu.Unlock()

	var due <-chan time.Time
	if !next.IsZero() {
		t := time.NewTimer(next.Sub(now))
		defer t.Stop()
		due = t.C
	}
	select {
	case <-b.wake:
	case <-due:
	case <-ctx.Done():
	}
	return ctx.Err()
}
