package cli

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"log/slog"
	"strings"
	"sync"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// maxBrokers bounds the brokers whose keys are known at one time.
const maxBrokers = 1024

// Judge checks the signatures of outcomes with the keys of brokers that have attested themselves. Give its Verify to a
// control service and keep Follow running. It is safe for concurrent use.
type Judge struct {
	verifier enclave.Verifier
	log      *slog.Logger

	mu   sync.Mutex // guards keys
	keys map[schemas.KeyID]ed25519.PublicKey
}

// NewJudge believes the brokers that the verifier admits. log may be nil.
func NewJudge(v enclave.Verifier, log *slog.Logger) *Judge {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Judge{verifier: v, log: log, keys: map[schemas.KeyID]ed25519.PublicKey{}}
}

// Follow learns the keys that brokers publish until ctx ends. One that does not verify is logged and skipped; it is looked
// at again with its next publication.
func (j *Judge) Follow(ctx context.Context, bus *streams.Bus) error {
	return bus.Bucket(streams.BucketKeys).Watch(ctx, "", func(e streams.Entry) error {
		if e.Key == "" || e.Deleted || e.Key == broker.WeightsKeyName { // the key that weights are sealed to signs nothing
			return nil
		}
		if err := j.learn(ctx, e.Value); err != nil && ctx.Err() == nil {
			j.log.Warn("no key of a broker", "key", e.Key, "error", err)
		}
		return nil
	})
}

// learn verifies one published key, whatever its model.
func (j *Judge) learn(ctx context.Context, value []byte) error {
	published, _, err := schemas.ParsePublishedKey(value)
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(published.Bundle, ".")
	payload, _, _ := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return schemas.FieldError("bundle", "is not a compact JWS")
	}
	bundle, err := schemas.ParseKeyBundle(text) // VerifyKey checks the signature
	if err != nil {
		return err
	}
	key, err := enclave.VerifyKey(ctx, j.verifier, bundle.Model, value)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.keys) < maxBrokers {
		j.keys[schemas.KeyIDOf(key.Broker())] = key.Broker()
	}
	return nil
}

// Verify checks a grant and, unless it is empty, the receipt under it. It is what control.Options.Verify wants.
func (j *Judge) Verify(grant, receipt string) (schemas.Grant, schemas.Receipt, error) {
	var g schemas.Grant
	var err error = schemas.Errorf(schemas.KindUnavailable, "no broker's key is known")
	for _, key := range j.known() {
		if g, err = enclave.VerifyGrant(grant, key); err == nil {
			break
		}
	}
	if err != nil || receipt == "" {
		return g, schemas.Receipt{}, err
	}
	r, err := enclave.VerifyReceipt(receipt, g.WorkerKey)
	return g, r, err
}

// known lists the keys of brokers; a network has a handful.
func (j *Judge) known() []ed25519.PublicKey {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := make([]ed25519.PublicKey, 0, len(j.keys))
	for _, key := range j.keys {
		list = append(list, key)
	}
	return list
}
