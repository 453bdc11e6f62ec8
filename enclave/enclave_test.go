package enclave_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
)

// wantKind fails the test unless err carries the kind.
func wantKind(t *testing.T, err error, kind schemas.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got %v, want %s", err, kind)
	}
}

func TestWholeWay(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	tenant, key := n.Tenant(t), n.Key(t)
	sealed := n.Seal(t, enclave.NewSubmission(tenant, key), `{"prompt":"where is the cat"}`)
	if bytes.Contains(sealed.Envelope, []byte("cat")) {
		t.Fatal("the envelope shows the prompt")
	}
	worker := n.Session(t)
	outcome := n.Run(t, worker, sealed)

	// Days later, on another machine: the identity file and the outcome message are enough.
	elsewhere, err := enclave.ParseTenant(tenant.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := schemas.ParseOutcome(outcome.Header(), outcome.Body)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := elsewhere.OpenResult(parsed, enclave.Expect{})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(answer.Result.Body); got != `{"prompt":"where is the cat"}` {
		t.Errorf("answer %s", got)
	}
	if answer.GrantVerified || answer.Receipt == nil || answer.Receipt.Usage != (schemas.Usage{Prompt: 7, Completion: 3}) {
		t.Errorf("answer %+v", answer)
	}
	// With the local record more is verified.
	answer, err = tenant.OpenResult(parsed, enclave.Expect{Job: sealed.Attributes.ID, Envelope: sealed.Hash, Broker: key.Broker()})
	if err != nil || !answer.GrantVerified {
		t.Errorf("answer %+v, %v", answer, err)
	}
	if g := answer.Grant; g.Worker != worker.ID() || g.Attempt != 1 || g.Ceiling != enclavetest.Budget || g.Multiplier != schemas.One {
		t.Errorf("grant %+v", g)
	}
}

func TestBulkSharesEncapsulations(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	tenant := n.Tenant(t)
	submission := enclave.NewSubmission(tenant, n.Key(t))
	const jobs = schemas.MaxPerEncapsulation + 100
	sealed := make([]enclave.SealedJob, jobs)
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := g; i < jobs; i += 4 {
				sealed[i] = n.Seal(t, submission, fmt.Sprintf(`{"line":%d}`, i))
			}
		})
	}
	group.Wait()
	encs := map[string]map[uint32]bool{}
	for _, j := range sealed {
		e, err := schemas.ParseEnvelope(j.Envelope)
		if err != nil {
			t.Fatal(err)
		}
		r := e.Recipients[0]
		if encs[string(r.Enc)] == nil {
			encs[string(r.Enc)] = map[uint32]bool{}
		}
		if encs[string(r.Enc)][r.Index] {
			t.Fatalf("index %d was used twice", r.Index)
		}
		encs[string(r.Enc)][r.Index] = true
	}
	if len(encs) != 2 {
		t.Errorf("%d encapsulations for %d jobs, want 2", len(encs), jobs)
	}
	worker := n.Session(t)
	results, numbers := map[string]bool{}, map[uint32]bool{}
	for begin := 0; begin < 256; begin += schemas.MaxGrantBatch {
		var batch []enclave.Candidate
		for _, j := range sealed[begin : begin+schemas.MaxGrantBatch] {
			batch = append(batch, enclavetest.Candidate(j))
		}
		granted, err := worker.Grant(t.Context(), n.Call, batch)
		if err != nil {
			t.Fatal(err)
		}
		for i, g := range granted {
			if g.Err != nil {
				t.Fatal(g.Err)
			}
			outcome, err := g.Job.Finish(enclavetest.Result(g.Job.Request.Body), time.Now(), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			r, err := schemas.ParseSealedResult(outcome.Body)
			if err != nil {
				t.Fatal(err)
			}
			results[string(r.Enc)] = true
			if numbers[r.Index] {
				t.Fatalf("result number %d was used twice", r.Index)
			}
			numbers[r.Index] = true
			answer, err := tenant.OpenResult(outcome, enclave.Expect{Envelope: sealed[begin+i].Hash})
			if err != nil || string(answer.Result.Body) != fmt.Sprintf(`{"line":%d}`, begin+i) {
				t.Fatalf("line %d: %s, %v", begin+i, answer.Result.Body, err)
			}
		}
	}
	if len(results) != 1 {
		t.Errorf("%d result encapsulations for 256 results, want 1", len(results))
	}
}

