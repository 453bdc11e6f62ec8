package ledgertest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
)

// Network is a small network around a ledger.
type Network struct {
	t testing.TB
	// Ledger is the book; tests that restart put the new one here.
	Ledger *settlement.Ledger
	// Clock is what the ledger should use as LedgerOptions.Now.
	Clock *Clock
	// Broker signs grants, Model is the only model.
	Broker ed25519.PrivateKey
	Model  schemas.ModelID
	// Feed is the outcome stream.
	Feed *Feed

	mu      sync.Mutex
	numbers map[schemas.WorkerID]uint64
	jobs    uint64
}

// Clock is a clock that tests move.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock starts at a fixed time.
func NewClock() *Clock { return &Clock{now: time.Unix(1_790_000_000, 0).UTC()} }

// Now is the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Add moves the clock.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Feed is an outcome stream in memory.
type Feed struct {
	mu       sync.Mutex
	messages []settlement.Message
	grown    chan struct{}
}

var _ settlement.Feed = (*Feed)(nil)

// Append publishes an outcome and returns its position.
func (f *Feed) Append(m settlement.Message) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.Seq = uint64(len(f.messages)) + 1
	f.messages = append(f.messages, m)
	if f.grown != nil {
		close(f.grown)
		f.grown = nil
	}
	return m.Seq
}

// Len is the last position.
func (f *Feed) Len() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return uint64(len(f.messages))
}

// Read is settlement.Feed's.
func (f *Feed) Read(ctx context.Context, after uint64, limit int) ([]settlement.Message, error) {
	for {
		f.mu.Lock()
		if n := uint64(len(f.messages)); after < n {
			defer f.mu.Unlock()
			return f.messages[after:min(n, after+uint64(limit))], nil
		}
		if f.grown == nil {
			f.grown = make(chan struct{})
		}
		grown := f.grown
		f.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Key makes a key from a name.
func Key(name string) ed25519.PrivateKey {
	s := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(s[:])
}

// Owner is the nth owner address.
func Owner(n int) schemas.Owner {
	const digits = "0123456789abcdef"
	b := []byte("0:0000000000000000000000000000000000000000000000000000000000000000")
	for i := len(b) - 1; n > 0; i-- {
		b[i] = digits[n&15]
		n >>= 4
	}
	return schemas.Owner(b)
}

// TenantID is the id of a named tenant.
func TenantID(name string) schemas.TenantID {
	sum := sha256.Sum256([]byte(name))
	enc := base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	return schemas.TenantID("t" + enc.EncodeToString(sum[:10]))
}

// WorkerID is the id of a named worker.
func WorkerID(name string) schemas.WorkerID {
	return schemas.WorkerIDOf(Key(name).Public().(ed25519.PublicKey))
}

// NewNetwork adds catalogue version 1 and the broker's key to a ledger. The catalogue's only model costs 100,000
// nanoTON per prompt token and twice that per completion token, and the network takes a tenth.
func NewNetwork(t testing.TB, ledger *settlement.Ledger, clock *Clock) *Network {
	t.Helper()
	n := &Network{
		t: t, Ledger: ledger, Clock: clock, Broker: Key("broker"), Feed: &Feed{}, numbers: map[schemas.WorkerID]uint64{},
		Model: schemas.ModelRef{Name: "tiny", Revision: "1", Root: schemas.HashOf([]byte("weights"))}.ID(),
	}
	if err := ledger.AddCatalogue(t.Context(), n.Catalogue(1)); err != nil {
		t.Fatal(err)
	}
	if err := ledger.AddBrokerKey(t.Context(), n.Broker.Public().(ed25519.PublicKey)); err != nil {
		t.Fatal(err)
	}
	return n
}

// Catalogue is a price book.
func (n *Network) Catalogue(version uint64) *schemas.Catalogue {
	ref, err := schemas.ParseModelID(string(n.Model))
	if err != nil {
		n.t.Fatal(err)
	}
	issued := time.Unix(1_790_000_000, 0).UTC()
	return &schemas.Catalogue{
		V: 1, Version: version, Issued: issued, Expires: issued.Add(24 * time.Hour), Environment: schemas.Simulated, FeeBP: 1000,
		Classes: map[schemas.Class]schemas.BasisPoints{schemas.Priority: 20_000, schemas.Standard: 10_000, schemas.Batch: 5_000},
		Models: []schemas.Model{{
			ID: n.Model, Slug: ref.Slug(), Format: "gguf", Context: 4096, Endpoints: []string{"/v1/chat/completions"},
			Price: schemas.Price{Prompt: 100 * schemas.TON, Cached: 10 * schemas.TON, Completion: 200 * schemas.TON, Reasoning: 200 * schemas.TON},
		}},
	}
}

// Tenant opens an account and funds it, when funds are above 0.
func (n *Network) Tenant(name string, funds schemas.NanoTON) schemas.TenantID {
	n.t.Helper()
	made, err := n.Ledger.CreateTenant(n.t.Context(), settlement.Tenant{ID: TenantID(name), Name: name, Key: Key(name).Public().(ed25519.PublicKey)})
	if err != nil {
		n.t.Fatal(err)
	}
	if funds > 0 {
		if err := n.Ledger.Fund(n.t.Context(), made.ID, funds, "first money of "+name); err != nil {
			n.t.Fatal(err)
		}
	}
	return made.ID
}

// Work is one job as a test describes it.
type Work struct {
	Tenant schemas.TenantID
	// Worker is a name; its key is Key(Worker).
	Worker string
	Owner  schemas.Owner
	Usage  schemas.Usage
	// Ceiling is 1 TON when 0.
	Ceiling schemas.NanoTON
	// Grant and Receipt may spoil the documents before they are signed, Outcome what carries them.
	Grant   func(*schemas.Grant)
	Receipt func(*schemas.Receipt)
	Outcome func(*schemas.Outcome)
}

// Do makes an outcome and publishes it. It returns the job and the receipt's compact JWS.
func (n *Network) Do(w Work) (schemas.JobID, string) {
	n.t.Helper()
	o := n.Outcome(w)
	n.Feed.Append(settlement.Message{Header: o.Header()})
	return o.Job, o.Receipt
}

// Outcome makes an outcome without publishing it.
func (n *Network) Outcome(w Work) schemas.Outcome {
	n.t.Helper()
	g, r := n.documents(w)
	if w.Grant != nil {
		w.Grant(&g)
	}
	grant, err := enclave.SignGrant(n.Broker, g)
	if err != nil {
		n.t.Fatal(err)
	}
	r.Grant = schemas.HashOf([]byte(grant))
	if w.Receipt != nil {
		w.Receipt(&r)
	}
	receipt, err := enclave.SignReceipt(Key(w.Worker), r)
	if err != nil {
		n.t.Fatal(err)
	}
	o := schemas.Outcome{Job: g.Job, Tenant: g.Tenant, Model: g.Model, Status: schemas.Succeeded, Grant: grant, Receipt: receipt}
	if w.Outcome != nil {
		w.Outcome(&o)
	}
	return o
}

// documents makes a grant and the receipt that goes with it.
func (n *Network) documents(w Work) (schemas.Grant, schemas.Receipt) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.jobs++
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("job"), n.jobs))
	key := Key(w.Worker).Public().(ed25519.PublicKey)
	worker := WorkerID(w.Worker)
	n.numbers[worker]++
	ceiling := w.Ceiling
	if ceiling == 0 {
		ceiling = schemas.TON
	}
	now := n.Clock.Now()
	g := schemas.Grant{
		V: 1, Job: schemas.JobIDFrom([16]byte(sum[:16])), Tenant: w.Tenant, Model: n.Model, Class: schemas.Standard, Attempt: 1,
		Envelope: schemas.HashOf(sum[:]), Worker: worker, WorkerKey: key, Owner: w.Owner, Catalogue: 1, Multiplier: schemas.One,
		Ceiling: ceiling, Policy: 1, Environment: schemas.Simulated, Broker: schemas.KeyIDOf(n.Broker.Public().(ed25519.PublicKey)),
		Issued: now.Add(-2 * time.Second), Lease: now.Add(time.Minute),
	}
	r := schemas.Receipt{
		V: 1, Job: g.Job, Worker: worker, Model: n.Model, Usage: w.Usage, Status: schemas.Succeeded, Result: schemas.HashOf(sum[:16]),
		Seq: n.numbers[worker], Started: now.Add(-time.Second), Finished: now,
	}
	if r.Seq > 1 {
		r.Prev = schemas.HashOf(sum[:8])
	}
	return g, r
}

