package broker_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/weights"
	"github.com/cocoon-network/cocoon/schemas"
)

// keptStore is a store in memory that can fail: before it saves, or after.
type keptStore struct {
	mu          sync.Mutex
	sealed      []byte
	lose, doubt bool
	saved       int
}

// Load implements broker.Store.
func (s *keptStore) Load(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed == nil {
		return nil, &schemas.Error{Kind: schemas.KindNotFound}
	}
	return append([]byte(nil), s.sealed...), nil
}

// Save implements broker.Store.
func (s *keptStore) Save(_ context.Context, sealed []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lose {
		return &schemas.Error{Kind: schemas.KindUnavailable, Message: "lost"}
	}
	s.sealed, s.saved = append([]byte(nil), sealed...), s.saved+1
	if s.doubt {
		return &schemas.Error{Kind: schemas.KindUnavailable, Message: "done, but nobody was told"}
	}
	return nil
}

// sealer is a development sealer.
func sealer(t testing.TB) broker.Sealer {
	t.Helper()
	s, err := broker.NewFileSealer(filepath.Join(t.TempDir(), "seal.key"))
	noError(t, err)
	return s
}

// short is a group with epochs of ten minutes that open for twenty more.
func short(store broker.Store, seal broker.Sealer) func(*broker.Config) {
	return func(c *broker.Config) {
		c.EpochLength, c.DecryptWindow, c.Store, c.Sealer = 10*time.Minute, 20*time.Minute, store, seal
	}
}

// published collects what a broker publishes.
type published struct {
	mu   sync.Mutex
	keys map[string][]byte
}

// PublishKey implements broker.Publisher.
func (p *published) PublishKey(_ context.Context, name string, value []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys == nil {
		p.keys = map[string][]byte{}
	}
	p.keys[name] = value
	return nil
}

// get returns what was published last.
func (p *published) get(name string) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[name]
}

// TestEpochs: keys change with the epoch, the old one opens for the window, and then nobody can open with it any more.
func TestEpochs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, seal := &keptStore{}, sealer(t)
		b := setup(t, short(store, seal))
		ctx, stop := context.WithCancel(t.Context())
		keys := &published{}
		ended := make(chan error, 1)
		go func() { ended <- b.Broker.Run(ctx, keys) }()
		slug := enclavetest.NewCatalogue().Models[0].Slug
		time.Sleep(time.Second)
		first := keys.get(slug)
		old := enclavetest.Candidate(b.Seal(t, b.submission, "old"))
		older := enclavetest.Candidate(b.Seal(t, b.submission, "older"))
		before, err := store.Load(t.Context())
		noError(t, err)

		time.Sleep(11 * time.Minute)
		if second := keys.get(slug); second == nil || bytes.Equal(first, second) {
			t.Error("the next epoch's key was not published")
		}
		if _, err := enclave.VerifyKey(t.Context(), b, enclavetest.Model, first); !errors.Is(err, schemas.KindKeyLost) {
			t.Errorf("the old key still verifies: %v", err)
		}
		_, err = b.submission.Seal(schemas.Attributes{Budget: 1}, schemas.Request{URL: "/v1/completions"}, b.Limit())
		wantKind(t, err, schemas.KindKeyLost)
		_, err = b.try(t, b.worker, b.Call, old)
		noError(t, err)

		time.Sleep(21 * time.Minute)
		_, err = b.try(t, b.worker, b.Call, older)
		if !errors.Is(err, schemas.KindKeyLost) && !errors.Is(err, schemas.KindExpired) {
			t.Errorf("an erased key opened: %v", err)
		}
		stop()
		noError(t, <-ended)
		after, err := store.Load(t.Context())
		noError(t, err)
		if bytes.Equal(before, after) {
			t.Error("the state did not move on")
		}
		// A broker that starts from the newer state cannot open the older job either: the ratchet goes one way.
		again := b.NewBroker(t, short(store, seal))
		if !again.Public().Equal(b.Broker.Public()) {
			t.Error("the broker came back as another group")
		}
	})
}

// TestRestartKeepsQueuedJobs: a broker that starts again opens what was sealed before.
func TestRestartKeepsQueuedJobs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keep := func(c *broker.Config) {
		s, err := broker.NewFileSealer(filepath.Join(dir, "seal.key"))
		noError(t, err)
		c.Store, c.Sealer = broker.NewFileStore(filepath.Join(dir, "state")), s
	}
	b := setup(t, keep)
	job := enclavetest.Candidate(b.Seal(t, b.submission, "x"))
	b.Broker = b.NewBroker(t, keep)
	_, err := b.try(t, b.worker, b.Call, job)
	noError(t, err)

	// The file at rest shows nothing and must be whole.
	path := filepath.Join(dir, "state")
	sealed, err := os.ReadFile(path)
	noError(t, err)
	sealed[len(sealed)-1] ^= 1
	noError(t, os.WriteFile(path, sealed, 0o600))
	_, err = broker.New(t.Context(), b.Config(t, keep))
	wantKind(t, err, schemas.KindCorrupt)
	noError(t, os.Remove(path))
	_, err = broker.New(t.Context(), b.Config(t, keep))
	wantKind(t, err, schemas.KindNotFound) // it does not found a group unasked
}

