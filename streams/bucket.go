package streams

import (
	"context"
	"time"
)

// BucketName names a key-value bucket of the topology.
type BucketName string

// The buckets.
const (
	// BucketKeys holds the current key bundle per model slug.
	BucketKeys BucketName = "KEYS"
	// BucketPolicy and BucketCatalogue hold the signed documents under the key "current" and each version under "v<n>".
	BucketPolicy    BucketName = "POLICY"
	BucketCatalogue BucketName = "CATALOGUE"
	// BucketWorkers holds one entry per living worker, and what control thinks of it; entries lapse after 15 s.
	BucketWorkers BucketName = "WORKERS"
	// BucketCredit holds the available credit per tenant.
	BucketCredit BucketName = "CREDIT"
	// BucketFleet holds the operator's wishes per model and worker.
	BucketFleet BucketName = "FLEET"
	// BucketCollateral caches attestation collateral.
	BucketCollateral BucketName = "COLLATERAL"
	// BucketStatements holds the statements of payout batches.
	BucketStatements BucketName = "STATEMENTS"
)

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
type Bucket struct{}

// Bucket opens a bucket of the topology.
func (b *Bus) Bucket(name BucketName) *Bucket { panic("unfinished") }

// Get returns the value of a key or KindNotFound.
func (k *Bucket) Get(ctx context.Context, key string) (Entry, error) { panic("unfinished") }

// Put sets a key and returns the new revision. Values are at most 960 KiB.
func (k *Bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	panic("unfinished")
}

// Create sets a key that has no value, or returns KindConflict. Repeating it with the same value after an error succeeds.
func (k *Bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	panic("unfinished")
}

// Update sets a key whose last revision is the given one, or returns KindConflict.
func (k *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	panic("unfinished")
}

// Delete removes a key. Removing a key that is not there is no error.
func (k *Bucket) Delete(ctx context.Context, key string) error { panic("unfinished") }

// List returns all entries whose keys match the filter (NATS wildcards; "" or ">" for all), sorted by key.
func (k *Bucket) List(ctx context.Context, filter string) ([]Entry, error) { panic("unfinished") }

// Keys returns all keys that match the filter, sorted.
func (k *Bucket) Keys(ctx context.Context, filter string) ([]string, error) { panic("unfinished") }

// Watch tells the current entries that match the filter and then every change, until ctx ends. Changes of one key may be
// merged, the last one never is. After the current entries it calls f once with the zero Entry. An error of f ends it.
// f runs in the caller's goroutine. Reconnects are bridged; a missed change is found within 30 s.
func (k *Bucket) Watch(ctx context.Context, filter string, f func(Entry) error) error {
	panic("unfinished")
}
