package attest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// InForce is a policy whose signatures, version and environment have been verified.
type InForce struct {
	*schemas.Policy
	// Hash is the identity of the policy; jobs name it in ce-cocoonpolicy.
	Hash schemas.Hash
	// Roots is the hash of the root keys that signed it; enclaves measure it.
	Roots schemas.Hash
}

// PolicySource gives the policy in force. [Keeper] is the one that processes use.
type PolicySource interface {
	// Current returns the newest verified policy. It fails with KindUnavailable when there is none yet and with
	// KindPolicy when it has expired.
	Current() (*InForce, error)
	// Changed returns a channel that is closed when the current policy is replaced.
	Changed() <-chan struct{}
}

// keptPolicies bounds the versions whose hashes a Keeper remembers.
const keptPolicies = 64

// Keeper accepts signed policies and holds the newest. It is safe for concurrent use.
type Keeper struct {
	trust    schemas.Trust
	now      func() time.Time
	remember func(version uint64) error

	mu      sync.Mutex
	current *InForce
	changed chan struct{}
	floor   uint64
	// history holds the hashes of the accepted versions, oldest first.
	history []version
}

// version is one accepted policy.
type version struct {
	number uint64
	hash   schemas.Hash
}

// KeeperOptions configure a Keeper.
type KeeperOptions struct {
	// Floor is the version below which nothing is accepted: the highest this process has seen in an earlier life. 0: any.
	// What the trust says counts if it is higher.
	Floor uint64
	// Remember, if set, is called with the version of every newer policy before that comes into force; after an error it does
	// not. [OpenFloor] gives one that writes a file.
	Remember func(version uint64) error
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// NewKeeper returns a keeper that believes in the given root keys and one environment.
func NewKeeper(trust schemas.Trust, o KeeperOptions) (*Keeper, error) {
	if err := trust.Check(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Keeper{
		trust: trust, now: o.Now, floor: max(o.Floor, trust.PolicyFloor), remember: o.Remember, changed: make(chan struct{}),
	}, nil
}

// Trust returns what the keeper believes in.
func (k *Keeper) Trust() schemas.Trust { return k.trust }

// Offer verifies a signed policy and takes it when it is newer than the current one. Offering the current one again
// changes nothing; an older one, or another one with the same version, is refused with KindPolicy.
func (k *Keeper) Offer(signed []byte) (*InForce, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	policy, hash, err := schemas.VerifyDocument[schemas.Policy](signed, k.trust, k.floor, k.now())
	if err != nil {
		return nil, err
	}
	if err := separate(policy); err != nil {
		return nil, err
	}
	if k.current != nil && k.current.Version == policy.Version {
		if k.current.Hash != hash {
			return nil, refuse("version", "there are two policies with version %d: %s and %s", policy.Version, k.current.Hash, hash)
		}
		return k.current, nil
	}
	if k.remember != nil {
		if err := k.remember(policy.Version); err != nil {
			return nil, err
		}
	}
	k.floor = policy.Version
	k.current = &InForce{Policy: policy, Hash: hash, Roots: k.trust.Roots.Hash()}
	if k.history = append(k.history, version{policy.Version, hash}); len(k.history) > keptPolicies {
		k.history = k.history[1:]
	}
	close(k.changed)
	k.changed = make(chan struct{})
	return k.current, nil
}

// Raise refuses from now on every policy with a lower version. One that is in force and lower is in force no more: somebody
// has replayed it to a process that did not know better.
func (k *Keeper) Raise(floor uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.floor = max(k.floor, floor)
	if k.current != nil && k.current.Version < k.floor {
		k.current = nil
		close(k.changed)
		k.changed = make(chan struct{})
	}
}

// separate keeps the real roots out of simulated policies.
func separate(p *schemas.Policy) error {
	if p.Simulated == nil {
		return nil
	}
	if slices.Contains(p.Simulated.TDX, tdx.IntelRoot) || slices.Contains(p.Simulated.GPU, nvidia.Root) {
		return refuse("simulated", "names a root of real hardware: simulated and real never mix")
	}
	return nil
}

// Current implements [PolicySource].
func (k *Keeper) Current() (*InForce, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == nil {
		return nil, &schemas.Error{Kind: schemas.KindUnavailable, Field: "policy", Message: "none has been received yet"}
	}
	if !k.now().Before(k.current.Expires) {
		return nil, refuse("policy", "expired at %s", k.current.Expires.Format(time.RFC3339))
	}
	return k.current, nil
}

// Changed implements [PolicySource].
func (k *Keeper) Changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changed
}

// Find returns the version of a policy that was accepted here, by hash.
func (k *Keeper) Find(hash schemas.Hash) (uint64, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, v := range k.history {
		if v.hash == hash {
			return v.number, true
		}
	}
	return 0, false
}

// Feed delivers signed documents as they are published, the current one first: a watch on a key-value bucket.
type Feed interface {
	// Watch returns a channel that is closed when ctx ends or the feed is lost.
	Watch(ctx context.Context) (<-chan []byte, error)
}

// Follow offers every document of a feed until ctx ends or the feed is lost. Documents that are refused are logged and
// skipped: the policy in force stays in force.
func (k *Keeper) Follow(ctx context.Context, feed Feed, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	documents, err := feed.Watch(ctx)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case signed, ok := <-documents:
			if !ok {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return &schemas.Error{Kind: schemas.KindUnavailable, Field: "policy", Message: "the feed of policies was lost"}
			}
			if p, err := k.Offer(signed); err != nil {
				log.Warn("policy refused", "error", err)
			} else {
				log.Info("policy in force", "version", p.Version, "environment", p.Environment)
			}
		}
	}
}
