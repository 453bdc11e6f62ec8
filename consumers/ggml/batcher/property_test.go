package batcher

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/cocoon-network/cocoon/schemas"
)

// job is a request of the property test and what became of it.
type job struct {
	Request
	delay, cancel time.Duration // cancel 0: never
	text          string
	result        *Result
	err           error
}

// drawJob makes up a request. Few tenants and few prompt seeds make sharing likely.
func drawJob(t *rapid.T, cells int) *job {
	j := &job{Request: Request{
		Tenant:   rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "tenant"),
		Priority: rapid.IntRange(0, 1).Draw(t, "priority"),
	}}
	head := prompt(rapid.IntRange(0, 2).Draw(t, "head"), rapid.IntRange(1, cells/3).Draw(t, "headLen"))
	j.Prompt = append(head, prompt(rapid.IntRange(0, 30).Draw(t, "tail"), rapid.IntRange(1, cells/4).Draw(t, "tailLen"))...)
	j.MaxTokens = rapid.IntRange(1, min(cells/3, cells-len(j.Prompt))).Draw(t, "max")
	j.delay = time.Duration(rapid.IntRange(0, 30).Draw(t, "delay")) * time.Millisecond / 2
	if rapid.IntRange(0, 4).Draw(t, "cancels") == 0 {
		j.cancel = time.Duration(1+rapid.IntRange(0, 30).Draw(t, "cancel")) * time.Millisecond
	}
	return j
}

// run submits the job and reads its answer.
func (j *job) run(ctx context.Context, b *Batcher) {
	time.Sleep(j.delay)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if j.cancel > 0 {
		time.AfterFunc(j.cancel, cancel)
	}
	ticket, err := b.Submit(ctx, j.Request)
	if err != nil {
		j.err = err
		return
	}
	j.text, j.result, j.err = read(ticket)
}

// TestAnyMix: whatever arrives, is cancelled, preempted, shared or hit by a failing pass, every answer is the one the
// model gives when asked alone; nobody waits for ever; and after the drain the memory is blank.
func TestAnyMix(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		cells := rapid.IntRange(40, 160).Draw(rt, "cells")
		jobs := make([]*job, rapid.IntRange(1, 24).Draw(rt, "jobs"))
		for i := range jobs {
			jobs[i] = drawJob(rt, cells)
		}
		faults := rapid.SliceOfN(rapid.IntRange(0, 60), 0, 2).Draw(rt, "faults")
		c := Config{
			Slots:      rapid.IntRange(1, 6).Draw(rt, "slots"),
			StepTokens: rapid.IntRange(1, 40).Draw(rt, "budget"),
			Queue:      100,
			Keep:       rapid.IntRange(-1, 3).Draw(rt, "keep"),
			WipeEvery:  10 * time.Millisecond,
		}
		noShare := rapid.Bool().Draw(rt, "noShare")
		synctest.Test(t, func(t *testing.T) {
			m := newFake(t, cells)
			m.noShare = noShare
			passes := 0
			m.failing = func(Batch) error {
				passes++
				for _, f := range faults {
					if passes == f {
						return errors.New("transient")
					}
				}
				return nil
			}
			mix(t, rt, setup(t, m, c), jobs, len(faults) > 0)
		})
	})
}

// mix runs the jobs and judges what came of them.
func mix(t *testing.T, rt *rapid.T, b *bundle, jobs []*job, faults bool) {
	done := make(chan struct{})
	for _, j := range jobs {
		go func() { j.run(t.Context(), b.Batcher); done <- struct{}{} }()
	}
	for range jobs {
		<-done
	}
	if err := b.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	b.stop()
	for i, j := range jobs {
		want := answer(j.Prompt, j.MaxTokens)
		switch kind := schemas.KindOf(j.err); {
		case j.err == nil && j.text == want && j.result.Generated == j.MaxTokens:
		case kind == schemas.KindCancelled && j.cancel > 0 && strings.HasPrefix(want, j.text):
		case kind == schemas.KindEngine && faults && strings.HasPrefix(want, j.text):
		default:
			rt.Errorf("job %d: %q %v, want %q", i, j.text, j.err, want)
		}
		if j.result != nil && j.result.Cached > 0 && j.Tenant == "" {
			rt.Errorf("job %d shared memory without a tenant", i)
		}
	}
	for i, c := range b.model.cells {
		if c.dirty || len(c.owners) > 0 {
			rt.Errorf("cell %d is not blank: %+v", i, c)
			break
		}
	}
	if l := b.Load(); l.Running+l.Waiting+l.CellsUsed != 0 || len(b.slots) != b.cfg.Slots+b.cfg.Keep || len(b.queue.active) != 0 {
		rt.Errorf("left over: %+v, %d slots, %v", l, len(b.slots), b.queue.active)
	}
}
