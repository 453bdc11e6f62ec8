package gateway

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/schemas"
)

// Listed is a batch of this gateway for a page that shows them beside each other.
type Listed struct {
	batch.Summary
	// Status is the state in OpenAI's words: also validating and failed, which come before there is anything to sum up.
	Status string `json:"status"`
	// Made is when it was asked for.
	Made time.Time `json:"made"`
}

// listing remembers what was read of batches whose files have not changed since.
type listing struct {
	mu    sync.Mutex // guards known
	known map[string]listed
}

// listed is a batch as it was read when its files were of a time and size.
type listed struct {
	changed time.Time
	size    int64
	batch   Listed
}

// Batches lists up to limit batches of all callers, newest first. A batch is read again only when its files have changed, and a
// large one takes a moment, so ask every few seconds at most. It is for operators of this gateway: it tells no content, but
// what submitters called their batches.
func (g *Gateway) Batches(ctx context.Context, limit int) ([]Listed, error) {
	if g.jobs == nil {
		return nil, nil
	}
	requests, err := g.jobs.all()
	if err != nil {
		return nil, err
	}
	requests = requests[:min(len(requests), max(limit, 0))]
	g.listing.mu.Lock()
	defer g.listing.mu.Unlock()
	known := make(map[string]listed, len(requests))
	all := make([]Listed, 0, len(requests))
	for _, s := range requests {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l, err := g.list(s)
		if err != nil {
			return nil, err
		}
		known[s.ID] = l
		all = append(all, l.batch)
	}
	g.listing.known = known
	return all, nil
}

// list reads one batch, or recalls it; listing.mu is held.
func (g *Gateway) list(s storedBatch) (listed, error) {
	changed, size, err := newest(g.jobs.folder(s.ID))
	if err != nil {
		return listed{}, err
	}
	if l, ok := g.listing.known[s.ID]; ok && l.changed.Equal(changed) && l.size == size {
		return l, nil
	}
	l := listed{changed, size, Listed{Status: "validating", Made: s.Created}}
	l.batch.ID, l.batch.Metadata, l.batch.Endpoint = s.ID, s.Metadata, s.Endpoint
	if !s.FailedAt.IsZero() {
		l.batch.Status, l.batch.Failed = "failed", len(s.Issues)
		return l, nil
	}
	have, err := batch.Read(g.jobs.folder(s.ID))
	switch {
	case errors.Is(err, schemas.KindNotFound):
	case err != nil:
		return l, err
	default:
		l.batch.Summary = have.Summary()
		l.batch.Status, l.batch.Metadata = string(l.batch.State), s.Metadata
	}
	return l, nil
}

// newest is when a file below a folder was last written, and the size of all of them.
func newest(folder string) (changed time.Time, size int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return ignoreGone(err)
		}
		info, err := e.Info()
		if err != nil {
			return ignoreGone(err)
		}
		if size += info.Size(); info.ModTime().After(changed) {
			changed = info.ModTime()
		}
		return nil
	})
	return changed, size, err
}

// ignoreGone lets a file go that was renamed while its folder was read.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
