package broker

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// maxCatchUp bounds the epochs that a state may be behind: a century of hours.
const maxCatchUp = 1 << 20

// maxPolicies bounds the policy hashes kept in the state.
const maxPolicies = 64

// state is what the brokers of a group share. It leaves a broker sealed: into the store, or to another broker.
type state struct {
	_ struct{} `cbor:",toarray"`
	// Version is 1.
	Version uint8
	// Identity is the seed of what has no epoch: the signing key and the weights key.
	Identity [32]byte
	// Epoch is the oldest live epoch and Secret its secret; later ones follow from it, earlier ones do not.
	Epoch  uint64
	Secret [32]byte
	// Length and Window are the epochs' length and decrypt window in seconds.
	Length, Window uint32
	// Policies are the hashes of policies that were in force, newest last.
	Policies []schemas.Hash
	// Floor is the highest version of theirs: no broker of the group obeys an older policy again, whatever it is shown
	// when it starts.
	Floor uint64
}

// check refuses states that no broker makes.
func (s *state) check() error {
	length, window := time.Duration(s.Length)*time.Second, time.Duration(s.Window)*time.Second
	if s.Version != 1 || length < time.Minute || length > schemas.MaxEpochLength || window < time.Minute ||
		window > schemas.MaxDecryptWindow || len(s.Policies) > maxPolicies {
		return &schemas.Error{Kind: schemas.KindCorrupt, Field: "state", Message: "is not the state of a broker group"}
	}
	return nil
}

// parseState reads an opened state.
func parseState(b []byte) (*state, error) {
	var s state
	if err := schemas.DecodeCBOR(b, &s, maxState); err != nil {
		return nil, &schemas.Error{Kind: schemas.KindCorrupt, Field: "state", Message: "is damaged", Err: err}
	}
	return &s, s.check()
}

// maxState bounds an encoded state.
const maxState = 64 << 10

// derive makes one secret from another.
func derive(secret []byte, label string, fields ...[]byte) (out [32]byte) {
	b, err := hkdf.Expand(sha256.New, secret, string(schemas.AppendFields(nil, label, fields...)), len(out))
	if err != nil {
		panic("broker: HKDF refuses only outputs above 8,160 bytes: " + err.Error())
	}
	return [32]byte(b)
}

// group is the state and the keys that follow from it.
type group struct {
	cfg     *Config
	sign    ed25519.PrivateKey
	keyID   schemas.KeyID
	weights hpke.PrivateKey

	mu    sync.Mutex // guards the fields below
	state *state
	// keys are the derived epoch keys by id; epochs whose keys were derived for a model are in derived.
	keys    map[schemas.KeyID]*epochKey
	derived map[modelEpoch]schemas.KeyID
}

// modelEpoch names one epoch key.
type modelEpoch struct {
	model schemas.ModelID
	epoch uint64
}

// epochKey is the key of one model in one epoch.
type epochKey struct {
	modelEpoch
	id     schemas.KeyID
	unwrap *enclave.Unwrapper
}

// newGroup derives what has no epoch.
func newGroup(cfg *Config, s *state) (*group, error) {
	seed := derive(s.Identity[:], "cocoon/broker-sign/v1")
	ikm := derive(s.Identity[:], "cocoon/broker-weights/v1")
	weights, err := hpke.MLKEM768X25519().DeriveKeyPair(ikm[:])
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "derive the weights key: %w", err)
	}
	sign := ed25519.NewKeyFromSeed(seed[:])
	return &group{
		cfg: cfg, sign: sign, keyID: schemas.KeyIDOf(sign.Public().(ed25519.PublicKey)), weights: weights, state: s,
		keys: map[schemas.KeyID]*epochKey{}, derived: map[modelEpoch]schemas.KeyID{},
	}, nil
}

// obtain gets the group's state: from the store, from another broker, or by founding a group.
func (b *Broker) obtain(ctx context.Context) (*group, error) {
	s, err := b.load(ctx)
	if err != nil {
		return nil, err
	}
	if s == nil && b.cfg.Join != nil {
		if s, err = b.ask(ctx, b.cfg.Join); err != nil && !(b.cfg.Found && errors.Is(err, schemas.KindUnavailable)) {
			return nil, err
		}
	}
	if s == nil {
		if !b.cfg.Found {
			return nil, &schemas.Error{Kind: schemas.KindNotFound, Field: "state", Message: "there is no stored state and no other broker; founding a group must be asked for"}
		}
		s = b.found()
		b.cfg.Log.Info("broker group founded", "epoch", s.Epoch)
	}
	g, err := newGroup(&b.cfg, s)
	if err != nil {
		return nil, err
	}
	b.cfg.Policies.Raise(s.Floor)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(time.Now())
	return g, g.save(ctx)
}

// found makes the state of a new group.
func (b *Broker) found() *state {
	s := &state{Version: 1, Length: uint32(b.cfg.EpochLength / time.Second), Window: uint32(b.cfg.DecryptWindow / time.Second)}
	s.Epoch = s.epochAt(time.Now())
	rand.Read(s.Identity[:])
	rand.Read(s.Secret[:])
	return s
}