// TestStoreFaults: a state that may not be saved is not used, and what was saved although the broker was told otherwise
// does no harm.
func TestStoreFaults(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	for name, fault := range map[string]func(*keptStore){
		"lost": func(s *keptStore) { s.lose = true }, "done but error": func(s *keptStore) { s.doubt = true },
	} {
		store, seal := &keptStore{}, sealer(t)
		fault(store)
		with := func(c *broker.Config) { c.Found, c.Store, c.Sealer = true, store, seal }
		if _, err := broker.New(t.Context(), n.Config(t, with)); !errors.Is(err, schemas.KindUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		*store = keptStore{sealed: store.sealed}
		first := n.NewBroker(t, with)
		second := n.NewBroker(t, with)
		if !first.Public().Equal(second.Public()) {
			t.Errorf("%s: the state was not taken up again", name)
		}
	}
}

// TestRunEndsWhenStateCannotBeSaved: epochs are not forgotten in memory only.
func TestRunEndsWhenStateCannotBeSaved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, seal := &keptStore{}, sealer(t)
		b := setup(t, short(store, seal))
		store.mu.Lock()
		store.lose = true
		store.mu.Unlock()
		ended := make(chan error, 1)
		go func() { ended <- b.Broker.Run(t.Context(), &published{}) }()
		time.Sleep(31 * time.Minute)
		wantKind(t, <-ended, schemas.KindUnavailable)
	})
}

// joined makes a second broker that gets its state from the first.
func (b *bundle) joined(t testing.TB, call enclave.Call, adjust ...func(*broker.Config)) (*broker.Broker, error) {
	t.Helper()
	return broker.New(t.Context(), b.Config(t, append([]func(*broker.Config){func(c *broker.Config) { c.Join = call }}, adjust...)...))
}

// TestJoin: two brokers answer as one.
func TestJoin(t *testing.T) {
	t.Parallel()
	b := setup(t)
	second, err := b.joined(t, b.Call)
	noError(t, err)
	if !second.Public().Equal(b.Broker.Public()) {
		t.Fatal("the brokers are not one group")
	}
	// A session begun with one goes on with the other, and so does a lease.
	open, err := b.try(t, b.worker, second.Handle, enclavetest.Candidate(b.Seal(t, b.submission, "x")))
	noError(t, err)
	errs, err := b.worker.Renew(t.Context(), b.Call, []*enclave.OpenJob{open})
	noError(t, err)
	noError(t, errs[0])
}

// TestJoinRefusals: the group's secrets go to its own kind only, and come from its own kind only.
func TestJoinRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	boot := func(image, name string, gpus int) func(*broker.Config) {
		return func(c *broker.Config) {
			c.Attester = b.World.Boot(t, sim.MachineSpec{Name: name, Image: image, GPUs: gpus, PolicyRoot: b.World.Trust.Roots.Hash()})
		}
	}
	_, err := b.joined(t, b.Call, boot("stranger", "x", 0))
	wantKind(t, err, schemas.KindPolicy)
	_, err = b.joined(t, b.Call, boot(attesttest.WorkerImage, "x", 1)) // its claims say broker, its image does not
	if schemas.KindOf(err) != schemas.KindPolicy && schemas.KindOf(err) != schemas.KindAttestation {
		t.Errorf("a worker image joined: %v", err)
	}
	// Another configuration of the same image, although the policy admits both.
	policy := b.World.Policy()
	policy.Version++
	for i := range policy.Measurements {
		if policy.Measurements[i].Role == schemas.RoleBroker {
			policy.Measurements[i].Configs = append(policy.Measurements[i].Configs, schemas.HashOf([]byte("other")))
		}
	}
	_, err = b.World.Keeper.Offer(b.World.Sign(t, policy))
	noError(t, err)
	_, err = b.joined(t, b.Call, func(c *broker.Config) {
		c.Attester = b.World.Boot(t, sim.MachineSpec{
			Name: "x", Image: attesttest.BrokerImage, Config: schemas.HashOf([]byte("other")), PolicyRoot: b.World.Trust.Roots.Hash(),
		})
	})
	wantKind(t, err, schemas.KindPolicy)

	// Replies that were changed, or made for another request.
	var replay []byte
	_, err = b.joined(t, func(ctx context.Context, verb enclave.Verb, r []byte) ([]byte, error) {
		reply, err := b.Call(ctx, verb, r)
		if verb == enclave.VerbJoin {
			replay = reply
		}
		return reply, err
	})
	noError(t, err)
	for name, forge := range map[string]func([]byte) []byte{
		"replayed": func([]byte) []byte { return replay },
		"changed": func(reply []byte) []byte {
			var r schemas.JoinReply
			noError(t, schemas.ParseCall(reply, &r))
			r.Sealed[20] ^= 1
			return schemas.EncodeCall(&r)
		},
	} {
		_, err := b.joined(t, func(ctx context.Context, verb enclave.Verb, r []byte) ([]byte, error) {
			reply, err := b.Call(ctx, verb, r)
			if verb == enclave.VerbJoin && err == nil {
				reply = forge(reply)
			}
			return reply, err
		})
		if !errors.Is(err, schemas.KindAttestation) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nobody answers: no group is founded unless that was asked for.
	silent := func(context.Context, enclave.Verb, []byte) ([]byte, error) {
		return nil, &schemas.Error{Kind: schemas.KindUnavailable}
	}
	_, err = b.joined(t, silent)
	wantKind(t, err, schemas.KindUnavailable)
	_, err = b.joined(t, silent, func(c *broker.Config) { c.Found = true })
	noError(t, err)
}

