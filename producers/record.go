package producers

import (
	"context"
	"iter"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// State is how far a recorded job has come.
type State string

// The states. A job only moves forward; a job that is sealed again keeps its id and starts at Sealed.
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
	// Job is the id.
	Job schemas.JobID
	// State is how far it has come.
	State State
	// Request is the fingerprint of the request: what another submission under the same idempotency key must equal.
	Request schemas.Hash
	// Attributes are the job's public face, as headers: what the outcome is verified against.
	Attributes map[string][]string
	// Hash is the hash of the envelope.
	Hash schemas.Hash
	// Envelope is the sealed job, kept until it is done so that the same bytes can be sent again.
	Envelope []byte
	// Sealed is the request under a key of the tenant's own, kept until it is done so that the job can be sealed to
	// another key when the broker lost the first.
	Sealed []byte
	// Header and Body are the outcome message, set when it is done.
	Header map[string][]string
	Body   []byte
	// Created and Updated are when the entry was made and last changed.
	Created, Updated time.Time
}

// Record is where a client writes down what it submits. Implementations: [NewMemoryRecord], [OpenFileRecord] and the
// package sqlite. All are safe for concurrent use, and recordtest holds them to the same contract.
type Record interface {
	// Create stores a new entry durably. If there is one with the same job id, it changes nothing and returns the
	// stored one with created false.
	Create(ctx context.Context, e Entry) (stored Entry, created bool, err error)
	// Update replaces an entry durably; KindNotFound when there is none.
	Update(ctx context.Context, e Entry) error
	// Get returns an entry; KindNotFound when there is none.
	Get(ctx context.Context, id schemas.JobID) (Entry, error)
	// List yields entries from the newest to the oldest; open selects those that are not done.
	List(ctx context.Context, open bool) iter.Seq2[Entry, error]
	// Prune forgets entries that are done and were last updated before the given time, and says how many.
	Prune(ctx context.Context, before time.Time) (int, error)
	// Close frees what the record holds.
	Close() error
}