// Intake is an intake on the network's stream.
func (n *Network) Intake() settlement.IntakeConfig {
	return settlement.IntakeConfig{Ledger: n.Ledger, Feed: n.Feed, Environment: schemas.Simulated, Retry: time.Millisecond}
}

// Book books everything in the stream and checks the book.
func (n *Network) Book() settlement.IntakeStats {
	n.t.Helper()
	in, err := settlement.NewIntake(n.Intake())
	if err != nil {
		n.t.Fatal(err)
	}
	for n.Position() < n.Feed.Len() {
		if _, err := in.Step(n.t.Context()); err != nil {
			n.t.Fatal(err)
		}
	}
	n.Check()
	return in.Stats()
}

// Position is how far the ledger has read.
func (n *Network) Position() uint64 {
	n.t.Helper()
	at, err := n.Ledger.Position(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	return at
}

// Check audits the book.
func (n *Network) Check() {
	n.t.Helper()
	if err := n.Ledger.Check(context.Background()); err != nil {
		n.t.Fatal(err)
	}
	if sum, err := n.Ledger.Sum(context.Background()); err != nil || sum != 0 {
		n.t.Fatalf("the postings add up to %d, %v", sum, err)
	}
}

// Balance is an account's balance.
func (n *Network) Balance(account string) schemas.NanoTON {
	n.t.Helper()
	have, err := n.Ledger.AccountBalance(context.Background(), account)
	if err != nil {
		n.t.Fatal(err)
	}
	return have
}

// NoneRejected fails the test with the reasons when outcomes were rejected.
func (n *Network) NoneRejected() {
	n.t.Helper()
	all, err := n.Ledger.Rejections(context.Background(), 5)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, r := range all {
		n.t.Errorf("outcome %d rejected: %s: %s", r.Seq, r.Reason, r.Detail)
	}
}
