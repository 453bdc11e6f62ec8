package settlement

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// MaxJobCharge bounds what one job may cost: 1,000,000 TON. A thousand such jobs in one commit still fit 63 bits.
const MaxJobCharge = 1_000_000 * schemas.TON

// Reason says why an outcome that claimed money got none. It is a stable word.
type Reason string

// The reasons.
const (
	// RejectMalformed: the outcome's headers do not parse.
	RejectMalformed Reason = "malformed"
	// RejectBroker: no verified broker has the key that the grant names.
	RejectBroker Reason = "unknown_broker"
	// RejectGrant: the grant's signature or form is wrong.
	RejectGrant Reason = "bad_grant"
	// RejectReceipt: the receipt's signature or form is wrong.
	RejectReceipt Reason = "bad_receipt"
	// RejectMismatch: outcome, grant and receipt are not about the same thing.
	RejectMismatch Reason = "mismatch"
	// RejectEnvironment: the grant is from the other environment.
	RejectEnvironment Reason = "wrong_environment"
	// RejectTime: a time lies in the future, or they are out of order.
	RejectTime Reason = "bad_time"
	// RejectCatalogue: the grant names a catalogue version that was never signed.
	RejectCatalogue Reason = "unknown_catalogue"
	// RejectPrice: the usage cannot be priced: model not in that catalogue, count or multiplier out of bounds.
	RejectPrice Reason = "unpriceable"
	// RejectCeiling: the usage costs more than the tenant authorised.
	RejectCeiling Reason = "above_ceiling"
	// RejectTenant: there is no such tenant.
	RejectTenant Reason = "unknown_tenant"
	// RejectDuplicate: the job was booked before under another outcome.
	RejectDuplicate Reason = "duplicate_job"
	// RejectNumber: the worker used this receipt number before for something else.
	RejectNumber Reason = "number_reused"
)

// verdict is what judging one outcome comes to. Exactly one of claim and reason is set when the outcome claims money;
// neither when it does not.
type verdict struct {
	seq     uint64
	outcome schemas.Outcome
	claim   *claim
	reason  Reason
	detail  string
}

// claim is a verified and priced receipt.
type claim struct {
	grant   schemas.Grant
	receipt schemas.Receipt
	charge  schemas.Charge
	hash    schemas.Hash
	job     []byte
}

// judge decides about outcomes. It reads keys and prices and changes nothing, so that intake and reconciliation share
// it.
type judge struct {
	catalogues  Catalogues
	keys        BrokerKeys
	environment schemas.Environment
	skew        time.Duration
	now         func() time.Time

	books      priceBooks
	signatures enclave.Signatures // of brokers and workers
	// mu guards known, the broker keys already found.
	mu    sync.Mutex
	known map[schemas.KeyID]ed25519.PublicKey
}

// maxKnownKeys bounds the cache of broker keys.
const maxKnownKeys = 1 << 10

// judge verifies and prices one outcome. An error means that a source could not answer and the outcome must be judged
// again; everything that is wrong with the outcome itself is a verdict.
func (j *judge) judge(ctx context.Context, m Message) (verdict, error) {
	v := verdict{seq: m.Seq}
	var err error
	if v.outcome, err = schemas.ParseOutcome(m.Header, nil); err != nil {
		return v.reject(RejectMalformed, err.Error()), nil
	}
	if v.outcome.Receipt == "" {
		return v, nil
	}
	c := &claim{hash: schemas.HashOf([]byte(v.outcome.Receipt))}
	if reason, err := j.verify(ctx, &v.outcome, c); err != nil {
		return v.failed(reason, err)
	}
	if reason, detail := j.compare(&v.outcome, c); reason != "" {
		return v.reject(reason, detail), nil
	}
	if reason, err := j.price(ctx, c); err != nil {
		return v.failed(reason, err)
	}
	if c.charge.Total > c.grant.Ceiling {
		return v.reject(RejectCeiling, c.charge.Total.String()+" is above "+c.grant.Ceiling.String()), nil
	}
	if c.charge.Total > MaxJobCharge {
		return v.reject(RejectPrice, "costs more than 1,000,000 TON"), nil
	}
	if c.job, err = jobBytes(v.outcome.Job); err != nil {
		return v.reject(RejectMalformed, err.Error()), nil
	}
	v.claim = c
	return v, nil
}

// reject closes a verdict.
func (v verdict) reject(reason Reason, detail string) verdict {
	v.reason, v.detail = reason, detail
	return v
}

// failed tells a final refusal from a source that is away: only the latter is an error.
func (v verdict) failed(reason Reason, err error) (verdict, error) {
	if reason == "" {
		return v, err
	}
	return v.reject(reason, err.Error()), nil
}

