package producers

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Limits of what a client believes.
const (
	// documentAge is how long policy and catalogue are believed before the network is asked for newer ones.
	documentAge = time.Minute
	// maxVersions bounds the old catalogues that are kept to price outcomes, maxBrokers the brokers whose keys are.
	maxVersions = 16
	maxBrokers  = 256
	// retryPause is the pause before a key is fetched again from a broker that is behind the policy.
	retryPause = 250 * time.Millisecond
)

// believer holds what this client has verified: policy, catalogue, keys. It is the trust step of every submission.
type believer struct {
	bus      *streams.Bus
	trust    schemas.Trust
	keeper   *attest.Keeper // nil when the caller brought a verifier with a policy of its own
	verifier enclave.Verifier
	log      *slog.Logger

	// turn lets one goroutine at a time talk to the network; the others wait for what it finds.
	turn chan struct{}

	mu        sync.Mutex // guards the fields below
	looked    time.Time
	catalogue *schemas.Catalogue
	digest    schemas.Hash // of the catalogue's signed bytes
	versions  map[uint64]*schemas.Catalogue
	keys      map[schemas.ModelID]*enclave.TrustedKey
	brokers   map[schemas.KeyID]ed25519.PublicKey
}

// newBeliever believes in nothing yet but the root keys.
func newBeliever(bus *streams.Bus, o Options, log *slog.Logger) (*believer, error) {
	b := &believer{
		bus: bus, trust: o.Trust, verifier: o.Verifier, log: log, turn: make(chan struct{}, 1),
		versions: map[uint64]*schemas.Catalogue{}, keys: map[schemas.ModelID]*enclave.TrustedKey{},
		brokers: map[schemas.KeyID]ed25519.PublicKey{},
	}
	if b.verifier != nil {
		return b, nil
	}
	var memory attest.KeeperOptions
	var err error
	if o.FloorFile != "" {
		if memory.Floor, memory.Remember, err = attest.OpenFloor(o.FloorFile); err != nil {
			return nil, err
		}
	}
	if b.keeper, err = attest.NewKeeper(o.Trust, memory); err != nil {
		return nil, err
	}
	collateral := o.Collateral
	if collateral == nil {
		collateral = tdx.NewCollateral(tdx.CollateralOptions{Store: collateralStore{bus.Bucket(streams.BucketCollateral)}, Log: log})
	}
	b.verifier, err = attest.NewVerifier(attest.Options{Policy: b.keeper, Collateral: collateral})
	return b, err
}

// collateralStore reads Intel's documents from the network. They are signed: the network is trusted for nothing.
type collateralStore struct{ bucket *streams.Bucket }

var _ tdx.Store = collateralStore{}

// Load implements [tdx.Store].
func (s collateralStore) Load(ctx context.Context, name string) (d tdx.Document, err error) {
	entry, err := s.bucket.Get(ctx, name)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(entry.Value, &d); err != nil {
		return d, &schemas.Error{Kind: schemas.KindInvalid, Field: name, Message: "is not a document", Err: err}
	}
	return d, nil
}

// Save implements [tdx.Store]. A producer never fetches collateral itself, so it has none to share.
func (collateralStore) Save(context.Context, string, tdx.Document) error { return nil }

