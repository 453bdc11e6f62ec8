package service_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/chaintest"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
	"github.com/cocoon-network/cocoon/settlement/service"
	"github.com/cocoon-network/cocoon/settlement/ton"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/xssnick/tonutils-go/liteclient.init.0.func1"))
}

// bundle is a network in which only settlement is missing.
type bundle struct {
	bus    *streams.Bus
	net    *enclavetest.Net
	ledger *settlement.Ledger
	trust  schemas.Trust
	root   ed25519.PrivateKey
}

// setup starts it. Nothing is published yet.
func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{bus: streamstest.New(t), net: enclavetest.New(t), root: ledgertest.Key("root")}
	roots, err := schemas.NewRootKeys(1, b.root.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	b.trust = schemas.Trust{Roots: roots, Environment: schemas.Simulated}
	if b.ledger, err = settlement.OpenLedger(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), settlement.LedgerOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.ledger.Close() })
	return b
}

// publish puts a catalogue, signed by a key, and the broker's key into their buckets.
func (b *bundle) publish(t *testing.T, key ed25519.PrivateKey) {
	t.Helper()
	c := enclavetest.NewCatalogue()
	signed, err := schemas.SignDocument(c, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.bus.Bucket(streams.BucketCatalogue).Put(t.Context(), "current", raw); err != nil {
		t.Fatal(err)
	}
	published, err := b.net.Broker.Key(t.Context(), attesttest.Model)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.bus.Bucket(streams.BucketKeys).Put(t.Context(), c.Models[0].Slug, published); err != nil {
		t.Fatal(err)
	}
}

// work has jobs of a tenant done and their outcomes published.
func (b *bundle) work(t *testing.T, tenant *enclave.Tenant, jobs int) []schemas.Outcome {
	t.Helper()
	submission, worker := enclave.NewSubmission(tenant, b.net.Key(t)), b.net.Session(t)
	var all []schemas.Outcome
	for range jobs {
		o := b.net.Run(t, worker, b.net.Seal(t, submission, `"hello"`))
		if first, err := b.bus.PublishOutcome(t.Context(), o); err != nil || !first {
			t.Fatalf("publish: %v %v", first, err)
		}
		all = append(all, o)
	}
	return all
}

// eventually waits for something that a running service does.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatal("waited too long for " + what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// TestReceiptsBecomeMoney: outcomes of real enclaves on a real bus are booked, credit is published, and the owner is
// paid on the devnet; the statement is in its bucket.
func TestReceiptsBecomeMoney(t *testing.T) {
	b := setup(t)
	b.publish(t, b.root)
	tenant := b.net.Tenant(t)
	if _, err := b.ledger.CreateTenant(t.Context(), settlement.Tenant{ID: tenant.ID(), Key: tenant.Public()}); err != nil {
		t.Fatal(err)
	}
	if err := b.ledger.Fund(t.Context(), tenant.ID(), 5*schemas.TON, "invoice 1"); err != nil {
		t.Fatal(err)
	}
	devnet := chaintest.New(t, chaintest.Options{})
	treasury, err := devnet.Connect(t).Treasury(ledgertest.Key("treasury"), ton.TreasuryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	devnet.Fund(t, treasury.Address(), 20*schemas.TON)
	devnet.Settle(t)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- service.Run(ctx, service.Config{
			Ledger: b.ledger, Bus: b.bus, Trust: b.trust, Verifier: b.net, Treasury: treasury,
			Poll: 10 * time.Millisecond, Payouts: settlement.PayerConfig{Threshold: 1},
		})
	}()
	outcomes := b.work(t, tenant, 3)
	const each = 7 + 12 // seven prompt and three completion tokens at 1 and 4 nanoTON
	eventually(t, "the receipts", func() bool { at, err := b.ledger.Position(t.Context()); return err == nil && at == 3 })
	if bad, err := b.ledger.Rejections(t.Context(), 1); err != nil || len(bad) > 0 {
		t.Fatalf("rejected: %+v, %v", bad, err)
	}
	eventually(t, "the credit", func() bool {
		e, err := b.bus.Bucket(streams.BucketCredit).Get(t.Context(), string(tenant.ID()))
		if err != nil {
			return false
		}
		c, err := schemas.ParseCredit(e.Value)
		return err == nil && c.Through == 3 && c.Available == schemas.TON
	})
	eventually(t, "the payout", func() bool {
		devnet.Step(t, time.Second)
		return devnet.Received(t, attesttest.Owner, treasury.Address()) == 3*each
	})
	eventually(t, "the book to follow", func() bool {
		devnet.Step(t, time.Second)
		s, err := b.ledger.Payouts(t.Context())
		return err == nil && s.Paid == 3*each && s.Inflight == 0
	})
	scrape(t, b, treasury)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	job, err := enclave.VerifyReceipt(outcomes[0].Receipt, mustWorker(t, outcomes[0].Grant))
	if err != nil {
		t.Fatal(err)
	}
	proof, err := b.ledger.Proof(t.Context(), job.Job)
	if err != nil {
		t.Fatal(err)
	}
	root, err := proof.Verify(outcomes[0].Receipt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := settlement.FindPayment(t.Context(), treasury, proof, root); err != nil {
		t.Fatal(err)
	}
	records, err := service.NewJournal(b.bus.Bucket(streams.BucketStatements)).After(t.Context(), 0, 10)
	if err != nil || len(records) == 0 {
		t.Errorf("%d statements in the bucket, %v", len(records), err)
	}
	feed := service.NewFeed(b.bus)
	defer feed.Close()
	report, err := settlement.Reconcile(t.Context(), settlement.ReconcileConfig{
		Ledger: b.ledger, Treasury: treasury, Intake: &settlement.IntakeConfig{Feed: feed, Environment: schemas.Simulated},
	})
	if err != nil || len(report.Differences) > 0 || report.Receipts != 3 {
		t.Errorf("reconcile: %+v, %v", report, err)
	}
}

// scrape reads the metrics of the services over HTTP.
func scrape(t *testing.T, b *bundle, treasury settlement.Treasury) {
	t.Helper()
	s, err := service.New(service.Config{Ledger: b.ledger, Bus: b.bus, Trust: b.trust, Verifier: b.net, Treasury: treasury})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Feed.Close()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(s); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "/" + l.GetValue()
			}
			have[name] = m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"cocoon_settlement_ledger_up": 1, "cocoon_settlement_lag_outcomes": 0, "cocoon_settlement_payouts_stopped": 0,
		"cocoon_settlement_amount_nanoton/paid": 3 * 19, "cocoon_settlement_amount_nanoton/owed": 0,
	} {
		if got, ok := have[name]; !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", name, got, ok, want)
		}
	}
}

