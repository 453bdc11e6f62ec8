package tdx

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/go-tdx-guest/pcs"

	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of collateral.
const (
	// MaxDocument bounds one document in bytes; Intel's largest revocation list is far below.
	MaxDocument = 4 << 20
	// maxIssuerChain bounds the issuer chain that goes with a document.
	maxIssuerChain = 32 << 10
	// maxDocuments bounds how many documents a Collateral remembers: one for each processor family, and three more.
	maxDocuments = 256
)

// Document is one piece of what Intel signs about its platforms: a JSON document or a revocation list.
type Document struct {
	// Issuer is the PEM chain that signs the document, url-escaped as Intel's service sends it; empty for the root's
	// own revocation list.
	Issuer string `json:"issuer,omitempty"`
	// Body is the signed document.
	Body []byte `json:"body"`
	// Fetched is when it was last fetched from the service.
	Fetched time.Time `json:"fetched"`
}

// Source fetches documents from where they are made. Documents are signed, so a source is trusted for nothing but
// being there.
type Source interface {
	// Fetch gets the document at one of Intel's urls. Failures to reach it are KindUnavailable.
	Fetch(ctx context.Context, url string) (Document, error)
}

// Store keeps documents where several processes find them, such as a key-value bucket. Names are [Name] of the url.
// The store is as untrusted as the source.
type Store interface {
	// Load returns a document, or an error of KindNotFound.
	Load(ctx context.Context, name string) (Document, error)
	// Save keeps a document. A failure costs only another fetch.
	Save(ctx context.Context, name string, d Document) error
}

// CollateralOptions configure a Collateral.
type CollateralOptions struct {
	// Source is asked when neither memory nor Store has a recent document. Nil: only the Store is used.
	Source Source
	// Store is shared with other processes. Nil: memory only.
	Store Store
	// Refresh is the age after which a document is fetched again although it is still valid. Default 6 hours.
	Refresh time.Duration
	// Recheck is how long memory is believed before the Store is looked at again, and how long a failed fetch is not
	// repeated. It bounds how long this process works with a document after another fetched a newer one. Default 1 minute.
	Recheck time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Log gets a warning for every document that could not be refreshed. Default: discarded.
	Log *slog.Logger
}

// Collateral is a cache of Intel's documents. The rules:
//
//   - A document younger than Refresh is used as it is.
//   - An older one is fetched again. When that fails, the old one is used on, for as long as Intel's signature says
//     that it is valid; the verifier refuses it after that.
//   - A document issued before one that has verified is refused: nobody rolls collateral back under our feet.
//
// It is safe for concurrent use. One document is fetched by one caller at a time; while that goes on, others work with
// the document that is there.
type Collateral struct {
	o  CollateralOptions
	mu sync.Mutex
	// entries is keyed by url. The map is guarded by mu, each entry by its own lock.
	entries map[string]*entry
}

// entry is what is known about one url.
type entry struct {
	// fetching is held by the one caller that renews the entry, without mu: others go on with what is there.
	fetching sync.Mutex

	mu      sync.Mutex // guards the fields below
	doc     Document
	digest  schemas.Hash
	checked time.Time
	// floor is the issue date of the newest document that has verified.
	floor time.Time
}

// read returns what is known, and whether it should be looked for again.
func (e *entry) read(now time.Time, recheck time.Duration) (d Document, digest schemas.Hash, stale bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.doc, e.digest, len(e.doc.Body) == 0 || now.Sub(e.checked) >= recheck
}

