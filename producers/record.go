package producers

import (
	"context"
	"iter"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// State is how far a recorded job has come.
type State string

// The states. A job only moves forward; one that is sealed again starts at Sealed under a new generation.
const (
	// StateSealed: written down, perhaps published.
	StateSealed State = "sealed"
	// StatePublished: the network has confirmed that it holds the job.
	StatePublished State = "published"
	// StateDone: an outcome was verified.
	StateDone State = "done"
)

// Entry is what a producer remembers of a job. It holds no plaintext and no key: Request is sealed to the tenant
// itself, Envelope to the broker, and Outcome is as sealed as it came.
type Entry struct {
	// ID names the entry: the id that Submit returned. The network may know the job by another id, when it had to be
	// sealed again: that is in Attributes.
	ID schemas.JobID `json:"id"`
	// State is how far it has come.
	State State `json:"state"`
	// Key is a one-way name of the idempotency key, empty when the job has none.
	Key string `json:"key,omitempty"`
	// Fingerprint is of the request: what another submission under the same key must equal.
	Fingerprint schemas.Hash `json:"fingerprint"`
	// Generation counts how often the job was sealed again.
	Generation int `json:"generation,omitempty"`
	// Request is the job under a key of the tenant's own, kept until it is done, to be sealed again when it must.
	Request []byte `json:"request,omitempty"`
	// Attributes, Hash, Envelope and Shard are the sealed job; the envelope is kept until it is done, so that the same
	// bytes can be sent again.
	Attributes map[string][]string `json:"attributes"`
	Hash       schemas.Hash        `json:"hash"`
	Envelope   []byte              `json:"envelope,omitempty"`
	Shard      int                 `json:"shard"`
	// Ack is where the network stored it.
	Ack streams.Ack `json:"ack"`
	// Outcome is the message that ended it, its header and body; nil until it is done.
	Outcome *StoredOutcome `json:"outcome,omitempty"`
	// Created and Updated are when the entry was made and last changed.
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// StoredOutcome is an outcome message.
type StoredOutcome struct {
	Header map[string][]string `json:"header"`
	Body   []byte              `json:"body,omitempty"`
}

// MaxEntry bounds an encoded entry in bytes: the envelope and the request in base64, or the outcome, and the rest.
const MaxEntry = 4*(schemas.MaxEnvelope+schemas.MaxRequestBody)/3 + 1<<20

// Record is where a client writes down what it submits. Implementations: [NewMemoryRecord], [OpenFileRecord] and the
// package sqlite. All are safe for concurrent use by one process, sqlite's by several, and recordtest holds them to the
// same contract. What a method has returned without error is durable, as far as the implementation knows durability.
type Record interface {
	// Create stores a new entry. If there is one with the same ID, or with the same Key, it changes nothing and returns
	// the stored one with created false.
	Create(ctx context.Context, e Entry) (stored Entry, created bool, err error)
	// Update replaces an entry; KindNotFound when there is none.
	Update(ctx context.Context, e Entry) error
	// Delete forgets an entry; forgetting one that is not there is no error.
	Delete(ctx context.Context, id schemas.JobID) error
	// Get returns an entry; KindNotFound when there is none.
	Get(ctx context.Context, id schemas.JobID) (Entry, error)
	// List yields entries from the oldest to the newest; open selects those that are not done. Entries that change
	// meanwhile may be seen in either state.
	List(ctx context.Context, open bool) iter.Seq2[Entry, error]
	// Prune forgets entries that are done and were last updated before the given time, and says how many.
	Prune(ctx context.Context, before time.Time) (int, error)
	// Close frees what the record holds.
	Close() error
}