// TestGossip: a job that one broker granted is leased at the other, and nobody else can say so.
func TestGossip(t *testing.T) {
	t.Parallel()
	var second *broker.Broker
	var heard []byte
	b := setup(t, func(c *broker.Config) {
		c.Gossip = func(_ context.Context, message []byte) {
			heard = message
			noError(t, second.Hear(message))
		}
	})
	var err error
	second, err = b.joined(t, b.Call)
	noError(t, err)
	job := enclavetest.Candidate(b.Seal(t, b.submission, "x"))
	_, err = b.try(t, b.worker, b.Call, job)
	noError(t, err)
	other := b.Session(t)
	_, err = b.try(t, other, second.Handle, job)
	wantKind(t, err, schemas.KindLeased)
	noError(t, second.Hear(heard)) // old news
	heard[len(heard)-1] ^= 1
	wantKind(t, second.Hear(heard), schemas.KindSealed)
	wantKind(t, second.Hear(nil), schemas.KindSealed)
	stranger := b.NewBroker(t, func(c *broker.Config) { c.Found = true })
	heard[len(heard)-1] ^= 1
	wantKind(t, stranger.Hear(heard), schemas.KindSealed)
}

// TestRelease: weights open for workers that are admitted for the model.
func TestRelease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	value, err := b.Broker.WeightsKey(t.Context())
	noError(t, err)
	key, err := enclave.VerifyWeightsKey(t.Context(), b, value)
	noError(t, err)
	secret := [32]byte{7}
	enc, wrapped, err := enclave.WrapWeightKey(key.PublicKey, enclavetest.Model, secret)
	noError(t, err)
	got, err := b.worker.WeightKey(t.Context(), b.Call, enclavetest.Model, enc, wrapped)
	noError(t, err)
	if got != secret {
		t.Error("another key came back")
	}
	_, err = b.worker.WeightKey(t.Context(), b.Call, attesttest.OtherModel, enc, wrapped)
	wantKind(t, err, schemas.KindDenied)
	enc2, wrapped2, err := enclave.WrapWeightKey(key.PublicKey, attesttest.OtherModel, secret)
	noError(t, err)
	_, err = b.worker.WeightKey(t.Context(), b.Call, enclavetest.Model, enc2, wrapped2) // another model's key under this name
	wantKind(t, err, schemas.KindSealed)

	// The whole way: an owner seals, an admitted worker opens, and the root is verified.
	files := fstest.MapFS{"model.gguf": {Data: []byte("weights")}}
	var out bytes.Buffer
	sealed, err := weights.Seal(t.Context(), &out, files, "mine", "1", key)
	noError(t, err)
	policy := b.World.Policy()
	policy.Version++
	policy.Models = []schemas.ModelID{sealed.Model, enclavetest.Model}
	_, err = b.World.Keeper.Offer(b.World.Sign(t, policy))
	noError(t, err)
	worker := b.Session(t, func(c *enclave.SessionConfig) { c.Models = []schemas.ModelID{sealed.Model} })
	p, err := weights.Read(&out)
	noError(t, err)
	enc, wrapped = p.Wrapped()
	released, err := worker.WeightKey(t.Context(), b.Call, p.Model(), enc, wrapped)
	noError(t, err)
	dir := t.TempDir()
	_, err = p.Extract(t.Context(), released, dir)
	noError(t, err)
	content, err := os.ReadFile(filepath.Join(dir, "model.gguf"))
	noError(t, err)
	if string(content) != "weights" {
		t.Errorf("%q", content)
	}
}

// production is a policy of real hardware.
type production struct{ broker.Policies }

// Current implements broker.Policies.
func (production) Current() (*attest.InForce, error) {
	return &attest.InForce{Policy: &schemas.Policy{Environment: schemas.Production}}, nil
}

// TestDevelopmentSealer: a key beside the state is for simulated networks.
func TestDevelopmentSealer(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	seal := sealer(t)
	_, err := broker.New(t.Context(), n.Config(t, func(c *broker.Config) {
		c.Found, c.Store, c.Sealer, c.Policies = true, &keptStore{}, seal, production{c.Policies}
	}))
	wantKind(t, err, schemas.KindPolicy)
}
