package batcher

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Tokens of the fake model: 0 ends an answer, the others are letters.
const (
	fakeVocab = 32
	fakeEnd   = 0
)

// slot is one cell of the fake's memory. It holds what a real one would: who wrote it and what.
type slot struct {
	owners []int
	token  int32
	pos    int32
	dirty  bool
}

// fakeModel generates tokens that follow from the whole context and polices the batcher: contiguous positions, memory
// within its size, only known sequences.
type fakeModel struct {
	t     *testing.T
	mu    sync.Mutex // the batcher's goroutine computes, tests look
	cells []slot
	step  time.Duration // how long a pass takes, on the fake clock

	steps   []Batch
	failing func(b Batch) error // consulted in the middle of a step
	noShare bool
	vector  int // length of the vector that it gives instead of logits
	wipes   int
	resets  int
	wipeErr error
}

func newFake(t *testing.T, cells int) *fakeModel {
	return &fakeModel{t: t, cells: make([]slot, cells), step: time.Millisecond}
}

// next is the token that follows a context.
func next(context []int32) int32 {
	h := fnv.New64a()
	for _, t := range context {
		h.Write([]byte{byte(t), byte(t >> 8)})
	}
	return 1 + int32(h.Sum64()>>17%(fakeVocab-1))
}

// answer is what the model must say to a prompt, whatever happens around it.
func answer(prompt []int32, n int) string {
	context := slices.Clone(prompt)
	out := ""
	for range n {
		t := next(context)
		context = append(context, t)
		out += piece(t)
	}
	return out
}

// piece is the text of a token.
func piece(t int32) string { return string(rune('@' + t)) }

// vectorOf is what a fake that gives vectors must say to a prompt.
func vectorOf(context []int32, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(next(append(slices.Clone(context), int32(i))))
	}
	return v
}

func (m *fakeModel) context(seq int, pos int32) []int32 {
	var c []int32
	for p := range pos + 1 {
		i := slices.IndexFunc(m.cells, func(s slot) bool { return s.pos == p && slices.Contains(s.owners, seq) })
		if i < 0 {
			m.t.Errorf("sequence %d has no position %d", seq, p)
			return nil
		}
		c = append(c, m.cells[i].token)
	}
	return c
}

func (m *fakeModel) Step(b Batch) ([]float32, error) {
	time.Sleep(m.step)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.steps = append(m.steps, Batch{slices.Clone(b.Tokens), slices.Clone(b.Pos), slices.Clone(b.Seq), slices.Clone(b.Out)})
	free := 0
	for _, c := range m.cells {
		if len(c.owners) == 0 {
			free++
		}
	}
	if free < len(b.Tokens) {
		return nil, ErrFull
	}
	for i, t := range b.Tokens {
		at := slices.IndexFunc(m.cells, func(s slot) bool { return len(s.owners) == 0 })
		m.cells[at] = slot{owners: []int{b.Seq[i]}, token: t, pos: b.Pos[i], dirty: true}
	}
	if m.failing != nil {
		if err := m.failing(b); err != nil {
			return nil, err
		}
	}
	var logits []float32
	for _, o := range b.Out {
		if m.vector > 0 {
			logits = append(logits, vectorOf(m.context(b.Seq[o], b.Pos[o]), m.vector)...)
			continue
		}
		row := make([]float32, fakeVocab)
		row[next(m.context(b.Seq[o], b.Pos[o]))] = 10
		logits = append(logits, row...)
	}
	return logits, nil
}

func (m *fakeModel) Share(src, dst, n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.noShare {
		return false
	}
	for i := range m.cells {
		if c := &m.cells[i]; slices.Contains(c.owners, src) && c.pos < int32(n) {
			c.owners = append(c.owners, dst)
		}
	}
	return true
}

func (m *fakeModel) Forget(seq int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.cells {
		c := &m.cells[i]
		c.owners = slices.DeleteFunc(c.owners, func(s int) bool { return s == seq })
	}
}

func (m *fakeModel) Wipe(n int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wipeErr != nil {
		return m.wipeErr
	}
	m.wipes++
	for i := range m.cells {
		if n > 0 && len(m.cells[i].owners) == 0 {
			m.cells[i] = slot{}
			n--
		}
	}
	return nil
}

func (m *fakeModel) Reset() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.resets++
	clear(m.cells)
	return nil
}

// remains counts the free cells that still hold something.
func (m *fakeModel) remains() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.cells {
		if len(c.owners) == 0 && c.dirty {
			n++
		}
	}
	return n
}

// prompt makes n tokens that differ from those of any other seed in the first one already.
func prompt(seed, n int) []int32 {
	p := make([]int32, n)
	for i := range p {
		p[i] = 1 + int32((seed*7+i*i+seed*i)%(fakeVocab-1))
	}
	p[0] = 1 + int32(seed%(fakeVocab-1))
	return p
}

func (m *fakeModel) String() string { return "fake with " + strconv.Itoa(len(m.cells)) + " cells" }

var _ fmt.Stringer = (*fakeModel)(nil)
