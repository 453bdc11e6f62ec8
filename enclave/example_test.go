package enclave_test

import (
	"fmt"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// A tenant is a random id and one secret, kept in a file. The same idempotency key is the same job id, on every machine that
// has the file.
func ExampleTenant() {
	tenant, err := enclave.NewTenant()
	if err != nil {
		fmt.Println(err)
		return
	}
	elsewhere, err := enclave.ParseTenant(tenant.Marshal())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(tenant.ID() == elsewhere.ID(), tenant.JobID("order-7") == elsewhere.JobID("order-7"))
	// Output: true true
}

// An outcome that no worker made (here: the job expired in the queue) has no body; it still opens, to a failure with a
// kind.
func ExampleTenant_OpenResult() {
	tenant, err := enclave.NewTenant()
	if err != nil {
		fmt.Println(err)
		return
	}
	job := schemas.Attributes{
		ID: tenant.JobID("order-7"), Tenant: tenant.ID(), Time: time.Unix(1_800_000_000, 0).UTC(),
		Model: "tiny@1:sha256-00000000000000000000000000000000000000000000000000000000000000aa",
	}
	outcome := enclave.Refused(&job, schemas.KindExpired)
	answer, err := tenant.OpenResult(outcome, enclave.Expect{Job: job.ID})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(outcome.Status, answer.Result.Err())
	// Output: expired expired: the job ended without an answer: expired
}
