package settlement_test

import (
	"encoding/json"
	"testing"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
)

// FuzzProof: a proof that parses spells again to one that parses to the same, and verifying it never panics.
func FuzzProof(f *testing.F) {
	w := newWorld(f, 20*schemas.TON)
	alice := w.Tenant("alice", 50*schemas.TON)
	var jobs []schemas.JobID
	var receipts []string
	for i := range 5 {
		job, r := w.Do(ledgertest.Work{Tenant: alice, Worker: "w1", Owner: ledgertest.Owner(1 + i%2), Usage: schemas.Usage{Prompt: 2000}})
		jobs, receipts = append(jobs, job), append(receipts, r)
	}
	w.Book()
	w.run(4, nil)
	for _, job := range jobs {
		p, err := w.Ledger.Proof(f.Context(), job)
		if err != nil {
			f.Fatal(err)
		}
		b, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"v":1,"index":18446744073709551615,"items":0}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := settlement.ParseProof(b)
		if err != nil {
			return
		}
		for _, r := range receipts {
			_, _ = p.Verify(r)
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := settlement.ParseProof(again)
		if err != nil {
			t.Fatalf("%s does not parse again: %v", again, err)
		}
		if third, err := json.Marshal(q); err != nil || string(third) != string(again) {
			t.Fatalf("%s became %s", again, third)
		}
	})
}

// FuzzJudge: whatever an outcome's headers hold, the verdict is a rejection or a free outcome, never a panic, an error or
// a claim: nothing here can be signed by the broker.
func FuzzJudge(f *testing.F) {
	w := newWorld(f, 0)
	alice := w.Tenant("alice", 0)
	o := w.Outcome(ledgertest.Work{Tenant: alice, Worker: "w1", Owner: ledgertest.Owner(1), Usage: schemas.Usage{Prompt: 1}})
	f.Add(string(o.Job), string(o.Tenant), string(o.Status), o.Grant, spoiled(o.Receipt))
	f.Add("", "", "", "..", "a.b.c")
	f.Add(string(o.Job), string(o.Tenant), "cancelled", spoiled(o.Grant), o.Receipt)
	cfg := w.Intake()
	f.Fuzz(func(t *testing.T, job, tenant, status, grant, receipt string) {
		forged := schemas.Outcome{Job: schemas.JobID(job), Tenant: schemas.TenantID(tenant), Model: w.Model, Status: schemas.Status(status), Grant: grant, Receipt: receipt}
		reason, err := settlement.Judge(t.Context(), cfg, settlement.Message{Seq: 1, Header: forged.Header()})
		if err != nil {
			t.Fatal(err)
		}
		if reason == "" && receipt != "" && !(grant == o.Grant && receipt == o.Receipt) {
			t.Fatal("a forged receipt was taken")
		}
	})
}

// spoiled changes the signature of a compact JWS.
func spoiled(jws string) string {
	b := []byte(jws)
	b[len(b)-10] ^= 1
	return string(b)
}
