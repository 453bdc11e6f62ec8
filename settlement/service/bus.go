package service

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/streams"
)

// Feed is the outcome stream as intake reads it.
type Feed struct{ receipts *streams.ReceiptFeed }

var _ settlement.Feed = (*Feed)(nil)

// NewFeed opens the outcome stream. Close it when done.
func NewFeed(bus *streams.Bus) *Feed { return &Feed{bus.Receipts()} }

// Close frees the consumer behind the feed.
func (f *Feed) Close() { f.receipts.Close() }

// Read returns up to limit outcomes after a position; see settlement.Feed.
func (f *Feed) Read(ctx context.Context, after uint64, limit int) ([]settlement.Message, error) {
	receipts, err := f.receipts.Read(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	messages := make([]settlement.Message, len(receipts))
	for i, r := range receipts {
		messages[i] = settlement.Message{Seq: r.Seq, Header: r.Header}
	}
	return messages, nil
}

// First is the lowest position that the stream still holds.
func (f *Feed) First(ctx context.Context) (uint64, error) {
	s, err := f.receipts.State(ctx)
	return s.First, err
}

// Last is the highest position of the stream, 0 while it is empty.
func (f *Feed) Last(ctx context.Context) (uint64, error) {
	s, err := f.receipts.State(ctx)
	return s.Last, err
}

// Bucket is what is used of a *streams.Bucket.
type Bucket interface {
	Get(ctx context.Context, key string) (streams.Entry, error)
	Put(ctx context.Context, key string, value []byte) (uint64, error)
	Create(ctx context.Context, key string, value []byte) (uint64, error)
	List(ctx context.Context, filter string) ([]streams.Entry, error)
	Keys(ctx context.Context, filter string) ([]string, error)
}

var _ Bucket = (*streams.Bucket)(nil)

// everything is the filter for all keys of a bucket.
const everything = ">"

// Journal keeps payout batches in the STATEMENTS bucket, under their numbers.
type Journal struct{ bucket Bucket }

var _ settlement.Journal = (*Journal)(nil)

// NewJournal is the journal in a bucket.
func NewJournal(b Bucket) *Journal { return &Journal{b} }

// journalKey spells a number so that keys sort like numbers.
func journalKey(number uint64) string { return fmt.Sprintf("%020d", number) }

// Put stores a record once; see settlement.Journal. Create may answer an error for a write that stands, and the same
// call again then succeeds or names the record that is there.
func (j *Journal) Put(ctx context.Context, number uint64, record []byte) error {
	_, err := j.bucket.Create(ctx, journalKey(number), record)
	if schemas.KindOf(err) != schemas.KindConflict {
		return err
	}
	have, getErr := j.bucket.Get(ctx, journalKey(number))
	if getErr != nil {
		return getErr
	}
	if slices.Equal(have.Value, record) {
		return nil
	}
	return err
}

// After returns records with numbers above n; see settlement.Journal. Numbers may be missing: a batch that expired
// before it was ever published was never sent.
func (j *Journal) After(ctx context.Context, n uint64, limit int) ([][]byte, error) {
	keys, err := j.bucket.Keys(ctx, everything)
	if err != nil {
		return nil, err
	}
	slices.Sort(keys)
	var records [][]byte
	for _, key := range keys {
		number, err := strconv.ParseUint(key, 10, 64)
		if err != nil || key != journalKey(number) {
			return nil, schemas.Errorf(schemas.KindCorrupt, "the journal has a foreign key %q", key)
		}
		if number <= n {
			continue
		}
		if len(records) == limit {
			break
		}
		entry, err := j.bucket.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		records = append(records, entry.Value)
	}
	return records, nil
}

// CreditStore puts credit entries into the CREDIT bucket, under the tenants' ids.
type CreditStore struct{ bucket Bucket }

var _ settlement.CreditStore = (*CreditStore)(nil)

// NewCreditStore is the store in a bucket.
func NewCreditStore(b Bucket) *CreditStore { return &CreditStore{b} }

// Put sets a tenant's entry.
func (s *CreditStore) Put(ctx context.Context, tenant schemas.TenantID, value []byte) error {
	_, err := s.bucket.Put(ctx, string(tenant), value)
	return err
}
