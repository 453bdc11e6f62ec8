package batcher

import "time"

// cell is the memory of one token. Sequences that share a prefix refer to the same cells.
type cell struct{ refs int }

// pool is the account of the key-value memory. The model has the memory itself and places tokens into the free cells
// that come first, so that only the first `touched` cells can hold anything: that is what a wipe has to cover.
type pool struct {
	total, used int
	touched     int
}

// grow takes n free cells for a sequence. The caller knows that they are there.
func (p *pool) grow(s *sequence, n int) {
	block := make([]cell, n) // one allocation for a prompt
	for i := range block {
		block[i].refs = 1
		s.cells = append(s.cells, &block[i])
	}
	p.used += n
	p.touched = max(p.touched, p.used)
}

// share lets dst begin with the first n cells of src.
func (p *pool) share(dst *sequence, src []*cell, n int) {
	for _, c := range src[:n] {
		c.refs++
	}
	dst.cells = append(dst.cells, src[:n]...)
}

// release gives up references and frees the cells that nobody else refers to.
func (p *pool) release(cells []*cell) {
	for _, c := range cells {
		if c.refs--; c.refs == 0 {
			p.used--
		}
	}
}

// free is the number of cells without an owner.
func (p *pool) free() int { return p.total - p.used }

// kept is the memory of a finished sequence, there to be shared by later prompts of its tenant.
type kept struct {
	tenant string
	slot   int
	tokens []int32
	cells  []*cell
	at     time.Time // last use
}

// common is the length of the common beginning of two token lists.
func common(a, b []int32) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