// NewCollateral returns an empty cache.
func NewCollateral(o CollateralOptions) *Collateral {
	if o.Refresh <= 0 {
		o.Refresh = 6 * time.Hour
	}
	if o.Recheck <= 0 {
		o.Recheck = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Collateral{o: o, entries: map[string]*entry{}}
}

// refreshPatience bounds how long a caller waits for a newer document when there is a valid one.
const refreshPatience = 3 * time.Second

// get returns the document at url and the digest of its bytes.
func (c *Collateral) get(ctx context.Context, url string) (Document, schemas.Hash, error) {
	e, err := c.entry(url)
	if err != nil {
		return Document{}, schemas.Hash{}, err
	}
	d, digest, stale := e.read(c.o.Now(), c.o.Recheck)
	if !stale {
		return d, digest, nil
	}
	known := len(d.Body) > 0
	switch {
	case !known:
		e.fetching.Lock()
	case !e.fetching.TryLock():
		return d, digest, nil // somebody is at it
	default:
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, refreshPatience)
		defer cancel()
	}
	defer e.fetching.Unlock()
	if d, digest, stale = e.read(c.o.Now(), c.o.Recheck); !stale {
		return d, digest, nil // somebody was faster
	}
	if err := c.renew(ctx, url, e); err != nil && !known {
		return Document{}, schemas.Hash{}, err
	}
	d, digest, _ = e.read(c.o.Now(), c.o.Recheck)
	if len(d.Body) == 0 {
		return Document{}, schemas.Hash{}, unavailable(url, "was refused: it is older than one that has verified")
	}
	return d, digest, nil
}

// entry finds or makes the entry of a url.
func (c *Collateral) entry(url string) (*entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[url]
	if e == nil {
		if len(c.entries) == maxDocuments {
			return nil, &schemas.Error{Kind: schemas.KindBusy, Field: "collateral", Message: "has more than 256 documents in use"}
		}
		e = &entry{}
		c.entries[url] = e
	}
	return e, nil
}

// renew brings an entry up to date. Its caller holds fetching.
func (c *Collateral) renew(ctx context.Context, url string, e *entry) error {
	now := c.o.Now()
	e.mu.Lock()
	e.checked = now
	e.mu.Unlock()
	stored, storeErr := c.load(ctx, url)
	if storeErr == nil {
		e.take(stored)
	}
	if d, _, _ := e.read(now, c.o.Recheck); len(d.Body) > 0 && now.Sub(d.Fetched) < c.o.Refresh {
		return nil
	}
	if c.o.Source == nil {
		return storeErr
	}
	fetched, err := c.fetch(ctx, url)
	if err != nil {
		c.o.Log.Warn("collateral not refreshed", "document", Name(url), "error", err)
		return err
	}
	if e.take(fetched) && c.o.Store != nil {
		if err := c.o.Store.Save(ctx, Name(url), fetched); err != nil {
			c.o.Log.Warn("collateral not shared", "document", Name(url), "error", err)
		}
	}
	return nil
}

// load reads the shared copy.
func (c *Collateral) load(ctx context.Context, url string) (Document, error) {
	if c.o.Store == nil {
		return Document{}, unavailable(url, "is not known here")
	}
	d, err := c.o.Store.Load(ctx, Name(url))
	if err == nil {
		err = d.check()
	}
	if err != nil {
		return Document{}, unavailable(url, err.Error())
	}
	if d.Fetched.After(c.o.Now()) {
		d.Fetched = time.Time{} // whoever wrote this wants it never to be fetched again
	}
	return d, nil
}

// fetch reads the original.
func (c *Collateral) fetch(ctx context.Context, url string) (Document, error) {
	d, err := c.o.Source.Fetch(ctx, url)
	if err == nil {
		err = d.check()
	}
	if err != nil {
		return Document{}, unavailable(url, err.Error())
	}
	if d.Fetched.IsZero() {
		d.Fetched = c.o.Now()
	}
	return d, nil
}

// unavailable says that a document could not be had. The cause is kept as text only: that a store has no such key must not
// look as if the thing that is verified did not exist.
func unavailable(url, reason string) error {
	return &schemas.Error{Kind: schemas.KindUnavailable, Field: "collateral", Message: Name(url) + ": " + reason}
}

// take replaces the document unless it is older than what is there.
func (e *entry) take(d Document) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d.Fetched.Before(e.doc.Fetched) || !e.floor.IsZero() && d.issued().Before(e.floor) {
		return false
	}
	e.doc, e.digest = d, d.digest()
	return true
}