func TestPinned(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	tenant := n.Tenant(t)
	sessions := []*enclave.Session{n.Session(t), n.Session(t), n.Session(t)}
	var trusted []*enclave.TrustedWorker
	for _, s := range sessions[:2] {
		evidence, err := s.Introduce(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w, err := enclave.VerifyWorker(t.Context(), n, enclavetest.Model, evidence)
		if err != nil {
			t.Fatal(err)
		}
		trusted = append(trusted, w)
	}
	submission, err := enclave.NewPinned(tenant, enclavetest.Model, trusted)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range sessions[:2] {
		sealed := n.Seal(t, submission, fmt.Sprint(i))
		answer, err := tenant.OpenResult(n.Run(t, s, sealed), enclave.Expect{Envelope: sealed.Hash, Broker: n.Broker.Public()})
		if err != nil || string(answer.Result.Body) != fmt.Sprint(i) {
			t.Errorf("%s, %v", answer.Result.Body, err)
		}
	}
	granted, err := sessions[2].Grant(t.Context(), n.Call, []enclave.Candidate{enclavetest.Candidate(n.Seal(t, submission, "x"))})
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, granted[0].Err, schemas.KindDenied)
	if _, err := enclave.NewPinned(tenant, enclavetest.Model, []*enclave.TrustedWorker{trusted[0], trusted[0]}); err == nil {
		t.Error("one worker twice was accepted")
	}
	if _, err := enclave.NewPinned(tenant, enclavetest.Model, trusted[:1]); err == nil {
		t.Error("a pool of one was accepted")
	}
}

// TestReceiptOfAnotherGrant: a renewed job has two grants; its receipt is for one of them.
func TestReceiptOfAnotherGrant(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	tenant, worker := n.Tenant(t), n.Session(t)
	job := n.Grant(t, worker, n.Seal(t, enclave.NewSubmission(tenant, n.Key(t)), "x"))
	outcome, err := job.Finish(enclavetest.Result([]byte("y")), time.Now(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(job.Grant().Issued.Add(time.Second))) // the next grant has another second in it
	if errs, err := worker.Renew(t.Context(), n.Call, []*enclave.OpenJob{job}); err != nil || errs[0] != nil {
		t.Fatal(err, errs)
	}
	later, err := job.Finish(enclavetest.Result([]byte("y")), time.Now(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	outcome.Grant = later.Grant
	_, err = tenant.OpenResult(outcome, enclave.Expect{})
	wantKind(t, err, schemas.KindInvalid)
}

// TestExpectations: what the tenant remembers is compared.
func TestExpectations(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	tenant, worker := n.Tenant(t), n.Session(t)
	submission := enclave.NewSubmission(tenant, n.Key(t))
	outcome := n.Run(t, worker, n.Seal(t, submission, "x"))
	for _, expect := range []enclave.Expect{
		{Job: schemas.NewJobID()}, {Envelope: schemas.HashOf([]byte("another"))},
	} {
		_, err := tenant.OpenResult(outcome, expect)
		wantKind(t, err, schemas.KindInvalid)
	}
	_, err := tenant.OpenResult(outcome, enclave.Expect{Broker: worker.Public()})
	wantKind(t, err, schemas.KindDenied)
}

// TestReceiptsMustAgree: a receipt that charges for another usage than the sealed result reports, or that comes after the
// lease, is refused although a genuine worker signed it.
func TestReceiptsMustAgree(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	tenant, worker := n.Tenant(t), n.Session(t)
	job := n.Grant(t, worker, n.Seal(t, enclave.NewSubmission(tenant, n.Key(t)), "x"))
	outcome, err := job.Finish(enclavetest.Result([]byte("y")), time.Now(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	honest, err := enclave.ReadReceipt(outcome.Receipt)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*schemas.Receipt){
		"dearer": func(r *schemas.Receipt) { r.Usage.Completion++ },
		"late":   func(r *schemas.Receipt) { r.Finished = job.Lease().Add(time.Hour) },
	} {
		r := honest
		change(&r)
		forged := outcome
		if forged.Receipt, err = worker.SignReceipt(r); err != nil {
			t.Fatal(err)
		}
		if _, err := tenant.OpenResult(forged, enclave.Expect{}); outcomeName(err) != "invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReceiptChain(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	submission, worker := enclave.NewSubmission(n.Tenant(t), n.Key(t)), n.Session(t)
	var prev schemas.Hash
	for seq := range uint64(3) {
		outcome := n.Run(t, worker, n.Seal(t, submission, "x"))
		receipt, err := enclave.VerifyReceipt(outcome.Receipt, worker.Public())
		if err != nil {
			t.Fatal(err)
		}
		if receipt.Seq != seq+1 || receipt.Prev != prev {
			t.Errorf("receipt %d has seq %d, prev %s", seq+1, receipt.Seq, receipt.Prev)
		}
		prev = schemas.HashOf([]byte(outcome.Receipt))
	}
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	outcome := n.Run(t, worker, n.Seal(t, submission, "x"))
	_, err = enclave.VerifyReceipt(outcome.Receipt, other)
	wantKind(t, err, schemas.KindDenied)
	_, err = enclave.VerifyGrant(outcome.Receipt, worker.Public())
	wantKind(t, err, schemas.KindInvalid)
}
