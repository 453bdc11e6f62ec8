package cli

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// currentKey is the key of the document in force in its bucket.
const currentKey = "current"

// bucketFeed gives the documents of one bucket as they are published.
type bucketFeed struct{ bucket *streams.Bucket }

var _ attest.Feed = bucketFeed{}

// PolicyFeed gives the signed policies of a network as they are published.
func PolicyFeed(bus *streams.Bus) attest.Feed { return bucketFeed{bus.Bucket(streams.BucketPolicy)} }

// Watch implements [attest.Feed].
func (f bucketFeed) Watch(ctx context.Context) (<-chan []byte, error) {
	documents := make(chan []byte)
	go func() {
		defer close(documents)
		err := f.bucket.Watch(ctx, currentKey, func(e streams.Entry) error {
			if e.Key == "" || e.Deleted {
				return nil
			}
			select {
			case documents <- e.Value:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		_ = err // the reader learns from the closed channel; the feed is asked for again
	}()
	return documents, nil
}

// Catalogues holds the newest verified catalogue. Make it with [NewCatalogues]; it is safe for concurrent use.
type Catalogues struct {
	trust schemas.Trust
	log   *slog.Logger

	mu      sync.Mutex // guards the fields below
	current *schemas.Catalogue
	first   chan struct{}
}

// NewCatalogues believes in the given root keys and one environment. log may be nil.
func NewCatalogues(trust schemas.Trust, log *slog.Logger) *Catalogues {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Catalogues{trust: trust, log: log, first: make(chan struct{})}
}

// Current returns the catalogue in force: KindUnavailable when none has come yet, KindPolicy when it has expired.
func (c *Catalogues) Current() (*schemas.Catalogue, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.current == nil:
		return nil, &schemas.Error{Kind: schemas.KindUnavailable, Field: "catalogue", Message: "none has been received yet"}
	case !time.Now().Before(c.current.Expires):
		return nil, &schemas.Error{Kind: schemas.KindPolicy, Field: "catalogue", Message: "has expired"}
	}
	return c.current, nil
}

// Offer verifies a signed catalogue and takes it when it is newer than the current one.
func (c *Catalogues) Offer(signed []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var previous uint64
	if c.current != nil {
		previous = c.current.Version
	}
	catalogue, _, err := schemas.VerifyDocument[schemas.Catalogue](signed, c.trust, previous, time.Now())
	if err != nil {
		return err
	}
	if c.current == nil {
		close(c.first)
	}
	if c.current == nil || catalogue.Version > c.current.Version {
		c.current = catalogue
	}
	return nil
}

// Follow offers every catalogue that is published until ctx ends. Those that are refused are logged and skipped.
func (c *Catalogues) Follow(ctx context.Context, bus *streams.Bus) error {
	return bus.Bucket(streams.BucketCatalogue).Watch(ctx, currentKey, func(e streams.Entry) error {
		if e.Key == "" || e.Deleted {
			return nil
		}
		if err := c.Offer(e.Value); err != nil {
			c.log.Warn("catalogue refused", "error", err)
		}
		return nil
	})
}

// Wait returns when the first catalogue is in force.
func (c *Catalogues) Wait(ctx context.Context) error {
	select {
	case <-c.first:
		return nil
	case <-ctx.Done():
		return schemas.Errorf(schemas.KindUnavailable, "no catalogue is published: %w", ctx.Err())
	}
}

// waitPolicy returns when the first policy is in force.
func waitPolicy(ctx context.Context, keeper *attest.Keeper) error {
	for {
		changed := keeper.Changed()
		if _, err := keeper.Current(); !errors.Is(err, schemas.KindUnavailable) {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return schemas.Errorf(schemas.KindUnavailable, "no policy is published: %w", ctx.Err())
		}
	}
}

// credits holds what settlement says about every tenant.
type credits struct {
	log *slog.Logger

	mu       sync.RWMutex // guards the fields below
	accounts map[schemas.TenantID]schemas.Credit
	complete bool
}

// newCredits makes an empty set.
func newCredits(log *slog.Logger) *credits {
	return &credits{log: log, accounts: map[schemas.TenantID]schemas.Credit{}}
}

// Account implements broker.Credit. Until everything that was published before has been read, an unknown tenant is
// KindUnavailable.
func (c *credits) Account(_ context.Context, tenant schemas.TenantID) (schemas.Credit, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	account, ok := c.accounts[tenant]
	switch {
	case ok:
		return account, nil
	case !c.complete:
		return account, &schemas.Error{Kind: schemas.KindUnavailable, Field: "credit", Message: "accounts are still being read", RetryAfter: time.Second}
	}
	return account, &schemas.Error{Kind: schemas.KindNotFound, Field: "credit", Message: "is no tenant of this network"}
}

// follow reads the accounts as they are published until ctx ends.
func (c *credits) follow(ctx context.Context, bus *streams.Bus) error {
	return bus.Bucket(streams.BucketCredit).Watch(ctx, ">", func(e streams.Entry) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if e.Key == "" {
			c.complete = true
			return nil
		}
		tenant := schemas.TenantID(e.Key)
		if e.Deleted {
			delete(c.accounts, tenant)
			return nil
		}
		account, err := schemas.ParseCredit(e.Value)
		if err != nil {
			c.log.Warn("credit refused", "tenant", e.Key, "error", err)
			return nil
		}
		c.accounts[tenant] = account
		return nil
	})
}

// standings holds what control thinks of workers and owners, as far as it is not good.
type standings struct {
	mu  sync.RWMutex // guards bad
	bad map[string]broker.Standing
}

// newStandings makes an empty set: everybody is good.
func newStandings() *standings { return &standings{bad: map[string]broker.Standing{}} }

// of is the worse of a worker's and its owner's standing.
func (s *standings) of(worker schemas.WorkerID, owner schemas.Owner) broker.Standing {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.bad) == 0 {
		return broker.Good
	}
	return max(s.bad[streams.PrefixReputation+string(worker)], s.bad[streams.KeyOwner(owner)])
}

// follow reads the standings as control publishes them until ctx ends. One that lapses is good again.
func (s *standings) follow(ctx context.Context, bus *streams.Bus) error {
	return bus.Bucket(streams.BucketWorkers).Watch(ctx, ">", func(e streams.Entry) error {
		if !strings.HasPrefix(e.Key, streams.PrefixReputation) && !strings.HasPrefix(e.Key, streams.PrefixOwner) {
			return nil
		}
		standing := broker.Good
		if r, err := streams.ParseReputation(e.Value); !e.Deleted && err == nil {
			switch r.Standing {
			case streams.StandingProbation:
				standing = broker.Probation
			case streams.StandingSuspended:
				standing = broker.Suspended
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if standing == broker.Good {
			delete(s.bad, e.Key)
		} else {
			s.bad[e.Key] = standing
		}
		return nil
	})
}
