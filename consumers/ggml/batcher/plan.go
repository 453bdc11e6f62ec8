package batcher

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// plan is a batch and whose tokens are in it.
type plan struct {
	Batch
	parts []part
}

// part is one sequence's share of a batch: its next n tokens, and whether their end is reached, so that a token can be
// chosen.
type part struct {
	s   *sequence
	n   int
	out bool
}

func (p *plan) empty() bool { return len(p.Tokens) == 0 }

// add puts the next n pending tokens of s into the batch.
func (p *plan) add(s *sequence, n int) {
	at := len(s.cells)
	for i := at; i < at+n; i++ {
		p.Tokens = append(p.Tokens, s.tokens[i])
		p.Pos = append(p.Pos, int32(i))
		p.Seq = append(p.Seq, s.slot)
	}
	out := at+n == len(s.tokens)
	if out {
		p.Out = append(p.Out, int32(len(p.Tokens)-1))
	}
	p.parts = append(p.parts, part{s, n, out})
}

// plan decides about the next step.
func (b *Batcher) plan() plan {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.sweep(now)
	b.admit(now)
	p := b.compose()
	if !p.empty() {
		b.stepping = now
	}
	return p
}

// sweep lets requests go that nobody waits for any more.
func (b *Batcher) sweep(now time.Time) {
	for _, s := range slices.Concat(b.running, b.queue.waiting) {
		if err := s.stale(now); err != nil {
			b.count.Cancelled++
			b.drop(s, err, now)
		}
	}
}

// admit gives slots and promises memory to waiting sequences, in turn.
func (b *Batcher) admit(now time.Time) {
	for len(b.running) < b.cfg.Slots {
		s := b.candidate()
		if s == nil {
			return
		}
		from, n := b.sharable(s)
		if !b.makeRoom(b.need(s)-n, from) {
			if len(b.running) > 0 {
				return // its turn comes when something ends
			}
			from, n = nil, 0 // only what it would have shared is left
			b.dropAllKept()
		}
		b.start(s, from, n, now)
	}
}

// source is a sequence whose memory another one may share.
type source struct {
	slot  int
	cells []*cell
	kept  *kept // nil if it runs
}

// start puts a sequence into a slot.
func (b *Batcher) start(s *sequence, from *source, n int, now time.Time) {
	b.queue.remove(s)
	s.slot = b.slots[len(b.slots)-1]
	b.slots = b.slots[:len(b.slots)-1]
	s.reserve = b.need(s)
	s.admitted = b.admitted
	b.admitted++
	if from != nil && b.cfg.Model.Share(from.slot, s.slot, n) {
		b.pool.share(s, from.cells, n)
		if from.kept != nil {
			b.touch(from.kept, now)
		}
	}
	if s.stats.Preempted == 0 && s.failed == 0 {
		s.stats.Queue = now.Sub(s.at)
		if s.first == nil {
			s.stats.Cached = len(s.cells)
			b.count.Shared += uint64(len(s.cells))
		}
		b.queue.charge(s.Tenant, promptPrice*uint64(len(s.tokens)-len(s.cells)))
	}
	b.running = append(b.running, s)
}

// sharable finds the longest beginning of s that is in memory: of its tenant, or of its own call. The last token is always
// computed: its logits are wanted.
func (b *Batcher) sharable(s *sequence) (from *source, n int) {
	if s.suspect {
		return nil, 0
	}
	best := minShared - 1
	for _, k := range b.kept {
		if s.Tenant != "" && k.tenant == s.Tenant {
			if c := min(common(k.tokens, s.tokens), len(s.tokens)-1); c > best {
				from, best = &source{k.slot, k.cells, k}, c
			}
		}
	}
	for _, r := range b.running {
		if s.Tenant != "" && r.Tenant == s.Tenant || r.ticket == s.ticket {
			if c := min(common(r.tokens[:len(r.cells)], s.tokens), len(s.tokens)-1); c > best {
				from, best = &source{r.slot, r.cells, nil}, c
			}
		}
	}
	if from == nil {
		return nil, 0
	}
	return from, best
}

