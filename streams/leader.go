package streams

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/textproto"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cocoon-network/cocoon/schemas"
)

// A direct get may be answered by a replica that is a moment behind. Where "there is no such message" would end a job's
// story, the leader is asked instead: that is what the functions here do.

// leaderQuery is a request for one message.
type leaderQuery struct {
	Seq  uint64 `json:"seq,omitempty"`
	Last string `json:"last_by_subj,omitempty"`
	Next string `json:"next_by_subj,omitempty"`
}

// leaderGet reads one message from the leader of a stream, or KindNotFound.
func (b *Bus) leaderGet(ctx context.Context, stream string, q leaderQuery) (stored, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return stored{}, schemas.Errorf(schemas.KindInternal, "message get: %w", err)
	}
	var answer struct {
		Message struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	err = b.retry(ctx, func(ctx context.Context) error {
		return b.apiRequest(ctx, b.api("STREAM.MSG.GET."+stream), body, &answer)
	})
	if err != nil {
		return stored{}, err
	}
	m := answer.Message
	header, err := parseHeader(m.Header)
	if err != nil {
		return stored{}, schemas.Errorf(schemas.KindCorrupt, "message %d of %s: %w", m.Seq, stream, err)
	}
	return stored{subject: m.Subject, header: header, data: m.Data, seq: m.Seq, time: m.Time}, nil
}

// headerLine is the first line of a message's headers in storage.
const headerLine = "NATS/1.0"

// parseHeader reads headers as a stream stores them, with the spelling of their names kept.
func parseHeader(text []byte) (nats.Header, error) {
	h := nats.Header{}
	if len(text) == 0 {
		return h, nil
	}
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(text)))
	first, err := r.ReadLine()
	if err != nil || !strings.HasPrefix(first, headerLine) {
		return nil, errors.New("bad header line")
	}
	for {
		line, err := r.ReadLine()
		if err != nil {
			return nil, err
		}
		if line == "" {
			return h, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, errors.New("bad header")
		}
		h[name] = append(h[name], strings.TrimSpace(value))
	}
}

// scanAll is scan to the end that the leader knows, whatever replica answers in between.
func (b *Bus) scanAll(ctx context.Context, stream, filter string, from uint64, f func(stored) (bool, error)) error {
	for {
		stopped := false
		err := b.scan(ctx, stream, filter, from, func(s stored) (bool, error) {
			from = s.seq + 1
			ok, err := f(s)
			stopped = !ok
			return ok, err
		})
		if err != nil || stopped {
			return err
		}
		s, err := b.leaderGet(ctx, stream, leaderQuery{Seq: from, Next: filter})
		if errors.Is(err, schemas.KindNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		from = s.seq + 1
		if ok, err := f(s); err != nil || !ok {
			return err
		}
	}
}
