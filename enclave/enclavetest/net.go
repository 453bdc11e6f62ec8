// Package enclavetest is a small confidential network for tests: simulated hardware, a policy and a catalogue in force, a
// broker, funded tenants and workers, all real but for the hardware, and no transport between them but function calls.
//
// [New] makes the network. [Net.Tenant] makes a tenant with credit, [Net.Key] verifies the model's key as a producer
// would, [Net.Session] boots and attests a worker. [Net.Call] is the transport; tests wrap it to lose, change, repeat or
// redirect calls. [Net.Run] takes one job the whole way.
//
// The world's clock follows time.Now whenever evidence is judged, so the network also lives inside a synctest bubble.
//
// The package imports testing; only tests import it.
package enclavetest

import (
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/schemas"
)

// Model is the model of the network.
const Model = attesttest.Model

// Budget is the ceiling of the jobs that Run makes, and Funds the credit of a new tenant.
const (
	Budget = schemas.TON / 1000
	Funds  = 10 * schemas.TON
)

// Net is the network.
type Net struct {
	World     *attesttest.World
	Broker    *broker.Broker
	Credit    *Credit
	Catalogue *Catalogue
	Decisions *Decisions
}

// New makes a network with one broker; adjust may change its configuration.
func New(t testing.TB, adjust ...func(*broker.Config)) *Net {
	t.Helper()
	time.Sleep(time.Until(attesttest.Start)) // passes at once: only the clock of a bubble begins before the world does
	n := &Net{
		World: attesttest.New(t), Credit: &Credit{accounts: map[schemas.TenantID]schemas.Credit{}},
		Catalogue: &Catalogue{current: NewCatalogue()}, Decisions: &Decisions{},
	}
	n.sync()
	n.Broker = n.NewBroker(t, append([]func(*broker.Config){func(c *broker.Config) { c.Found = true }}, adjust...)...)
	return n
}

// sync sets the world's clock to time.Now.
func (n *Net) sync() { n.World.Sleep(time.Since(n.World.Now()).Truncate(time.Second)) }

// Verify implements enclave.Verifier with the clock of the caller.
func (n *Net) Verify(ctx context.Context, e schemas.Evidence, nonce [32]byte) (*attest.Admission, error) {
	n.sync()
	return n.World.Verifier.Verify(ctx, e, nonce)
}

