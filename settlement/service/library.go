package service

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
)

// LibraryConfig configures a Library.
type LibraryConfig struct {
	Ledger *settlement.Ledger
	// Catalogues and Keys are the CATALOGUE and KEYS buckets.
	Catalogues Bucket
	Keys       Bucket
	// Trust says whose catalogues count, Verifier whose evidence.
	Trust    schemas.Trust
	Verifier enclave.Verifier
	// Refresh is how often the buckets are read when nobody asks; 0 means 15 s. It must be shorter than the life of a
	// broker's key in its bucket, which is an epoch.
	Refresh time.Duration
	// Now is the clock by which catalogues expire; nil means time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// Times of a Library.
const (
	defaultRefresh = 15 * time.Second
	// lookAgain is the least time between two looks that intake asks for: a flood of made-up key ids costs no more.
	lookAgain = 200 * time.Millisecond
)

// Library verifies catalogues and broker keys and keeps them in the ledger. It answers intake's questions from there,
// after one more look at the buckets when it does not know.
type Library struct {
	cfg LibraryConfig
	// mu lets one goroutine read the buckets at a time and guards the fields below.
	mu     sync.Mutex
	looked time.Time
	seen   map[string]uint64 // revision of each entry that was verified, by bucket and key
	models map[string]schemas.ModelID
}

var (
	_ settlement.Catalogues = (*Library)(nil)
	_ settlement.BrokerKeys = (*Library)(nil)
)

// NewLibrary checks the configuration.
func NewLibrary(cfg LibraryConfig) (*Library, error) {
	if cfg.Ledger == nil || cfg.Catalogues == nil || cfg.Keys == nil || cfg.Verifier == nil {
		return nil, schemas.FieldError("library", "needs Ledger, Catalogues, Keys and Verifier")
	}
	if cfg.Refresh <= 0 {
		cfg.Refresh = defaultRefresh
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Library{cfg: cfg, seen: map[string]uint64{}, models: map[string]schemas.ModelID{}}, nil
}

// Run reads the buckets now and then until ctx ends, so that keys and prices are in the ledger before anybody asks.
func (l *Library) Run(ctx context.Context) error {
	for {
		if err := l.Refresh(ctx); err != nil && ctx.Err() == nil {
			l.cfg.Logger.Warn("library not refreshed", slog.Any("error", err))
		}
		timer := time.NewTimer(l.cfg.Refresh)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// Catalogue finds a price book by version; KindNotFound after a fresh look.
func (l *Library) Catalogue(ctx context.Context, version uint64) (*schemas.Catalogue, error) {
	return again(ctx, l, func() (*schemas.Catalogue, error) { return l.cfg.Ledger.Catalogue(ctx, version) })
}

// BrokerKey finds a broker's key; KindNotFound after a fresh look.
func (l *Library) BrokerKey(ctx context.Context, id schemas.KeyID) (ed25519.PublicKey, error) {
	return again(ctx, l, func() (ed25519.PublicKey, error) { return l.cfg.Ledger.BrokerKey(ctx, id) })
}

// again asks, and when the ledger does not know, reads the buckets and asks once more.
func again[T any](ctx context.Context, l *Library, ask func() (T, error)) (T, error) {
	v, err := ask()
	if schemas.KindOf(err) != schemas.KindNotFound {
		return v, err
	}
	if err := l.Refresh(ctx); err != nil {
		return v, schemas.Errorf(schemas.KindUnavailable, "look again: %w", err)
	}
	return ask()
}

// Refresh reads both buckets and keeps what is new and verifies. Documents that do not verify are passed over: anybody
// who can write to the bus can put them there. An error means that a bucket could not be read.
func (l *Library) Refresh(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if wait := lookAgain - time.Since(l.looked); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.looked = time.Now()
	if err := l.catalogues(ctx); err != nil {
		return err
	}
	return l.keys(ctx)
}

// catalogues keeps new catalogue versions and learns which model a key's slug stands for.
func (l *Library) catalogues(ctx context.Context) error {
	entries, err := l.cfg.Catalogues.List(ctx, everything)
	if err != nil {
		return err
	}
	if err := l.known(ctx); err != nil {
		return err
	}
	for _, e := range entries {
		if e.Deleted || l.seen["catalogue/"+e.Key] == e.Revision {
			continue
		}
		c, _, err := schemas.VerifyDocument[schemas.Catalogue](e.Value, l.cfg.Trust, 0, l.cfg.Now())
		if err != nil {
			l.passOver("catalogue", e.Key, err)
			continue
		}
		if err := l.cfg.Ledger.AddCatalogue(ctx, c); err != nil {
			if errors.Is(err, schemas.KindConflict) {
				l.passOver("catalogue", e.Key, err)
				continue
			}
			return err
		}
		l.name(c)
		l.seen["catalogue/"+e.Key] = e.Revision
	}
	return nil
}

// known learns model names from the newest catalogue that the ledger holds, once.
func (l *Library) known(ctx context.Context) error {
	if len(l.models) > 0 {
		return nil
	}
	c, err := l.cfg.Ledger.NewestCatalogue(ctx)
	if schemas.KindOf(err) == schemas.KindNotFound {
		return nil
	}
	if err == nil {
		l.name(c)
	}
	return err
}

// name remembers which model each slug stands for.
func (l *Library) name(c *schemas.Catalogue) {
	for i := range c.Models {
		l.models[c.Models[i].Slug] = c.Models[i].ID
	}
}

// keys keeps the signing keys of brokers whose bundles verify.
func (l *Library) keys(ctx context.Context) error {
	entries, err := l.cfg.Keys.List(ctx, everything)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Deleted || l.seen["key/"+e.Key] == e.Revision {
			continue
		}
		slug, _, _ := strings.Cut(e.Key, ".")
		model, ok := l.models[slug]
		if !ok {
			continue // a model of a catalogue that has not arrived yet, or of none
		}
		k, err := enclave.VerifyKey(ctx, l.cfg.Verifier, model, e.Value)
		if err != nil {
			l.passOver("key", e.Key, err)
			continue
		}
		if err := l.cfg.Ledger.AddBrokerKey(ctx, k.Broker()); err != nil {
			return err
		}
		l.seen["key/"+e.Key] = e.Revision
	}
	return nil
}

// passOver tells about a document that is not believed. It is looked at again with the next refresh: what decides may
// be the policy, which changes.
func (l *Library) passOver(what, key string, err error) {
	l.cfg.Logger.Warn("document is not believed", slog.String("what", what), slog.String("key", key), slog.Any("error", err))
}
