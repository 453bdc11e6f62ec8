package settlement

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// kit is a small network: a ledger, a broker, workers, tenants, and the outcome stream they write.
type kit struct {
	t       testing.TB
	ledger  *Ledger
	path    string
	now     time.Time
	broker  ed25519.PrivateKey
	model   schemas.ModelID
	feed    *memFeed
	numbers map[schemas.WorkerID]uint64
	jobs    uint64
}

// memFeed is an outcome stream in memory.
type memFeed struct {
	mu       sync.Mutex
	messages []Message
}

func (f *memFeed) Read(ctx context.Context, after uint64, limit int) ([]Message, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if after >= uint64(len(f.messages)) {
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		return nil, ctx.Err()
	}
	end := min(uint64(len(f.messages)), after+uint64(limit))
	return f.messages[after:end], nil
}

// seed makes a key from a name.
func seed(name string) ed25519.PrivateKey {
	s := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(s[:])
}

// newKit opens a ledger in a temporary folder.
func newKit(t testing.TB) *kit {
	t.Helper()
	k := &kit{
		t: t, path: filepath.Join(t.TempDir(), "ledger.db"), now: time.Unix(1_790_000_000, 0).UTC(), broker: seed("broker"),
		model: schemas.ModelRef{Name: "tiny", Revision: "1", Root: schemas.HashOf([]byte("weights"))}.ID(),
		feed:  &memFeed{}, numbers: map[schemas.WorkerID]uint64{},
	}
	k.open()
	ctx := t.Context()
	if err := k.ledger.AddCatalogue(ctx, k.catalogue(1)); err != nil {
		t.Fatal(err)
	}
	if err := k.ledger.AddBrokerKey(ctx, k.broker.Public().(ed25519.PublicKey)); err != nil {
		t.Fatal(err)
	}
	return k
}

// open opens the ledger at the kit's path; tests close and open it to restart.
func (k *kit) open() {
	k.t.Helper()
	l, err := OpenLedger(context.Background(), k.path, LedgerOptions{Now: func() time.Time { return k.now }})
	if err != nil {
		k.t.Fatal(err)
	}
	k.ledger = l
	k.t.Cleanup(func() { _ = l.Close() })
}

// catalogue is a price book: 100 TON per million prompt tokens, so that one token costs 100,000 nanoTON.
func (k *kit) catalogue(version uint64) *schemas.Catalogue {
	ref, _ := schemas.ParseModelID(string(k.model))
	return &schemas.Catalogue{
		V: 1, Version: version, Issued: k.now, Expires: k.now.Add(24 * time.Hour), Environment: schemas.Simulated, FeeBP: 1000,
		Classes: map[schemas.Class]schemas.BasisPoints{schemas.Priority: 20_000, schemas.Standard: 10_000, schemas.Batch: 5_000},
		Models: []schemas.Model{{
			ID: k.model, Slug: ref.Slug(), Format: "gguf", Context: 4096, Endpoints: []string{"/v1/chat/completions"},
			Price: schemas.Price{Prompt: 100 * schemas.TON, Cached: 10 * schemas.TON, Completion: 200 * schemas.TON, Reasoning: 200 * schemas.TON},
		}},
	}
}

// tenant opens and funds an account.
func (k *kit) tenant(name string, funds schemas.NanoTON) schemas.TenantID {
	k.t.Helper()
	sum := sha256.Sum256([]byte(name))
	id := schemas.TenantID("t" + jobEncoding.EncodeToString(sum[:10]))
	made, err := k.ledger.CreateTenant(k.t.Context(), Tenant{ID: id, Name: name, Key: seed(name).Public().(ed25519.PublicKey)})
	if err != nil {
		k.t.Fatal(err)
	}
	if funds > 0 {
		if err := k.ledger.Fund(k.t.Context(), made.ID, funds, "first "+name); err != nil {
			k.t.Fatal(err)
		}
	}
	return id
}

// work is one job as a test describes it.
type work struct {
	tenant  schemas.TenantID
	worker  string
	owner   schemas.Owner
	usage   schemas.Usage
	ceiling schemas.NanoTON
	// grant and receipt may spoil the documents before they are signed, outcome the message.
	grant   func(*schemas.Grant)
	receipt func(*schemas.Receipt)
	outcome func(*schemas.Outcome)
}

