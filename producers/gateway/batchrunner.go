package gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/schemas"
)

const (
	// runningBatches is how many batches run at a time; the others wait.
	runningBatches = 4
	// retryBatch is the pause before a batch that could not go on is tried again.
	retryBatch = 10 * time.Second
)

// run runs the batches that have not ended until ctx ends.
func (b *batches) run(ctx context.Context) error {
	slots := make(chan struct{}, runningBatches)
	var wg sync.WaitGroup
	defer wg.Wait()
	again := time.NewTicker(retryBatch)
	defer again.Stop()
	for {
		list, err := b.all()
		if err != nil {
			b.g.o.Logger.Error("batches not listed", "error", err)
		}
		slices.Reverse(list) // the oldest first
		for _, s := range list {
			if !b.take(s) {
				continue
			}
			wg.Go(func() {
				defer b.drop(s.ID)
				select {
				case slots <- struct{}{}:
					defer func() { <-slots }()
				case <-ctx.Done():
					return
				}
				b.runOne(ctx, s)
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.fresh:
		case <-again.C:
		}
	}
}

// take marks a batch that is to run as running.
func (b *batches) take(s storedBatch) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running[s.ID] || !s.FailedAt.IsZero() {
		return false
	}
	if have, err := batch.Read(b.folder(s.ID)); err == nil {
		now := have.Summary()
		if now.State.Ended() {
			b.count(s, now.Cost) // the process that saw its end may have died before it counted
			return false
		}
		// What an earlier process had set aside of the key's cap, less what it has counted: that is what is left to count.
		b.g.o.Keys.hold(s.Owner, s.ID, max(0, now.MaxCost-b.g.o.Keys.counted(s.ID)))
	}
	b.running[s.ID] = true
	return true
}

// drop marks a batch as not running.
func (b *batches) drop(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.running, id)
}

// uses reports whether a running batch reads a file.
func (b *batches) uses(file string) bool {
	b.mu.Lock()
	ids := make([]string, 0, len(b.running))
	for id := range b.running {
		ids = append(ids, id)
	}
	b.mu.Unlock()
	return slices.ContainsFunc(ids, func(id string) bool {
		s, err := b.load(id)
		return err == nil && s.InputFileID == file
	})
}

// runOne takes one batch as far as it goes. What stopped it is logged, and tried again later.
func (b *batches) runOne(ctx context.Context, s storedBatch) {
	if err := b.ensure(ctx, s); err != nil {
		if ctx.Err() == nil {
			b.g.o.Logger.Error("batch not started", "batch", s.ID, "error", err)
		}
		return
	}
	have, err := batch.Open(b.folder(s.ID))
	if err != nil {
		if !errors.Is(err, schemas.KindNotFound) { // refused input: there is nothing to run
			b.g.o.Logger.Error("batch not opened", "batch", s.ID, "error", err)
		}
		return
	}
	defer have.Close()
	charge := func(p batch.Progress) { b.count(s, p.Cost) }
	_, err = have.Run(ctx, b.g.o.Client, batch.RunOptions{Progress: charge, Logger: b.g.o.Logger})
	if err != nil && ctx.Err() == nil {
		b.g.o.Logger.Warn("batch stopped", "batch", s.ID, "error", err)
	}
	if err == nil { // it has ended: nothing more can come of it
		b.g.o.Keys.hold(s.Owner, s.ID, 0)
	}
}

// count counts what a batch has cost by now.
func (b *batches) count(s storedBatch, cost schemas.NanoTON) {
	if err := b.g.o.Keys.charge(spent{Key: s.Owner, Unit: s.ID, Amount: cost}); err != nil {
		b.g.o.Logger.Error("spending not recorded", "key", s.Owner, "error", err)
	}
}

// ensure checks a batch's input and makes its folder, unless that was done.
func (b *batches) ensure(ctx context.Context, s storedBatch) error {
	if _, err := batch.Read(b.folder(s.ID)); !errors.Is(err, schemas.KindNotFound) {
		return err
	}
	o := batch.Options{
		Input: b.g.files.path(s.InputFileID), ID: s.ID, Rules: batch.Rules{Endpoint: s.Endpoint}, Metadata: s.Metadata,
	}
	c := &caller{keys: b.g.o.Keys, key: b.g.o.Keys.byID(s.Owner)}
	if c.key.Cap > 0 {
		worst, err := b.worst(ctx, o)
		if err != nil {
			return err
		}
		o.MaxCost = c.holdUpTo(s.ID, worst)
	}
	made, report, err := batch.Create(ctx, b.folder(s.ID), o)
	if made == nil {
		b.g.o.Keys.hold(s.Owner, s.ID, 0)
	}
	if err != nil {
		return err
	}
	if made == nil {
		return b.refuse(s.ID, report.Issues)
	}
	if err := made.Close(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if now, err := b.load(s.ID); err != nil || now.CancelledAt.IsZero() {
		return err
	}
	return batch.RequestCancel(b.folder(s.ID))
}

// worst is what all lines of a batch are reserved with.
func (b *batches) worst(ctx context.Context, o batch.Options) (schemas.NanoTON, error) {
	catalogue, err := b.g.o.Client.Catalogue(ctx)
	if err != nil {
		return 0, err
	}
	f, err := os.Open(o.Input)
	if err != nil {
		return 0, fmt.Errorf("read input: %w", err)
	}
	defer f.Close()
	cost, _, err := batch.Estimate(ctx, f, o, catalogue)
	if err != nil {
		return 0, err
	}
	return cost.Ceiling, nil
}

// refuse records that a batch's input is wrong.
func (b *batches) refuse(id string, issues []batch.Issue) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.load(id)
	if err != nil {
		return err
	}
	s.Issues, s.FailedAt = issues, time.Now().UTC().Truncate(time.Second)
	return b.save(s)
}