// verify checks the two signatures: the grant under the key of the broker it names, the receipt under the key of the
// worker that the grant names. An error without a reason is a source that could not answer.
func (j *judge) verify(ctx context.Context, o *schemas.Outcome, c *claim) (Reason, error) {
	id, err := grantBroker(o.Grant)
	if err != nil {
		return RejectGrant, err
	}
	key, err := j.key(ctx, id)
	if schemas.KindOf(err) == schemas.KindNotFound {
		return RejectBroker, err
	}
	if err != nil {
		return "", err
	}
	if c.grant, err = j.signatures.VerifyGrant(o.Grant, key); err != nil {
		return RejectGrant, err
	}
	if c.grant.Broker != id || len(c.grant.WorkerKey) != ed25519.PublicKeySize {
		return RejectGrant, schemas.FieldError("broker", "does not name the key that signed")
	}
	if c.receipt, err = j.signatures.VerifyReceipt(o.Receipt, c.grant.WorkerKey); err != nil {
		return RejectReceipt, err
	}
	return "", nil
}

// grantBroker reads, without believing it, which broker a grant says it is from. Once the signature is verified under
// that broker's key, the name has proved itself.
func grantBroker(jws string) (schemas.KeyID, error) {
	_, rest, ok := strings.Cut(jws, ".")
	payload, _, ok2 := strings.Cut(rest, ".")
	b, err := base64.RawURLEncoding.DecodeString(payload)
	var g struct {
		Broker string `json:"broker"`
	}
	if !ok || !ok2 || err != nil || json.Unmarshal(b, &g) != nil {
		return "", schemas.FieldError(schemas.HeaderGrant, "is not a compact JWS of a grant")
	}
	return schemas.ParseKeyID(g.Broker)
}

// key finds a broker's key; found keys are remembered, they never change.
func (j *judge) key(ctx context.Context, id schemas.KeyID) (ed25519.PublicKey, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if k := j.known[id]; k != nil {
		return k, nil
	}
	k, err := j.keys.BrokerKey(ctx, id)
	if err != nil {
		return nil, err
	}
	if j.known == nil || len(j.known) >= maxKnownKeys {
		j.known = map[schemas.KeyID]ed25519.PublicKey{}
	}
	j.known[id] = k
	return k, nil
}

// compare holds outcome, grant and receipt against each other and against the clock.
func (j *judge) compare(o *schemas.Outcome, c *claim) (Reason, string) {
	g, r := &c.grant, &c.receipt
	for _, rule := range []struct {
		ok     bool
		reason Reason
		detail string
	}{
		{g.V == 1 && r.V == 1, RejectMismatch, "form version is not 1"},
		{r.Grant == schemas.HashOf([]byte(o.Grant)), RejectMismatch, "the receipt is for another grant"},
		{g.Job == o.Job && r.Job == o.Job, RejectMismatch, "grant or receipt is for another job"},
		{g.Tenant == o.Tenant, RejectMismatch, "the grant is for another tenant"},
		{g.Model == o.Model && r.Model == o.Model, RejectMismatch, "grant or receipt is for another model"},
		{r.Worker == g.Worker && g.Worker == schemas.WorkerIDOf(g.WorkerKey), RejectMismatch, "the receipt is another worker's"},
		{r.Status == o.Status, RejectMismatch, "the receipt has another status"},
		{r.Seq > 0 && r.Seq < 1<<62, RejectMismatch, "the receipt has no number"},
		{owner(g.Owner), RejectMismatch, "the owner is not a TON address"},
		{g.Environment == j.environment, RejectEnvironment, "the grant is for " + string(g.Environment)},
		{!r.Finished.Before(r.Started) && !r.Started.Before(g.Issued.Add(-j.skew)), RejectTime, "the receipt's times are out of order"},
		{!r.Finished.After(j.now().Add(j.skew)), RejectTime, "the receipt is from the future"},
	} {
		if !rule.ok {
			return rule.reason, rule.detail
		}
	}
	return "", ""
}

// owner reports whether a grant names an address that can be paid.
func owner(o schemas.Owner) bool {
	_, err := schemas.ParseOwner(string(o))
	return err == nil
}

// price prices the usage under the catalogue version that the grant names.
func (j *judge) price(ctx context.Context, c *claim) (Reason, error) {
	book, err := j.books.get(ctx, j.catalogues, c.grant.Catalogue)
	if schemas.KindOf(err) == schemas.KindNotFound {
		return RejectCatalogue, err
	}
	if err != nil {
		return "", err
	}
	price, ok := book.prices[c.grant.Model]
	if !ok {
		return RejectPrice, schemas.Errorf(schemas.KindUnknownModel, "%s is not in catalogue %d", c.grant.Model, c.grant.Catalogue)
	}
	if c.charge, err = schemas.PriceOf(c.receipt.Usage, price, c.grant.Multiplier, book.catalogue.FeeBP); err != nil {
		return RejectPrice, err
	}
	return "", nil
}