// do signs grant and receipt and appends the outcome to the stream; it returns the receipt.
func (k *kit) do(w work) (job schemas.JobID, receipt string) {
	k.t.Helper()
	m, job, receipt := k.message(w)
	k.feed.mu.Lock()
	defer k.feed.mu.Unlock()
	m.Seq = uint64(len(k.feed.messages)) + 1
	k.feed.messages = append(k.feed.messages, m)
	return job, receipt
}

// message makes an outcome without publishing it.
func (k *kit) message(w work) (Message, schemas.JobID, string) {
	k.t.Helper()
	k.jobs++
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("job"), k.jobs))
	worker := seed(w.worker)
	key := worker.Public().(ed25519.PublicKey)
	if w.ceiling == 0 {
		w.ceiling = schemas.TON
	}
	g := schemas.Grant{
		V: 1, Job: schemas.JobIDFrom([16]byte(sum[:16])), Tenant: w.tenant, Model: k.model, Class: schemas.Standard, Attempt: 1,
		Envelope: schemas.HashOf(sum[:]), Worker: schemas.WorkerIDOf(key), WorkerKey: key, Owner: w.owner, Catalogue: 1, Multiplier: schemas.One,
		Ceiling: w.ceiling, Policy: 1, Environment: schemas.Simulated, Broker: schemas.KeyIDOf(k.broker.Public().(ed25519.PublicKey)),
		Issued: k.now.Add(-2 * time.Second), Lease: k.now.Add(time.Minute),
	}
	if w.grant != nil {
		w.grant(&g)
	}
	o := schemas.Outcome{Job: g.Job, Tenant: g.Tenant, Model: g.Model, Status: schemas.Succeeded}
	var err error
	if o.Grant, err = enclave.SignGrant(k.broker, g); err != nil {
		k.t.Fatal(err)
	}
	k.numbers[g.Worker]++
	r := schemas.Receipt{
		V: 1, Job: g.Job, Grant: schemas.HashOf([]byte(o.Grant)), Worker: g.Worker, Model: g.Model, Usage: w.usage, Status: schemas.Succeeded,
		Result: schemas.HashOf(sum[:16]), Seq: k.numbers[g.Worker], Started: k.now.Add(-time.Second), Finished: k.now,
	}
	if r.Seq > 1 {
		r.Prev = schemas.HashOf([]byte("the receipt before"))
	}
	if w.receipt != nil {
		w.receipt(&r)
	}
	if o.Receipt, err = enclave.SignReceipt(worker, r); err != nil {
		k.t.Fatal(err)
	}
	if w.outcome != nil {
		w.outcome(&o)
	}
	return Message{Header: o.Header()}, g.Job, o.Receipt
}

// config is an intake on the kit's stream.
func (k *kit) config() IntakeConfig {
	return IntakeConfig{Ledger: k.ledger, Feed: k.feed, Environment: schemas.Simulated, Retry: time.Millisecond}
}

// book books everything in the stream and checks the book.
func (k *kit) book() IntakeStats {
	k.t.Helper()
	in, err := NewIntake(k.config())
	if err != nil {
		k.t.Fatal(err)
	}
	for {
		at, err := k.ledger.Position(k.t.Context())
		if err != nil {
			k.t.Fatal(err)
		}
		if at == uint64(len(k.feed.messages)) {
			break
		}
		if _, err := in.Step(k.t.Context()); err != nil {
			k.t.Fatal(err)
		}
	}
	k.check()
	return in.Stats()
}

// rejected fails the test with the reasons when outcomes were rejected.
func (k *kit) rejected() {
	k.t.Helper()
	all, err := k.ledger.Rejections(k.t.Context(), 5)
	if err != nil {
		k.t.Fatal(err)
	}
	for _, r := range all {
		k.t.Errorf("outcome %d rejected: %s: %s", r.Seq, r.Reason, r.Detail)
	}
}

// check audits the book.
func (k *kit) check() {
	k.t.Helper()
	if err := k.ledger.Check(context.Background()); err != nil {
		k.t.Fatal(err)
	}
	if sum, err := k.ledger.Sum(context.Background()); err != nil || sum != 0 {
		k.t.Fatalf("the postings add up to %d, %v", sum, err)
	}
}

// balance is an account's balance.
func (k *kit) balance(name string) schemas.NanoTON {
	k.t.Helper()
	n, err := k.ledger.AccountBalance(context.Background(), name)
	if err != nil {
		k.t.Fatal(err)
	}
	return n
}