// Bounds of the share of the token limit that a request is expected to use.
const (
	firstShare = 0.5
	leastShare = 0.05
)

// need is the number of cells a sequence should have in the end. One that was preempted is promised all it may use: it
// is not to be preempted twice for the same optimism.
func (b *Batcher) need(s *sequence) int {
	left := s.MaxTokens - s.generated()
	if s.stats.Preempted == 0 {
		left = max(1, int(math.Ceil(b.share*float64(left))))
	}
	return len(s.tokens) + left
}

// learn follows what requests really use: up fast, because too little costs a preemption, down slowly.
func (b *Batcher) learn(s *sequence) {
	used := float64(s.generated()) / float64(s.MaxTokens)
	rate := 0.05
	if used > b.share {
		rate = 0.2
	}
	b.share = max(leastShare, b.share+rate*(used-b.share))
}

// makeRoom drops kept memory until n cells are free that nobody was promised. It spares the source of a sequence.
func (b *Batcher) makeRoom(n int, spare *source) bool {
	promised := 0
	for _, s := range b.running {
		promised += s.promised()
	}
	for b.pool.free()-promised < n {
		i := 0
		if spare != nil && spare.kept != nil && len(b.kept) > 0 && b.kept[0] == spare.kept {
			i = 1
		}
		if i >= len(b.kept) {
			return false
		}
		b.dropKept(i)
	}
	return true
}

// compose fills a batch: one token for every sequence that decodes, then prompts as far as budget and memory go.
func (b *Batcher) compose() plan {
	b.roomForDecodes()
	var p plan
	free := b.pool.free()
	party := b.running
	if s := b.suspect(); s != nil {
		party = []*sequence{s}
	} else if b.cfg.Vector > 0 {
		party = party[:min(1, len(party))]
	}
	for _, s := range party {
		if s.decoding() {
			p.add(s, 1)
			free--
		}
	}
	budget := b.cfg.StepTokens - len(p.Tokens)
	prompts := slices.DeleteFunc(slices.Clone(party), (*sequence).decoding)
	slices.SortStableFunc(prompts, func(x, y *sequence) int { return cmp.Compare(y.Priority, x.Priority) })
	for _, s := range prompts {
		for free < min(budget, s.pending()) && len(b.kept) > 0 {
			before := b.pool.free()
			b.dropKept(0)
			free += b.pool.free() - before
		}
		if n := min(budget, s.pending(), free); n > 0 {
			p.add(s, n)
			budget -= n
			free -= n
		}
	}
	if !p.empty() || len(b.running) == 0 {
		return p
	}
	if len(b.running) == 1 {
		p.add(b.running[0], 1) // it has to fit; if the model says no, it fails
		return p
	}
	// Prompts alone fill the memory, so none of them can go on. One has to give way.
	b.preempt(b.victim())
	return b.compose()
}

// roomForDecodes makes sure that every decoding sequence has a cell for its token.
func (b *Batcher) roomForDecodes() {
	for {
		n := 0
		for _, s := range b.running {
			if s.decoding() {
				n++
			}
		}
		switch {
		case b.pool.free() >= n || len(b.running) == 1 && len(b.kept) == 0:
			return
		case len(b.kept) > 0:
			b.dropKept(0)
		default:
			b.preempt(b.victim())
		}
	}
}

// victim is the youngest of the lowest priority.
func (b *Batcher) victim() *sequence {
	return slices.MinFunc(b.running, func(x, y *sequence) int {
		return cmp.Or(cmp.Compare(x.Priority, y.Priority), cmp.Compare(y.admitted, x.admitted))
	})
}

// preempt takes a sequence out of memory and lets it wait again.
func (b *Batcher) preempt(s *sequence) {
	b.count.Preempted++
	b.share = min(1, b.share*1.25)
	b.vacate(s)
	s.stats.Preempted++
	b.queue.back(s)
}