// NewBroker makes a further broker on a machine of its own.
func (n *Net) NewBroker(t testing.TB, adjust ...func(*broker.Config)) *broker.Broker {
	t.Helper()
	b, err := broker.New(t.Context(), n.Config(t, adjust...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Config is the configuration of a broker on a machine of its own.
func (n *Net) Config(t testing.TB, adjust ...func(*broker.Config)) broker.Config {
	t.Helper()
	cfg := broker.Config{
		Attester: n.World.Boot(t, sim.MachineSpec{Name: "broker", Image: attesttest.BrokerImage, PolicyRoot: n.World.Trust.Roots.Hash()}),
		Verifier: n, Policies: n.World.Keeper, Catalogues: n.Catalogue, Credit: n.Credit, Audit: n.Decisions.record,
		Verifications: 10_000,
	}
	for _, f := range adjust {
		f(&cfg)
	}
	return cfg
}

// Call is the transport to the broker.
func (n *Net) Call(ctx context.Context, verb enclave.Verb, request []byte) ([]byte, error) {
	return n.Broker.Handle(ctx, verb, request)
}

// Tenant makes a tenant with Funds.
func (n *Net) Tenant(t testing.TB) *enclave.Tenant {
	t.Helper()
	tenant, err := enclave.NewTenant()
	if err != nil {
		t.Fatal(err)
	}
	n.Credit.Set(tenant.ID(), schemas.Credit{V: 1, Available: Funds, Key: tenant.Public(), Updated: time.Now().UTC().Truncate(time.Second)})
	return tenant
}

// Key is the model's key, verified.
func (n *Net) Key(t testing.TB) *enclave.TrustedKey {
	t.Helper()
	published, err := n.Broker.Key(t.Context(), Model)
	if err != nil {
		t.Fatal(err)
	}
	key, err := enclave.VerifyKey(t.Context(), n, Model, published)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// NewSession boots a worker that has not attested yet.
func (n *Net) NewSession(t testing.TB, adjust ...func(*enclave.SessionConfig)) *enclave.Session {
	t.Helper()
	cfg := enclave.SessionConfig{Attester: n.World.Boot(t, n.World.Spec()), Verifier: n, Owner: attesttest.Owner}
	for _, f := range adjust {
		f(&cfg)
	}
	s, err := enclave.NewSession(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Session boots and attests a worker.
func (n *Net) Session(t testing.TB, adjust ...func(*enclave.SessionConfig)) *enclave.Session {
	t.Helper()
	s := n.NewSession(t, adjust...)
	if err := s.Attest(t.Context(), n.Call); err != nil {
		t.Fatal(err)
	}
	return s
}

// Limit is what the tenants of the network pay: the class's multiplier.
func (n *Net) Limit() enclave.SpendLimit {
	return enclave.SpendLimit{Multiplier: schemas.One}
}

// Seal seals one job with a body.
func (n *Net) Seal(t testing.TB, s *enclave.Submission, body string) enclave.SealedJob {
	t.Helper()
	sealed, err := s.Seal(schemas.Attributes{Budget: Budget}, schemas.Request{URL: "/v1/chat/completions", Body: []byte(body)}, n.Limit())
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// Candidate is a sealed job as a worker pulls it.
func Candidate(j enclave.SealedJob) enclave.Candidate {
	return enclave.Candidate{Attributes: j.Attributes, Envelope: j.Envelope}
}

// Grant gets one job granted and opened.
func (n *Net) Grant(t testing.TB, s *enclave.Session, j enclave.SealedJob) *enclave.OpenJob {
	t.Helper()
	granted, err := s.Grant(t.Context(), n.Call, []enclave.Candidate{Candidate(j)})
	if err != nil {
		t.Fatal(err)
	}
	if granted[0].Err != nil {
		t.Fatal(granted[0].Err)
	}
	return granted[0].Job
}

// Run takes a job the whole way: the answer is a JSON string of the body and one token of each kind is charged.
func (n *Net) Run(t testing.TB, s *enclave.Session, j enclave.SealedJob) schemas.Outcome {
	t.Helper()
	job := n.Grant(t, s, j)
	outcome, err := job.Finish(Result(job.Request.Body), time.Now(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return outcome
}

// Result is an answer.
func Result(body []byte) schemas.Result {
	return schemas.Result{Status: 200, ContentType: "application/json", Body: body, FinishReason: "stop", Usage: schemas.Usage{Prompt: 7, Completion: 3}}
}

// NewCatalogue is a catalogue with Model.
func NewCatalogue() *schemas.Catalogue {
	ref, err := schemas.ParseModelID(string(Model))
	if err != nil {
		panic("enclavetest: " + err.Error())
	}
	return &schemas.Catalogue{
		V: 1, Version: 3, Issued: attesttest.Start, Expires: attesttest.Start.Add(90 * 24 * time.Hour), Environment: schemas.Simulated,
		Classes: map[schemas.Class]schemas.BasisPoints{schemas.Priority: 20_000, schemas.Standard: 10_000, schemas.Batch: 5_000},
		FeeBP:   500,
		Models: []schemas.Model{{
			ID: Model, Slug: ref.Slug(), Format: "gguf", Context: 4096, Endpoints: []string{"/v1/chat/completions"},
			Price: schemas.Price{Prompt: 1_000_000, Cached: 100_000, Completion: 4_000_000, Reasoning: 4_000_000},
		}},
	}
}

// Catalogue implements broker.Catalogues.
type Catalogue struct {
	mu      sync.Mutex
	current *schemas.Catalogue
}

// Current returns the catalogue in force.
func (c *Catalogue) Current() (*schemas.Catalogue, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		return nil, &schemas.Error{Kind: schemas.KindUnavailable, Field: "catalogue", Message: "none has been received yet"}
	}
	return c.current, nil
}

// Set replaces the catalogue in force; nil: there is none.
func (c *Catalogue) Set(catalogue *schemas.Catalogue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = catalogue
}

// Credit implements broker.Credit.
type Credit struct {
	mu       sync.Mutex
	accounts map[schemas.TenantID]schemas.Credit
}

// Account returns what was set.
func (c *Credit) Account(_ context.Context, tenant schemas.TenantID) (schemas.Credit, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.accounts[tenant]
	if !ok {
		return a, &schemas.Error{Kind: schemas.KindNotFound, Message: "no such tenant"}
	}
	return a, nil
}

// Set says something new about a tenant.
func (c *Credit) Set(tenant schemas.TenantID, a schemas.Credit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accounts[tenant] = a
}

// Decisions collects a broker's audit record.
type Decisions struct {
	mu  sync.Mutex
	all []broker.Decision
}

// record takes one decision.
func (d *Decisions) record(decision broker.Decision) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, decision)
}

// All returns the decisions so far.
func (d *Decisions) All() []broker.Decision {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]broker.Decision(nil), d.all...)
}

// KeyPair is a verified key of the model whose private part the test holds, as if it were the broker.
func (n *Net) KeyPair(t testing.TB) (*enclave.TrustedKey, hpke.PrivateKey) {
	t.Helper()
	machine := n.World.Boot(t, sim.MachineSpec{Name: "broker", Image: attesttest.BrokerImage, PolicyRoot: n.World.Trust.Roots.Hash()})
	private, claims := n.Claims(t, schemas.RoleBroker)
	public, sign, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	claims.Sign = public
	made := n.World.Attest(t, machine, claims, [32]byte{})
	evidence, err := made.Encode()
	if err != nil {
		t.Fatal(err)
	}
	policy, err := n.World.Keeper.Current()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	bundle, err := enclave.SignKeyBundle(sign, schemas.KeyBundle{
		V: 1, Model: Model, Key: schemas.KeyIDOf(claims.HPKE), Suite: schemas.Suite, PublicKey: claims.HPKE, ActiveFrom: now,
		ActiveUntil: now.Add(time.Hour), DecryptUntil: now.Add(49 * time.Hour), Policy: policy.Hash, PolicyVersion: policy.Version,
		Catalogue: 1, Environment: schemas.Simulated, Broker: public,
	})
	if err != nil {
		t.Fatal(err)
	}
	published, err := schemas.NewPublishedKey(bundle, evidence).Encode()
	if err != nil {
		t.Fatal(err)
	}
	key, err := enclave.VerifyKey(t.Context(), n, Model, published)
	if err != nil {
		t.Fatal(err)
	}
	return key, private
}

// WorkerPair is a verified worker whose private key the test holds.
func (n *Net) WorkerPair(t testing.TB) (*enclave.TrustedWorker, hpke.PrivateKey) {
	t.Helper()
	private, claims := n.Claims(t, schemas.RoleWorker)
	made := n.World.Attest(t, n.World.Boot(t, n.World.Spec()), claims, [32]byte{})
	evidence, err := made.Encode()
	if err != nil {
		t.Fatal(err)
	}
	worker, err := enclave.VerifyWorker(t.Context(), n, Model, evidence)
	if err != nil {
		t.Fatal(err)
	}
	return worker, private
}

// Claims are claims with an HPKE key that the test holds.
func (n *Net) Claims(t testing.TB, role schemas.Role) (hpke.PrivateKey, schemas.Claims) {
	t.Helper()
	n.sync()
	private, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	claims := n.World.Claims(t, role)
	claims.HPKE = private.PublicKey().Bytes()
	return private, claims
}
