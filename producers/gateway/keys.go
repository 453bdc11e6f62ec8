package gateway

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/cocoon-network/cocoon/producers/journal"
	"github.com/cocoon-network/cocoon/schemas"
)

const (
	// keyPrefix stands before every API key, so that leak scanners find it.
	keyPrefix = "sk-cocoon-"
	// MaxKeys bounds a key file.
	MaxKeys = 10_000
	// maxKeyFile bounds it in bytes.
	maxKeyFile = 8 << 20
	// reloadEvery is how often the key file is looked at for changes: how long a revoked key still works.
	reloadEvery = time.Second
	// compactAbove is the size above which the journal of spending is rewritten when a gateway starts.
	compactAbove = 16 << 20
	// spentForm names the form of the journal of what keys have spent.
	spentForm = "cocoon gateway spending v1"
)

// Key describes an API key. The key itself is shown once, by CreateKey; only its hash is stored.
type Key struct {
	// ID names the key, Name is the owner's label.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Hash is the SHA-256 of the key.
	Hash schemas.Hash `json:"hash"`
	// PerMinute bounds requests a minute; 0 means no bound.
	PerMinute int `json:"per_minute,omitempty"`
	// Cap bounds what the key may spend in all; 0 means no bound.
	Cap schemas.NanoTON `json:"cap,omitempty"`
	// Revoked keys are refused.
	Revoked bool `json:"revoked,omitempty"`
	// Created is when it was made.
	Created time.Time `json:"created"`
}

// keyFile is the form of the file: made by CreateKey and RevokeKey, read by gateways.
type keyFile struct {
	V    int   `json:"v"`
	Keys []Key `json:"keys"`
}

// readKeys reads a key file; one that is not there has no keys.
func readKeys(path string) (f keyFile, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return keyFile{V: 1}, nil
	}
	if err != nil {
		return f, fmt.Errorf("read keys: %w", err)
	}
	if err := schemas.DecodeJSON(b, &f, maxKeyFile); err != nil || f.V != 1 {
		return f, &schemas.Error{Kind: schemas.KindCorrupt, Field: filepath.Base(path), Message: "is not a key file", Err: err}
	}
	return f, nil
}

// writeKeys replaces a key file. Commit point: the rename.
func writeKeys(path string, f keyFile) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	return nil
}

// CreateKey adds a key to the file at path and returns its secret. A running gateway takes it up within a second.
func CreateKey(path, name string, perMinute int, limit schemas.NanoTON) (secret string, k Key, err error) {
	if name == "" || len(name) > 64 || perMinute < 0 || limit < 0 {
		return "", k, schemas.FieldError("name", "must have 1 to 64 bytes, and limits must not be negative")
	}
	f, err := readKeys(path)
	if err != nil {
		return "", k, err
	}
	if len(f.Keys) >= MaxKeys {
		return "", k, &schemas.Error{Kind: schemas.KindTooLarge, Field: "keys", Message: "the file has 10,000 keys already"}
	}
	secret = keyPrefix + strings.ToLower(rand.Text())
	k = Key{
		ID: "key_" + strings.ToLower(rand.Text()[:12]), Name: name, Hash: schemas.HashOf([]byte(secret)), PerMinute: perMinute, Cap: limit,
		Created: time.Now().UTC().Truncate(time.Second),
	}
	f.Keys = append(f.Keys, k)
	return secret, k, writeKeys(path, f)
}

// RevokeKey makes a key worthless; KindNotFound when there is none with the id.
func RevokeKey(path, id string) error {
	f, err := readKeys(path)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(f.Keys, func(k Key) bool { return k.ID == id })
	if at < 0 {
		return &schemas.Error{Kind: schemas.KindNotFound, Field: "key", Message: "there is no key " + id}
	}
	f.Keys[at].Revoked = true
	return writeKeys(path, f)
}

// KeySpending is a key and what it has spent.
type KeySpending struct {
	Key
	// Spent is what receipts have charged for it.
	Spent schemas.NanoTON `json:"spent"`
}

// ListKeys reads the keys of a file and what they have spent, also while a gateway uses it.
func ListKeys(path string) ([]KeySpending, error) {
	f, err := readKeys(path)
	if err != nil {
		return nil, err
	}
	s := newSpending()
	if err := journal.Read(path+".spent", spentForm, s.replay); err != nil && !errors.Is(err, schemas.KindNotFound) {
		return nil, err
	}
	list := make([]KeySpending, len(f.Keys))
	for i, k := range f.Keys {
		list[i] = KeySpending{k, s.total[k.ID]}
	}
	return list, nil
}