// verified raises the floor of a url to the issue date of a document that has verified.
func (c *Collateral) verified(url string, d Document) {
	e, err := c.entry(url)
	if err != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if issued := d.issued(); issued.After(e.floor) {
		e.floor = issued
	}
}

// check refuses documents that are empty or too large.
func (d Document) check() error {
	if len(d.Body) == 0 {
		return errors.New("is empty")
	}
	if len(d.Body) > MaxDocument || len(d.Issuer) > maxIssuerChain {
		return errors.New("is larger than 4 MiB")
	}
	return nil
}

// digest identifies issuer and body.
func (d Document) digest() schemas.Hash {
	issuer := schemas.HashOf([]byte(d.Issuer))
	return schemas.HashOf(append(issuer[:], d.Body...))
}

// issued reads the issue date that the document states, the zero time when it states none.
func (d Document) issued() time.Time {
	if list, err := x509.ParseRevocationList(d.Body); err == nil {
		return list.ThisUpdate
	}
	var body map[string]struct {
		IssueDate time.Time `json:"issueDate"`
	}
	var signed map[string]json.RawMessage
	if json.Unmarshal(d.Body, &signed) != nil {
		return time.Time{}
	}
	delete(signed, "signature")
	inner, err := json.Marshal(signed)
	if err != nil || json.Unmarshal(inner, &body) != nil {
		return time.Time{}
	}
	return latest(body["tcbInfo"].IssueDate, body["enclaveIdentity"].IssueDate)
}

// latest picks the last of several instants.
func latest(times ...time.Time) (t time.Time) {
	for _, x := range times {
		if x.After(t) {
			t = x
		}
	}
	return t
}

// earliest picks the first of several instants; zero times do not count.
func earliest(times ...time.Time) (t time.Time) {
	for _, x := range times {
		if !x.IsZero() && (t.IsZero() || x.Before(t)) {
			t = x
		}
	}
	return t
}

// Name turns one of Intel's urls into a short name fit for a key: "tcb.<fmspc>", "qe", "crl.platform", or "crl.root"
// for everything else.
func Name(url string) string {
	switch {
	case url == pcs.QeIdentityURL():
		return "qe"
	case url == pcs.PckCrlURL("platform"):
		return "crl.platform"
	case strings.HasPrefix(url, pcs.TcbInfoURL("")):
		return "tcb." + strings.TrimPrefix(url, pcs.TcbInfoURL(""))
	}
	return "crl.root"
}

// Gather fetches the four documents about the machine of a quote, for stores and offline files. The quote's chain is not
// verified: what comes back is signed, and judged when it is used.
func Gather(ctx context.Context, source Source, quote []byte) (Bundle, error) {
	q, err := parseQuote(Trim(quote))
	if err != nil {
		return nil, err
	}
	chain, err := parseChain(q.chain)
	if err != nil {
		return nil, err
	}
	bundle := Bundle{}
	for _, url := range chain.documents() {
		d, err := source.Fetch(ctx, url)
		if err != nil {
			return nil, err
		}
		bundle[Name(url)] = d
	}
	return bundle, nil
}

// Bundle is a set of documents by name: a Store in memory, and the file format of offline verification.
type Bundle map[string]Document

// ParseBundle reads the JSON form strictly.
func ParseBundle(b []byte) (Bundle, error) {
	var bundle Bundle
	if err := schemas.DecodeJSON(b, &bundle, 8*MaxDocument); err != nil {
		return nil, err
	}
	return bundle, nil
}

// Load implements [Store].
func (b Bundle) Load(_ context.Context, name string) (Document, error) {
	d, ok := b[name]
	if !ok {
		return Document{}, &schemas.Error{Kind: schemas.KindNotFound, Field: "collateral", Message: name + " is not in the bundle"}
	}
	return d, nil
}

// Save implements [Store] by refusing: a bundle is a snapshot.
func (b Bundle) Save(context.Context, string, Document) error {
	return &schemas.Error{Kind: schemas.KindUnsupported, Field: "collateral", Message: "a bundle is read-only"}
}
