//go:build !worker

package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Images of the simulated hardware.
const (
	imageBroker = "cocoon-broker"
	imageWorker = "cocoon-worker"
)

// Terms of the documents that a network on one machine signs for itself. They are signed again at a start when less
// than renewBefore is left.
const (
	documentTerm = 90 * 24 * time.Hour
	renewBefore  = 60 * 24 * time.Hour
)

// Prices of the embedded model, in nanoTON per million tokens. They are a few thousand times the first network's, so
// that a minute of a tiny model's work is worth a payout that can be looked at; the embedded chain's money is free.
func tinyPrice() schemas.Price {
	return schemas.Price{Prompt: 50 * schemas.TON, Cached: 5 * schemas.TON, Completion: 400 * schemas.TON, Reasoning: 400 * schemas.TON}
}

// networkFee is the network's share of a charge.
const networkFee schemas.BasisPoints = 500

// trustOf is what everybody in a network on one machine believes: one root key, simulated hardware.
func trustOf(roots ed25519.PrivateKey) (schemas.Trust, error) {
	keys, err := schemas.NewRootKeys(1, roots.Public().(ed25519.PublicKey))
	if err != nil {
		return schemas.Trust{}, err
	}
	return schemas.Trust{Roots: keys, Environment: schemas.Simulated}, nil
}

// publishPolicy signs and publishes a policy that admits the two simulated images and the models, unless the one in
// force already does.
func publishPolicy(ctx context.Context, bus *streams.Bus, platform *sim.Platform, roots ed25519.PrivateKey, trust schemas.Trust, models []schemas.ModelID) error {
	return publishDocument(ctx, bus.Bucket(streams.BucketPolicy), roots, trust,
		func(have *schemas.Policy) bool { return slices.Equal(have.Models, models) },
		func(version uint64, now time.Time) *schemas.Policy {
			return platform.Policy(sim.PolicySpec{
				Version: version, Issued: now, Term: documentTerm, Models: models,
				Images: []sim.ImageRule{
					{Name: imageBroker, Role: schemas.RoleBroker},
					{Name: imageWorker, Role: schemas.RoleWorker, MinGPUs: 1, MaxGPUs: 1},
				},
			})
		})
}

// publishCatalogue signs and publishes a catalogue with the models, unless the one in force already has them.
func publishCatalogue(ctx context.Context, bus *streams.Bus, roots ed25519.PrivateKey, trust schemas.Trust, models []schemas.Model) error {
	return publishDocument(ctx, bus.Bucket(streams.BucketCatalogue), roots, trust,
		func(have *schemas.Catalogue) bool {
			want, err1 := schemas.EncodeJSON(models)
			got, err2 := schemas.EncodeJSON(have.Models)
			return err1 == nil && err2 == nil && string(want) == string(got)
		},
		func(version uint64, now time.Time) *schemas.Catalogue {
			return &schemas.Catalogue{
				V: 1, Version: version, Issued: now, Expires: now.Add(documentTerm), Environment: schemas.Simulated,
				Classes: map[schemas.Class]schemas.BasisPoints{
					schemas.Priority: 2 * schemas.One, schemas.Standard: schemas.One, schemas.Batch: schemas.One / 2,
				},
				FeeBP: networkFee, Models: models,
			}
		})
}

// publishDocument publishes the next version of a signed document unless the one in force verifies, says the same and
// has time left.
//
// Commit point: the Put of "current". The version is stored under its own name before, so that a crash in between
// leaves a version that nobody is sent to, which the next start writes again with the same number.
func publishDocument[T any, D interface {
	*T
	schemas.Document
}](ctx context.Context, bucket *streams.Bucket, roots ed25519.PrivateKey, trust schemas.Trust, same func(D) bool, next func(version uint64, now time.Time) D) error {
	now := time.Now().UTC().Truncate(time.Second)
	var version uint64
	entry, err := bucket.Get(ctx, "current")
	switch {
	case schemas.KindOf(err) == schemas.KindNotFound:
	case err != nil:
		return err
	default:
		have, _, err := schemas.VerifyDocument[T, D](entry.Value, trust, 0, now)
		if err == nil && same(have) && have.Head().Expires.Sub(now) > renewBefore {
			return nil
		}
		if version, err = versionOf[T, D](entry.Value); err != nil {
			return err
		}
	}
	signed, err := schemas.SignDocument(next(version+1, now), roots)
	if err != nil {
		return err
	}
	text, err := signed.Encode()
	if err != nil {
		return err
	}
	if _, err := bucket.Put(ctx, fmt.Sprintf("v%d", version+1), text); err != nil {
		return err
	}
	_, err = bucket.Put(ctx, "current", text)
	return err
}

// versionOf reads the version of a document that need not be in force any more.
func versionOf[T any, D interface {
	*T
	schemas.Document
}](text []byte) (uint64, error) {
	signed, err := schemas.ParseSigned(text)
	if err != nil {
		return 0, err
	}
	d := D(new(T))
	if err := schemas.DecodeJSON(signed.Payload, d, schemas.MaxDocumentSize); err != nil {
		return 0, err
	}
	return d.Head().Version, nil
}
