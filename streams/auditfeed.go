package streams

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cocoon-network/cocoon/schemas"
)

// AuditAfter reads up to about limit audit records that lie behind position after and returns the position to go on from.
// It does not wait: no records mean that there are none yet. Messages that cannot be read are skipped.
func (b *Bus) AuditAfter(ctx context.Context, after uint64, limit int) (records []AuditRecord, next uint64, err error) {
	next = after
	err = b.scan(ctx, StreamAudit, "audit.*", after+1, func(s stored) (bool, error) {
		next = s.seq
		list, err := parseAudit(s.data)
		if err != nil {
			b.log.Warn("an audit record cannot be read", "seq", s.seq, "error", err)
			return true, nil
		}
		records = append(records, list...)
		return len(records) < limit, nil
	})
	return records, next, err
}

// PositionAt is the last position of a stream before the given time: what follows it was stored at that time or later.
func (b *Bus) PositionAt(ctx context.Context, stream string, at time.Time) (uint64, error) {
	body := fmt.Appendf(nil, `{"start_time":%q,"next_by_subj":">"}`, at.UTC().Format(time.RFC3339Nano))
	var s stored
	err := b.retry(ctx, func(ctx context.Context) error {
		m, err := b.request(ctx, &nats.Msg{Subject: b.api("DIRECT.GET." + stream), Data: body})
		if err != nil {
			return err
		}
		s, err = directMessage(m)
		return err
	})
	switch {
	case err == nil:
		return s.seq - 1, nil
	case schemas.KindOf(err) != schemas.KindNotFound:
		return 0, err
	}
	info, err := b.streamInfo(ctx, stream)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, nil
}
