package streams

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// The header with which the KV of NATS marks a deleted key, and its value.
const (
	headerOperation = "KV-Operation"
	operationDelete = "DEL"
)

// maxKey bounds a key in bytes.
const maxKey = 200

// Entry is one version of a key.
type Entry struct {
	Key   string
	Value []byte
	// Revision grows with every change in the bucket.
	Revision uint64
	// Updated is when it was stored, by the server's clock.
	Updated time.Time
	// Deleted tells that the key is gone: deleted, or lapsed in a bucket whose entries live only for a time.
	Deleted bool
}

// Bucket is a key-value bucket: one value per key, last write wins unless Create or Update is used. Keys are subject tokens
// [a-zA-Z0-9_=-], joined by dots. It is the same on the wire as the KV of NATS, but reads without creating consumers.
type Bucket struct {
	bus  *Bus
	name BucketName
}

// Bucket opens a bucket of the topology.
func (b *Bus) Bucket(name BucketName) *Bucket { return &Bucket{b, name} }

// checkKey refuses keys that are not plain tokens joined by dots.
func checkKey(key string) error {
	for token := range strings.SplitSeq(key, ".") {
		bad := strings.IndexFunc(token, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '='
		})
		if token == "" || bad >= 0 {
			return schemas.FieldError("key", "must be tokens of a-z, A-Z, 0-9, _, = and -, joined by dots")
		}
	}
	if len(key) > maxKey {
		return schemas.FieldError("key", "is longer than 200 bytes")
	}
	return nil
}

// Get returns the value of a key or KindNotFound.
func (k *Bucket) Get(ctx context.Context, key string) (Entry, error) {
	if err := checkKey(key); err != nil {
		return Entry{}, err
	}
	s, err := k.bus.directGet(ctx, k.name.stream(), k.name.subject(key))
	if err != nil {
		return Entry{}, err
	}
	e := k.entry(s)
	if e.Deleted {
		return Entry{}, schemas.Errorf(schemas.KindNotFound, "no such key")
	}
	return e, nil
}

// entry reads a stored message of the bucket.
func (k *Bucket) entry(s stored) Entry {
	return Entry{
		Key: strings.TrimPrefix(s.subject, k.name.subject("")), Value: s.data, Revision: s.seq, Updated: s.time,
		Deleted: s.header.Get(headerOperation) != "",
	}
}

// Put sets a key and returns the new revision. Values are at most 960 KiB.
func (k *Bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	return k.store(ctx, key, value, nil)
}

// Create sets a key that has no value, or returns KindConflict. Repeating it with the same value after an error succeeds.
func (k *Bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	var zero uint64
	revision, err := k.store(ctx, key, value, &zero)
	if !errors.Is(err, schemas.KindConflict) {
		return revision, err
	}
	// The subject has a message: our own from a try that looked lost, another value, or the mark of a deletion.
	s, errGet := k.bus.directGet(ctx, k.name.stream(), k.name.subject(key))
	switch {
	case errors.Is(errGet, schemas.KindNotFound):
		return 0, err
	case errGet != nil:
		return 0, errGet
	case k.entry(s).Deleted:
		return k.store(ctx, key, value, &s.seq)
	case bytes.Equal(s.data, value):
		return s.seq, nil
	}
	return 0, err
}

// Update sets a key whose last revision is the given one, or returns KindConflict. Repeating it after an error succeeds
// when the earlier try was stored and nothing came after it.
func (k *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	next, err := k.store(ctx, key, value, &revision)
	if !errors.Is(err, schemas.KindConflict) {
		return next, err
	}
	s, errGet := k.bus.directGet(ctx, k.name.stream(), k.name.subject(key))
	if errGet == nil && s.seq > revision && !k.entry(s).Deleted && bytes.Equal(s.data, value) {
		return s.seq, nil
	}
	return 0, err
}

// Delete removes a key. Removing a key that is not there is no error.
func (k *Bucket) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	m := nats.NewMsg(k.name.subject(key))
	m.Header.Set(headerOperation, operationDelete)
	_, err := k.bus.publish(ctx, OpBucket, m)
	return err
}

// store publishes one value, against an expected revision unless that is nil.
//
// Commit point: the acknowledgement. A plain Put that is repeated stores the same value twice, which watchers may see as
// two changes to the same.
func (k *Bucket) store(ctx context.Context, key string, value []byte, expect *uint64) (uint64, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	if len(value) > maxValue {
		return 0, &schemas.Error{Kind: schemas.KindTooLarge, Field: "value", Message: "is larger than 960 KiB"}
	}
	m := nats.NewMsg(k.name.subject(key))
	m.Data = value
	if expect != nil {
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(*expect, 10))
	}
	ack, err := k.bus.publish(ctx, OpBucket, m)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// List returns all entries whose keys match the filter (NATS wildcards; "" or ">" for all), sorted by key.
func (k *Bucket) List(ctx context.Context, filter string) ([]Entry, error) {
	if filter == "" {
		filter = ">"
	}
	var list []Entry
	err := k.bus.scan(ctx, k.name.stream(), k.name.subject(filter), 1, func(s stored) (bool, error) {
		if e := k.entry(s); !e.Deleted {
			list = append(list, e)
		}
		return true, nil
	})
	// A key that was set again while the pages were read shows up twice; the later one counts.
	slices.SortFunc(list, func(a, b Entry) int {
		if c := strings.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		return int(b.Revision) - int(a.Revision)
	})
	return slices.CompactFunc(list, func(a, b Entry) bool { return a.Key == b.Key }), err
}

// Keys returns all keys that match the filter, sorted.
func (k *Bucket) Keys(ctx context.Context, filter string) ([]string, error) {
	list, err := k.List(ctx, filter)
	keys := make([]string, len(list))
	for i, e := range list {
		keys[i] = e.Key
	}
	return keys, err
}
