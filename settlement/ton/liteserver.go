package ton

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xssnick/tonutils-go/tl"
	tonapi "github.com/xssnick/tonutils-go/ton"
)

// masterchain is the workchain of the blocks that prove everything else.
const masterchain = -1

// maxServers bounds how many liteservers one question goes to before it fails.
const maxServers = 8

// liteserver bounds each query in time.
type liteserver struct {
	tonapi.LiteClient
	timeout time.Duration
}

// QueryLiteserver is that of ton.LiteClient.
func (l liteserver) QueryLiteserver(ctx context.Context, payload, result tl.Serializable) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	return l.LiteClient.QueryLiteserver(ctx, payload, result)
}

// each returns a context for each liteserver, at most maxServers, to which queries under it go.
func (l liteserver) each(ctx context.Context) []context.Context {
	at := l.StickyContext(ctx)
	all := []context.Context{at}
	for len(all) < maxServers {
		next, err := l.StickyContextNextNode(at)
		if err != nil {
			break
		}
		at = next
		all = append(all, at)
	}
	return all
}

// ask puts a question to one liteserver after the other until one gives a proven answer. The question may consist of
// several queries: all of them go to the same server.
func (c *Chain) ask(ctx context.Context, question func(context.Context) error) error {
	var errs []error
	for _, at := range c.lite.each(ctx) {
		if ctx.Err() != nil {
			return unavailable("%w", context.Cause(ctx))
		}
		err := guard(at, question)
		if err == nil || errors.Is(err, ErrCursor) {
			return err
		}
		c.log.Warn("liteserver gave no proven answer", "error", err)
		errs = append(errs, err)
	}
	return unavailable("no liteserver gave a proven answer: %w", errors.Join(errs...))
}

// guard turns a panic into an error: the parsers below read whatever a liteserver sends.
func guard(ctx context.Context, question func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: answer could not be read: %v", ErrUnproven, p)
		}
	}()
	return question(ctx)
}

// head proves the newest block of a liteserver, from the newest block that was proven before. A server that is behind is
// refused.
func (c *Chain) head(ctx context.Context) (block, error) {
	var resp tl.Serializable
	if err := c.lite.QueryLiteserver(ctx, tonapi.GetMasterchainInf{}, &resp); err != nil {
		return block{}, err
	}
	info, ok := resp.(tonapi.MasterchainInfo)
	if !ok {
		return block{}, unexpected(resp)
	}
	c.mu.Lock()
	newest := c.newest
	c.mu.Unlock()
	switch id := info.Last; {
	case id.SeqNo < newest.id.SeqNo:
		return block{}, fmt.Errorf("%w: its newest block is %d, %d is known", ErrStale, id.SeqNo, newest.id.SeqNo)
	case id.Equals(newest.id) && !newest.Time.IsZero():
		return newest, nil
	}
	if err := c.api.VerifyProofChain(ctx, newest.id, info.Last); err != nil {
		return block{}, classify(err)
	}
	b, err := c.readHeader(ctx, info.Last)
	if err != nil {
		return block{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.Seqno >= c.newest.id.SeqNo {
		c.newest = b
	}
	return b, nil
}

// readHeader reads the time of a block whose id is proven.
func (c *Chain) readHeader(ctx context.Context, id *tonapi.BlockIDExt) (block, error) {
	h, err := c.api.GetBlockHeader(ctx, id)
	if err != nil {
		return block{}, classify(err)
	}
	if h.SeqNo != id.SeqNo || h.NotMaster || h.GenUtime == 0 {
		return block{}, fmt.Errorf("%w: header is not that of masterchain block %d", ErrUnproven, id.SeqNo)
	}
	return block{BlockTime: BlockTime{Seqno: id.SeqNo, Time: time.Unix(int64(h.GenUtime), 0).UTC()}, id: id}, nil
}

// classify tells what a server said about itself from what it said about the chain: an answer that is neither an error
// of the server nor of the connection did not hold against the proof.
func classify(err error) error {
	var said tonapi.LSError
	switch {
	case errors.As(err, &said), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnproven, err)
}