// take waits for the turn to talk to the network.
func (b *believer) take(ctx context.Context) error {
	select {
	case b.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

// ended turns the end of a context into an error with a kind: a deadline is KindUnavailable, because the same call may
// be made again.
func ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if schemas.KindOf(cause) != schemas.KindUnknown {
		return cause
	}
	if ctx.Err() == context.DeadlineExceeded {
		return &schemas.Error{Kind: schemas.KindUnavailable, Message: "there was no answer in time", Err: cause}
	}
	return cause
}

// prices returns the catalogue in force.
func (b *believer) prices(ctx context.Context) (*schemas.Catalogue, error) {
	if c := b.recent(); c != nil {
		return c, nil
	}
	if err := b.take(ctx); err != nil {
		return nil, err
	}
	defer func() { <-b.turn }()
	if c := b.recent(); c != nil { // somebody else just looked
		return c, nil
	}
	return b.look(ctx)
}

// recent is the catalogue, nil when it is time to look again.
func (b *believer) recent() *schemas.Catalogue {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.catalogue == nil || time.Since(b.looked) > documentAge || b.catalogue.Head().Live(time.Now()) != nil {
		return nil
	}
	return b.catalogue
}

// look fetches and verifies policy and catalogue. A network that cannot be reached leaves in force what is. The caller
// has the turn.
func (b *believer) look(ctx context.Context) (*schemas.Catalogue, error) {
	err := b.lookPolicy(ctx)
	var fresh *schemas.Catalogue
	if err == nil {
		fresh, err = b.lookCatalogue(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.looked = time.Now()
		b.keepVersion(fresh)
		b.catalogue = fresh
		return fresh, nil
	}
	if schemas.Retriable(err) && b.catalogue != nil && b.catalogue.Head().Live(time.Now()) == nil {
		b.log.Warn("signed documents not refreshed", "error", err)
		b.looked = time.Now()
		return b.catalogue, nil
	}
	return nil, err
}

// lookPolicy offers the published policy to the keeper.
func (b *believer) lookPolicy(ctx context.Context) error {
	if b.keeper == nil {
		return nil
	}
	entry, err := b.bus.Bucket(streams.BucketPolicy).Get(ctx, currentKey)
	if err != nil {
		return absent(err, "the network has not published a policy")
	}
	_, err = b.keeper.Offer(entry.Value)
	return err
}

// currentKey is the key of the document in force in its bucket.
const currentKey = "current"

// absent turns KindNotFound into what it means for a caller: a network that is not ready.
func absent(err error, message string) error {
	if schemas.KindOf(err) != schemas.KindNotFound {
		return err
	}
	return &schemas.Error{Kind: schemas.KindUnavailable, Message: message, Err: err}
}

// lookCatalogue fetches and verifies the published catalogue.
func (b *believer) lookCatalogue(ctx context.Context) (*schemas.Catalogue, error) {
	entry, err := b.bus.Bucket(streams.BucketCatalogue).Get(ctx, currentKey)
	if err != nil {
		return nil, absent(err, "the network has not published a catalogue")
	}
	b.mu.Lock()
	have, digest := b.catalogue, b.digest
	b.mu.Unlock()
	now, floor := schemas.HashOf(entry.Value), uint64(0)
	if have != nil {
		if floor = have.Version; now == digest {
			return have, have.Head().Live(time.Now())
		}
	}
	c, _, err := schemas.VerifyDocument[schemas.Catalogue](entry.Value, b.trust, floor, time.Now())
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.digest = now
	b.mu.Unlock()
	return c, nil
}

// keepVersion remembers a catalogue to price outcomes with. The caller holds mu.
func (b *believer) keepVersion(c *schemas.Catalogue) {
	if len(b.versions) >= maxVersions {
		oldest := c.Version
		for v := range b.versions {
			oldest = min(oldest, v)
		}
		delete(b.versions, oldest)
	}
	b.versions[c.Version] = c
}

// version returns the catalogue that a grant names. An old one may have expired: its prices hold for what was granted
// under it.
func (b *believer) version(ctx context.Context, v uint64) (*schemas.Catalogue, error) {
	b.mu.Lock()
	c := b.versions[v]
	b.mu.Unlock()
	if c != nil {
		return c, nil
	}
	entry, err := b.bus.Bucket(streams.BucketCatalogue).Get(ctx, "v"+strconv.FormatUint(v, 10))
	if err != nil {
		return nil, fmt.Errorf("catalogue version %d: %w", v, err)
	}
	if c, err = verifyPast(entry.Value, b.trust); err != nil {
		return nil, err
	}
	if c.Version != v {
		return nil, &schemas.Error{Kind: schemas.KindPolicy, Field: "version", Message: fmt.Sprintf("catalogue %d is stored as version %d", c.Version, v)}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keepVersion(c)
	return c, nil
}

// verifyPast verifies a catalogue as of the time when it was in force.
func verifyPast(signed []byte, trust schemas.Trust) (*schemas.Catalogue, error) {
	s, err := schemas.ParseSigned(signed)
	if err != nil {
		return nil, err
	}
	unverified, err := schemas.ParseCatalogue(s.Payload)
	if err != nil {
		return nil, err
	}
	c, _, err := schemas.VerifyDocument[schemas.Catalogue](signed, trust, 0, unverified.Issued)
	return c, err
}

// key returns the verified key that jobs of a model are sealed to.
func (b *believer) key(ctx context.Context, m *schemas.Model) (*enclave.TrustedKey, error) {
	if k := b.goodKey(m.ID); k != nil {
		return k, nil
	}
	if err := b.take(ctx); err != nil {
		return nil, err
	}
	defer func() { <-b.turn }()
	for {
		if k := b.goodKey(m.ID); k != nil {
			return k, nil
		}
		err := b.fetchKey(ctx, m)
		switch {
		case err == nil:
			continue
		case !schemas.Retriable(err):
			return nil, err
		}
		// A broker that takes up a new policy or epoch is behind for a moment.
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// goodKey is the key of a model, nil when it must be verified (again).
func (b *believer) goodKey(id schemas.ModelID) *enclave.TrustedKey {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.keys[id]
	if k == nil || !time.Now().Before(k.GoodUntil()) {
		return nil
	}
	if b.keeper == nil {
		return k
	}
	if p, err := b.keeper.Current(); err != nil || p.Hash != k.Admission().PolicyHash {
		return nil
	}
	return k
}

// forget drops the key of a model: a broker has lost it.
func (b *believer) forget(id schemas.ModelID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.keys, id)
}

// fetchKey fetches and verifies the published key of a model. The caller has the turn.
func (b *believer) fetchKey(ctx context.Context, m *schemas.Model) error {
	entry, err := b.bus.Bucket(streams.BucketKeys).Get(ctx, m.Slug)
	if err != nil {
		return absent(err, "no broker has published a key for "+string(m.ID))
	}
	k, err := enclave.VerifyKey(ctx, b.verifier, m.ID, entry.Value)
	if err != nil {
		if schemas.KindOf(err) == schemas.KindKeyLost { // the next epoch is about to be published
			return &schemas.Error{Kind: schemas.KindUnavailable, Field: "key", Message: "the published key's epoch is over", Err: err}
		}
		return err
	}
	if k.Admission().Environment != b.trust.Environment {
		return &schemas.Error{Kind: schemas.KindPolicy, Field: "environment", Message: "the broker runs in another environment than the one trusted"}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys[m.ID] = k
	if len(b.brokers) >= maxBrokers {
		clear(b.brokers)
	}
	b.brokers[schemas.KeyIDOf(k.Broker())] = k.Broker()
	return nil
}

// broker returns the attested key behind a key id, nil when no broker with it has attested itself to this client. Each
// broker of a group signs with a key of its own: one that is not known yet is looked for behind the model's current key.
func (b *believer) broker(ctx context.Context, m *schemas.Model, id schemas.KeyID) ed25519.PublicKey {
	if key := b.known(id); key != nil {
		return key
	}
	if err := b.refetch(ctx, m); err != nil {
		b.log.Warn("no attested key of the broker that signed a grant", "broker", id, "error", err)
	}
	return b.known(id)
}

// known returns a broker's key that was verified before.
func (b *believer) known(id schemas.KeyID) ed25519.PublicKey {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.brokers[id]
}

// refetch verifies a model's published key although the known one is good.
func (b *believer) refetch(ctx context.Context, m *schemas.Model) error {
	if err := b.take(ctx); err != nil {
		return err
	}
	defer func() { <-b.turn }()
	return b.fetchKey(ctx, m)
}
