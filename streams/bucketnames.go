package streams

import "time"

// BucketName names a key-value bucket of the topology.
type BucketName string

// The buckets.
const (
	// BucketKeys holds the current key bundle per model slug.
	BucketKeys BucketName = "KEYS"
	// BucketPolicy and BucketCatalogue hold the signed documents under the key "current" and each version under "v<n>".
	BucketPolicy    BucketName = "POLICY"
	BucketCatalogue BucketName = "CATALOGUE"
	// BucketWorkers holds one entry per living worker, and what control thinks of it; entries lapse after WorkerTTL.
	BucketWorkers BucketName = "WORKERS"
	// BucketCredit holds the available credit per tenant.
	BucketCredit BucketName = "CREDIT"
	// BucketFleet holds the operator's wishes per model and worker.
	BucketFleet BucketName = "FLEET"
	// BucketCollateral caches attestation collateral.
	BucketCollateral BucketName = "COLLATERAL"
	// BucketStatements holds the statements of payout batches.
	BucketStatements BucketName = "STATEMENTS"
	// BucketEvidence holds what brokers found in the evidence of workers, admitted or not; entries lapse after EvidenceTTL.
	BucketEvidence BucketName = "EVIDENCE"
)

// Buckets lists all buckets.
func Buckets() []BucketName {
	return []BucketName{
		BucketKeys, BucketPolicy, BucketCatalogue, BucketWorkers, BucketCredit, BucketFleet,
		BucketCollateral, BucketStatements, BucketEvidence,
	}
}

// stream is the stream behind the bucket.
func (n BucketName) stream() string { return "KV_" + string(n) }

// subject is where a key is stored, live where its changes are heard.
func (n BucketName) subject(key string) string { return "$KV." + string(n) + "." + key }
func (n BucketName) live(key string) string    { return "kv." + string(n) + "." + key }

// ttl is how long an entry lives without being put again; 0 means without an end.
func (n BucketName) ttl() time.Duration {
	switch n {
	case BucketWorkers:
		return WorkerTTL
	case BucketEvidence:
		return EvidenceTTL
	}
	return 0
}

// StoreName names an object store of the topology.
type StoreName string

// StoreWeights holds sealed weights, without an end.
const StoreWeights StoreName = "WEIGHTS"

// streamBodies holds envelopes and results above schemas.MaxInlineBody for BodyAge, under body.<tenant>.<hash>.<part>. They
// are stored and fetched by what refers to them.
const streamBodies = "BODIES"