// load reads the stored state; nil when there is none.
func (b *Broker) load(ctx context.Context) (*state, error) {
	if b.cfg.Store == nil {
		return nil, nil
	}
	sealed, err := b.cfg.Store.Load(ctx)
	if errors.Is(err, schemas.KindNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	plain, err := b.cfg.Sealer.Unseal(sealed)
	if err != nil {
		return nil, err
	}
	return parseState(plain)
}

// save stores the state. The caller holds mu. Commit point: once it returns, a broker that starts again has this state
// and cannot derive any epoch before it.
func (g *group) save(ctx context.Context) error {
	if g.cfg.Store == nil {
		return nil
	}
	sealed, err := g.cfg.Sealer.Seal(schemas.EncodeCBOR(g.state))
	if err != nil {
		return err
	}
	return g.cfg.Store.Save(ctx, sealed)
}

// epochAt is the epoch in which keys are sealed to at a time. All groups count from 1970.
func (s *state) epochAt(t time.Time) uint64 { return uint64(t.Unix()) / uint64(s.Length) }

// oldestAt is the oldest epoch that still opens at a time.
func (s *state) oldestAt(t time.Time) uint64 {
	return s.epochAt(t.Add(-time.Duration(s.Window) * time.Second))
}

// span is when an epoch is sealed to and opened.
func (s *state) span(epoch uint64) (from, until, open time.Time) {
	from = time.Unix(int64(epoch*uint64(s.Length)), 0).UTC()
	until = from.Add(time.Duration(s.Length) * time.Second)
	return from, until, until.Add(time.Duration(s.Window) * time.Second)
}

// ratchet is the secret of the epoch after.
func ratchet(secret [32]byte) [32]byte { return derive(secret[:], "cocoon/ratchet/v1") }

// secretOf derives the secret of a live epoch; ok is false for one that is over or too far ahead. The caller holds mu.
func (g *group) secretOf(epoch uint64) (secret [32]byte, ok bool) {
	if epoch < g.state.Epoch || epoch-g.state.Epoch > maxCatchUp {
		return secret, false
	}
	secret = g.state.Secret
	for e := g.state.Epoch; e < epoch; e++ {
		secret = ratchet(secret)
	}
	return derive(secret[:], "cocoon/epoch/v1"), true
}

// sharedSecret derives a secret that all brokers have in an epoch, for tickets, challenges and gossip.
func (g *group) sharedSecret(epoch uint64, label string) ([32]byte, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	secret, ok := g.secretOf(epoch)
	return derive(secret[:], label), ok
}

// forget ratchets past the epochs that are over and wipes what was derived from them. The caller holds mu. It reports
// whether anything changed.
func (g *group) forget(now time.Time) bool {
	oldest := g.state.oldestAt(now)
	if oldest <= g.state.Epoch || oldest-g.state.Epoch > maxCatchUp {
		return false
	}
	for g.state.Epoch < oldest {
		g.state.Secret = ratchet(g.state.Secret)
		g.state.Epoch++
	}
	for me, id := range g.derived {
		if me.epoch < oldest {
			g.keys[id].unwrap.Wipe()
			delete(g.keys, id)
			delete(g.derived, me)
		}
	}
	return true
}

// advance forgets and saves.
func (g *group) advance(ctx context.Context, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.forget(now) {
		return nil
	}
	return g.save(ctx)
}

// remember adds a policy to those that were in force, and saves when it is new.
func (g *group) remember(ctx context.Context, policy schemas.Hash, version uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if slices.Contains(g.state.Policies, policy) {
		return nil
	}
	g.state.Floor = max(g.state.Floor, version)
	g.state.Policies = append(g.state.Policies, policy)
	if over := len(g.state.Policies) - maxPolicies; over > 0 {
		g.state.Policies = g.state.Policies[over:]
	}
	return g.save(ctx)
}

// obeyed reports whether a policy was in force.
func (g *group) obeyed(policy schemas.Hash) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Contains(g.state.Policies, policy)
}

// key derives the key of a model in an epoch. The caller holds mu.
func (g *group) key(model schemas.ModelID, epoch uint64) (*epochKey, error) {
	me := modelEpoch{model, epoch}
	if id, ok := g.derived[me]; ok {
		return g.keys[id], nil
	}
	secret, ok := g.secretOf(epoch)
	if !ok {
		return nil, &schemas.Error{Kind: schemas.KindKeyLost, Field: "ce-cocoonkid", Message: "the key's epoch is over; seal again to the current key"}
	}
	ikm := derive(secret[:], "cocoon/epoch-key/v1", []byte(model))
	private, err := hpke.MLKEM768X25519().DeriveKeyPair(ikm[:])
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "derive an epoch key: %w", err)
	}
	k := &epochKey{me, schemas.KeyIDOf(private.PublicKey().Bytes()), enclave.NewUnwrapper(private, g.cfg.CachedSubmissions)}
	g.keys[k.id], g.derived[me] = k, k.id
	return k, nil
}

// active is a model's key of the epoch at a time, and when it is sealed to and opened.
func (g *group) active(model schemas.ModelID, now time.Time) (k *epochKey, from, until, open time.Time, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	k, err = g.key(model, g.state.epochAt(now))
	if err != nil {
		return nil, from, until, open, err
	}
	from, until, open = g.state.span(k.epoch)
	return k, from, until, open, nil
}

// find returns the live key of a model with the given id. Epochs after the present one are live too: another broker's
// clock may be ahead by a moment.
func (g *group) find(model schemas.ModelID, id schemas.KeyID, now time.Time) (*epochKey, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	oldest := max(g.state.oldestAt(now), g.state.Epoch)
	for epoch := g.state.epochAt(now.Add(time.Minute)); ; epoch-- {
		if k := g.keys[id]; k != nil && k.model == model && k.epoch >= oldest {
			return k, nil
		}
		if epoch < oldest {
			break
		}
		if _, err := g.key(model, epoch); err != nil {
			return nil, err
		}
	}
	return nil, &schemas.Error{Kind: schemas.KindKeyLost, Field: "ce-cocoonkid", Message: "is no key of this broker group; seal again to the current key"}
}