// mustWorker is the key that a grant names.
func mustWorker(t *testing.T, grant string) ed25519.PublicKey {
	t.Helper()
	g, _, err := enclave.ReadGrant(grant)
	if err != nil {
		t.Fatal(err)
	}
	return g.WorkerKey
}

// TestLibraryBelievesNobody: a catalogue under another root and a key whose broker does not verify are passed over, and
// what verifies later is found by looking again.
func TestLibraryBelievesNobody(t *testing.T) {
	b := setup(t)
	b.publish(t, ledgertest.Key("mallory"))
	lib, err := service.NewLibrary(service.LibraryConfig{
		Ledger: b.ledger, Catalogues: b.bus.Bucket(streams.BucketCatalogue), Keys: b.bus.Bucket(streams.BucketKeys), Trust: b.trust, Verifier: b.net,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lib.Catalogue(t.Context(), 3); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("catalogue of a stranger: %v", err)
	}
	id := schemas.KeyIDOf(b.net.Broker.Public())
	if _, err := lib.BrokerKey(t.Context(), id); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("key without a catalogue: %v", err)
	}
	b.publish(t, b.root)
	if c, err := lib.Catalogue(t.Context(), 3); err != nil || c.Version != 3 {
		t.Errorf("catalogue: %v", err)
	}
	if _, err := lib.BrokerKey(t.Context(), id); err != nil {
		t.Errorf("key: %v", err)
	}
	if _, err := lib.BrokerKey(t.Context(), schemas.KeyIDOf([]byte("made up"))); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("key that nobody has: %v", err)
	}
}

// TestJournalOverBus: records are written once; numbers may be missing; a write whose answer was lost can be repeated.
func TestJournalOverBus(t *testing.T) {
	ctx := t.Context()
	faults := &streamstest.Faults{}
	bus, _ := streamstest.NewWith(t, streamstest.Options{Config: streams.Config{Intercept: faults.Intercept}})
	faults.Set(streamstest.First(streams.OpBucket, streamstest.DoneButError))
	j := service.NewJournal(bus.Bucket(streams.BucketStatements))
	for _, n := range []uint64{1, 2, 5, 11} {
		for range 2 {
			if err := j.Put(ctx, n, []byte{byte(n)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.Put(ctx, 5, []byte("other")); !errors.Is(err, schemas.KindConflict) {
		t.Errorf("another record under a used number: %v", err)
	}
	records, err := j.After(ctx, 1, 2)
	if err != nil || len(records) != 2 || records[0][0] != 2 || records[1][0] != 5 {
		t.Errorf("records %v, %v", records, err)
	}
}
