package streams

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// statusHeader and the statuses of a direct get.
const (
	statusHeader   = "Status"
	statusNotFound = "404"
	statusEnd      = "204"
	statusTooMany  = "413"
	headerPending  = "Nats-Num-Pending"
)

// maxBatch bounds one batched read: messages and bytes.
const (
	maxBatch      = 1000
	maxBatchBytes = 8 << 20
)

// stored is a message read back from a stream.
type stored struct {
	subject string
	header  nats.Header
	data    []byte
	seq     uint64
	time    time.Time
}

// directGet returns the last message of a subject, or KindNotFound. Any replica may answer: right after a publish through
// another connection a follower may not have it yet.
func (b *Bus) directGet(ctx context.Context, stream, subject string) (s stored, err error) {
	err = b.retry(ctx, func(ctx context.Context) error {
		m, err := b.request(ctx, &nats.Msg{Subject: b.api("DIRECT.GET." + stream + "." + subject)})
		if err != nil {
			return err
		}
		s, err = directMessage(m)
		return err
	})
	return s, err
}

// directSeq returns the message at a position, or KindNotFound.
func (b *Bus) directSeq(ctx context.Context, stream string, seq uint64) (s stored, err error) {
	body := []byte(`{"seq":` + strconv.FormatUint(seq, 10) + `}`)
	err = b.retry(ctx, func(ctx context.Context) error {
		m, err := b.request(ctx, &nats.Msg{Subject: b.api("DIRECT.GET." + stream), Data: body})
		if err != nil {
			return err
		}
		s, err = directMessage(m)
		return err
	})
	return s, err
}

// directMessage reads an answer of a direct get.
func directMessage(m *nats.Msg) (stored, error) {
	switch status := m.Header.Get(statusHeader); status {
	case "":
	case statusNotFound:
		return stored{}, schemas.Errorf(schemas.KindNotFound, "no such message")
	default:
		return stored{}, schemas.Errorf(schemas.KindInternal, "direct get: status %s", status)
	}
	seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return stored{}, schemas.Errorf(schemas.KindInternal, "direct get: bad sequence: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
	if err != nil {
		return stored{}, schemas.Errorf(schemas.KindInternal, "direct get: bad time: %w", err)
	}
	return stored{subject: m.Header.Get(jetstream.SubjectHeader), header: m.Header, data: m.Data, seq: seq, time: at}, nil
}

// page reads up to maxBatch messages from position from on whose subjects match the filter, and tells whether there are
// more. It returns an empty page, not an error, when there are none.
func (b *Bus) page(ctx context.Context, stream, filter string, from uint64) (list []stored, more bool, err error) {
	body, err := json.Marshal(struct {
		Seq      uint64 `json:"seq"`
		Next     string `json:"next_by_subj"`
		Batch    int    `json:"batch"`
		MaxBytes int    `json:"max_bytes"`
	}{max(from, 1), filter, maxBatch, maxBatchBytes})
	if err != nil {
		return nil, false, schemas.Errorf(schemas.KindInternal, "page: %w", err)
	}
	err = b.retry(ctx, func(ctx context.Context) (err error) {
		list, more, err = b.pageOnce(ctx, b.api("DIRECT.GET."+stream), body)
		return err
	})
	return list, more, err
}

// pageOnce is one try of page.
func (b *Bus) pageOnce(ctx context.Context, subject string, body []byte) (list []stored, more bool, err error) {
	inbox, err := b.nc.SubscribeSync(b.nc.NewInbox())
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = inbox.Unsubscribe() }()
	err = b.watchDenial(ctx, subject, func(ctx context.Context) error {
		if err := b.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: inbox.Subject, Data: body}); err != nil {
			return err
		}
		for {
			m, err := inbox.NextMsgWithContext(ctx)
			if err != nil {
				return err
			}
			if m.Header.Get(statusHeader) == statusEnd {
				more = m.Header.Get(headerPending) != "0"
				return nil
			}
			if len(m.Header) == 0 && len(m.Data) == 0 {
				return nats.ErrNoResponders
			}
			s, err := directMessage(m)
			if errors.Is(err, schemas.KindNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			list = append(list, s)
		}
	})
	return list, more && len(list) > 0, err
}

// scan calls f for every message of a stream whose subject matches the filter, in order, until f returns false or an error.
func (b *Bus) scan(ctx context.Context, stream, filter string, from uint64, f func(stored) (bool, error)) error {
	for {
		list, more, err := b.page(ctx, stream, filter, from)
		if err != nil {
			return err
		}
		for _, s := range list {
			if ok, err := f(s); err != nil || !ok {
				return err
			}
			from = s.seq + 1
		}
		if !more {
			return nil
		}
	}
}

// deleteMessage removes the message at a position; one that is gone already is no error.
//
// Commit point: the server's answer. Positions are never used again, so repeating it is harmless.
func (b *Bus) deleteMessage(ctx context.Context, stream string, seq uint64) error {
	subject := b.api("STREAM.MSG.DELETE." + stream)
	body := []byte(`{"seq":` + strconv.FormatUint(seq, 10) + `,"no_erase":true}`)
	err := b.retry(ctx, func(ctx context.Context) error {
		return b.write(ctx, OpDelete, subject, func() error { return b.apiRequest(ctx, subject, body, nil) })
	})
	if apiCode(err) == codeDeleteFailed {
		// The server says the same for a message that is gone and for one that it could not delete.
		if _, errGet := b.leaderGet(ctx, stream, leaderQuery{Seq: seq}); errors.Is(errGet, schemas.KindNotFound) {
			return nil
		}
	}
	if errors.Is(err, schemas.KindNotFound) {
		return nil
	}
	return err
}
