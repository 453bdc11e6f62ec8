package broker

import (
	"context"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// WeightsKeyName is the key of the KEYS bucket under which the weights key is published; no model's slug is it, because
// slugs end in eight hex digits.
const WeightsKeyName = "weights"

// standingEvidence is evidence under no challenge, which goes with published keys and sessions.
type standingEvidence struct {
	mu      sync.Mutex // guards the fields below, and is held while a quote is made: one is enough for all
	encoded []byte
	policy  uint64
	renew   time.Time
	version uint64
}

// evidence returns the broker's standing evidence, made anew at half of its life and under a new policy. version counts
// the renewals.
func (b *Broker) evidence(ctx context.Context) (encoded []byte, version uint64, err error) {
	policy, err := b.cfg.Policies.Current()
	if err != nil {
		return nil, 0, err
	}
	s := &b.standing
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.encoded == nil || !now.Before(s.renew) || s.policy != policy.Version {
		life := min(claimsTerm, time.Duration(policy.EvidenceMinutes)*time.Minute)
		if s.encoded, err = b.quote(ctx, b.Public(), [32]byte{}); err != nil {
			return nil, 0, err
		}
		s.policy, s.renew = policy.Version, now.Add(life/2)
		s.version++
	}
	return s.encoded, s.version, nil
}

// Key is the published form of a model's current key, for the KEYS bucket.
func (b *Broker) Key(ctx context.Context, model schemas.ModelID) ([]byte, error) {
	evidence, _, err := b.evidence(ctx)
	if err != nil {
		return nil, err
	}
	policy, err := b.cfg.Policies.Current()
	if err != nil {
		return nil, err
	}
	catalogue, err := b.cfg.Catalogues.Current()
	if err != nil {
		return nil, err
	}
	key, from, until, open, err := b.group.active(model, time.Now())
	if err != nil {
		return nil, err
	}
	token, err := enclave.SignKeyBundle(b.group.sign, schemas.KeyBundle{
		V: 1, Model: model, Key: key.id, Suite: schemas.Suite, PublicKey: key.unwrap.Public(), Epoch: key.epoch,
		ActiveFrom: from, ActiveUntil: until, DecryptUntil: open, Policy: policy.Hash, PolicyVersion: policy.Version,
		Catalogue: catalogue.Version, Environment: policy.Environment, Broker: b.Public(),
	})
	if err != nil {
		return nil, err
	}
	return schemas.NewPublishedKey(token, evidence).Encode()
}

// EpochEnds is when the keys that jobs are sealed to now are replaced.
func (b *Broker) EpochEnds() time.Time {
	b.group.mu.Lock()
	defer b.group.mu.Unlock()
	_, until, _ := b.group.state.span(b.group.state.epochAt(time.Now()))
	return until
}

// WeightsKey is the published form of the key that model owners seal weights to.
func (b *Broker) WeightsKey(ctx context.Context) ([]byte, error) {
	evidence, _, err := b.evidence(ctx)
	if err != nil {
		return nil, err
	}
	environment, err := b.Environment()
	if err != nil {
		return nil, err
	}
	public := b.group.weights.PublicKey().Bytes()
	token, err := enclave.SignWeightsKey(b.group.sign, schemas.WeightsKey{
		V: 1, Key: schemas.KeyIDOf(public), Suite: schemas.Suite, PublicKey: public, Environment: environment, Broker: b.Public(),
	})
	if err != nil {
		return nil, err
	}
	return schemas.NewPublishedKey(token, evidence).Encode()
}

// Publisher puts published keys where producers find them.
type Publisher interface {
	// PublishKey replaces the value of one name: a model's slug, or WeightsKeyName. It may be called by several brokers
	// with equally good values; the last one stands.
	PublishKey(ctx context.Context, name string, value []byte) error
}

// Timing of Run.
const (
	tickEvery = 5 * time.Second
	// retryPublish is the wait after a failure to publish.
	retryPublish = 2 * time.Second
)

// Run keeps the group's time: it erases epochs that are over, and publishes the keys of all models of the catalogue when
// the epoch, the policy, the catalogue or the broker's evidence has changed. It returns nil when ctx ends. Failures are
// logged and tried again; the only fatal one is a state that cannot be saved.
func (b *Broker) Run(ctx context.Context, publisher Publisher) error {
	var published fingerprint
	for ctx.Err() == nil {
		now := time.Now()
		if err := b.group.advance(ctx, now); err != nil {
			return err
		}
		b.book.sweep(func(t schemas.TenantID) (schemas.Credit, bool) {
			account, err := b.cfg.Credit.Account(ctx, t)
			return account, err == nil
		}, now)
		changed, wait := b.cfg.Policies.Changed(), tickEvery
		current, err := b.fingerprint(ctx)
		if err == nil && current != published {
			if err = b.publish(ctx, publisher); err == nil {
				published = current
			}
		}
		if err != nil && ctx.Err() == nil {
			b.cfg.Log.Warn("keys are not published", "error", err)
			wait = retryPublish
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// fingerprint is everything that published keys depend on.
type fingerprint struct{ epoch, policy, catalogue, evidence uint64 }

// fingerprint looks at what published keys depend on, and remembers a policy that is new.
func (b *Broker) fingerprint(ctx context.Context) (fingerprint, error) {
	policy, err := b.cfg.Policies.Current()
	if err != nil {
		return fingerprint{}, err
	}
	if err := b.group.remember(ctx, policy.Hash, policy.Version); err != nil {
		return fingerprint{}, err
	}
	catalogue, err := b.cfg.Catalogues.Current()
	if err != nil {
		return fingerprint{}, err
	}
	_, evidence, err := b.evidence(ctx)
	return fingerprint{b.group.epochNow(time.Now()), policy.Version, catalogue.Version, evidence}, err
}

// publish publishes the key of every model, and the weights key last: who sees it published sees all of them.
func (b *Broker) publish(ctx context.Context, publisher Publisher) error {
	catalogue, err := b.cfg.Catalogues.Current()
	if err != nil {
		return err
	}
	for i := range catalogue.Models {
		m := &catalogue.Models[i]
		value, err := b.Key(ctx, m.ID)
		if err != nil {
			return err
		}
		if err := publisher.PublishKey(ctx, m.Slug, value); err != nil {
			return err
		}
	}
	value, err := b.WeightsKey(ctx)
	if err != nil {
		return err
	}
	if err := publisher.PublishKey(ctx, WeightsKeyName, value); err != nil {
		return err
	}
	b.cfg.Log.Info("keys published", "models", len(catalogue.Models), "catalogue", catalogue.Version)
	return nil
}