// Keys are the API keys of a running gateway.
type Keys struct {
	path    string
	journal *journal.Journal

	mu       sync.Mutex // guards the fields below
	looked   time.Time
	changed  time.Time // of the file
	byHash   map[schemas.Hash]Key
	limiters map[string]*rate.Limiter
	spent    *spending
	// reserved is what a key's requests and batches under way may still cost; holds is the part of each batch.
	reserved map[string]schemas.NanoTON
	holds    map[string]schemas.NanoTON
}

// OpenKeys opens the key file at path; a file that is not there has no keys, so nobody may call until one is created.
func OpenKeys(path string) (*Keys, error) {
	k := &Keys{
		path: path, byHash: map[schemas.Hash]Key{}, limiters: map[string]*rate.Limiter{}, spent: newSpending(), reserved: map[string]schemas.NanoTON{},
		holds: map[string]schemas.NanoTON{},
	}
	if err := k.reload(time.Now()); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open keys: %w", err)
	}
	var err error
	if k.journal, err = journal.Open(path+".spent", spentForm, k.spent.replay); err != nil {
		return nil, err
	}
	return k, k.compact()
}

// compact rewrites a journal that has become long.
func (k *Keys) compact() error {
	if k.journal.Size() < compactAbove {
		return nil
	}
	if err := k.journal.Close(); err != nil {
		return fmt.Errorf("close spending: %w", err)
	}
	j, err := journal.Rewrite(k.path+".spent", spentForm, func(add func([]byte) error) error {
		for _, e := range k.spent.records() {
			b, err := json.Marshal(e)
			if err != nil {
				return err
			}
			if err := add(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		k.journal = j
	}
	return err
}

// Close lets go of the files.
func (k *Keys) Close() error { return k.journal.Close() }

// reload reads the file again when it has changed. The caller holds mu, or is alone.
func (k *Keys) reload(now time.Time) error {
	k.looked = now
	info, err := os.Stat(k.path)
	if err == nil && info.ModTime().Equal(k.changed) {
		return nil
	}
	f, err := readKeys(k.path)
	if err != nil {
		return err
	}
	if info != nil {
		k.changed = info.ModTime()
	}
	k.byHash = make(map[schemas.Hash]Key, len(f.Keys))
	for _, key := range f.Keys {
		k.byHash[key.Hash] = key
		if l := k.limiters[key.ID]; key.PerMinute > 0 && (l == nil || l.Burst() != key.PerMinute) {
			k.limiters[key.ID] = rate.NewLimiter(rate.Limit(key.PerMinute)/60, key.PerMinute)
		}
	}
	return nil
}

// caller is who makes a request.
type caller struct {
	keys *Keys // nil when anyone may call
	key  Key
}

// owner separates the files and batches of different keys.
func (c *caller) owner() string { return c.key.ID }

// unauthorized refuses a request without a good key. The reason is the same for all: which keys exist is nobody's
// business.
func unauthorized() error {
	return &httpError{http.StatusUnauthorized, "authentication_error", "invalid_api_key", &schemas.Error{
		Kind: schemas.KindDenied, Message: "the API key is missing, unknown or revoked",
	}}
}

// admit finds out who calls and whether the key may call now.
func (g *Gateway) admit(r *http.Request) (*caller, error) {
	if g.o.Keys == nil {
		return &caller{}, nil
	}
	secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return nil, unauthorized()
	}
	return g.o.Keys.enter(secret, time.Now())
}

// enter admits a key and counts its request.
func (k *Keys) enter(secret string, now time.Time) (*caller, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.Sub(k.looked) >= reloadEvery {
		if err := k.reload(now); err != nil {
			return nil, err
		}
	}
	key, known := k.byHash[schemas.HashOf([]byte(secret))]
	if !known || key.Revoked {
		return nil, unauthorized()
	}
	if l := k.limiters[key.ID]; key.PerMinute > 0 && l != nil {
		if r := l.ReserveN(now, 1); r.DelayFrom(now) > 0 {
			wait := r.DelayFrom(now)
			r.CancelAt(now)
			return nil, &schemas.Error{Kind: schemas.KindBusy, Message: fmt.Sprintf("the key may make %d requests a minute", key.PerMinute), RetryAfter: wait}
		}
	}
	return &caller{keys: k, key: key}, nil
}

// byID returns a key by its id; the zero Key when there is none.
func (k *Keys) byID(id string) Key {
	if k == nil {
		return Key{}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.byHash {
		if key.ID == id {
			return key
		}
	}
	return Key{}
}
