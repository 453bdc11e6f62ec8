package enclave

import (
	"crypto/ed25519"

	"github.com/cocoon-network/cocoon/schemas"
)

// Expect says what the tenant knows about a job whose outcome it opens. Everything may be zero: the identity file and
// the outcome message are enough to open a result. What is set is compared.
type Expect struct {
	// Job is the id the tenant asked about.
	Job schemas.JobID
	// Envelope is the hash of the envelope that the tenant sealed, from its local record. Without it the grant's word
	// is taken for which of several envelopes with one job id was answered.
	Envelope schemas.Hash
	// Broker is the attested key that grants of the job must be signed by, from the TrustedKey it was sealed to. Without
	// it the grant is read but its signature is not checked; the result itself still opens only if it was made by who
	// opened the job.
	Broker ed25519.PublicKey
}

// Answer is an opened outcome.
type Answer struct {
	// Result is what the engine said or why it could not; Result.Err() tells which.
	Result schemas.Result
	// Grant and Receipt are what was signed, nil when the outcome has none.
	Grant   *schemas.Grant
	Receipt *schemas.Receipt
	// GrantVerified says that the grant's signature was checked against Expect.Broker.
	GrantVerified bool
}

// OpenResult verifies and opens an outcome. It needs the tenant's identity file and the outcome message, nothing else: any
// machine can do it, days later. It verifies that the receipt is signed by the worker that the grant names, cites that
// grant and this very sealed result, and that the result was sealed to this tenant for this job, envelope, attempt and
// worker. An outcome without a body gives a Result with the outcome's kind.
func (t *Tenant) OpenResult(o schemas.Outcome, expect Expect) (Answer, error) {
	if o.Tenant != t.id {
		return Answer{}, &schemas.Error{Kind: schemas.KindDenied, Field: "ce-source", Message: "is the outcome of another tenant's job"}
	}
	if expect.Job != "" && o.Job != expect.Job {
		return Answer{}, schemas.FieldError("ce-id", "is the outcome of another job")
	}
	if err := o.Check(); err != nil {
		return Answer{}, err
	}
	if o.Grant == "" {
		if len(o.Body) > 0 {
			return Answer{}, schemas.FieldError(schemas.HeaderGrant, "a sealed result needs the grant under which it was made")
		}
		return Answer{Result: outcomeFailure(o)}, nil
	}
	answer, err := readStatements(&t.signatures, o, expect)
	if err != nil {
		return Answer{}, err
	}
	if len(o.Body) == 0 {
		answer.Result = outcomeFailure(o)
		return answer, nil
	}
	g := answer.Grant
	r := run{job: g.Job, envelope: g.Envelope, attempt: uint32(g.Attempt), worker: g.Worker}
	result, err := t.openResult(r, o.Body)
	if err != nil {
		return Answer{}, err
	}
	if (o.Status == schemas.Succeeded) != (result.Kind == schemas.KindUnknown) {
		return Answer{}, schemas.FieldError("ce-cocoonstatus", "is not what the sealed result says")
	}
	if answer.Receipt != nil && result.Usage != answer.Receipt.Usage {
		return Answer{}, schemas.FieldError(schemas.HeaderReceipt, "charges for another usage than the result reports")
	}
	answer.Result = *result
	return answer, nil
}

// outcomeFailure is the result of an outcome without a body.
func outcomeFailure(o schemas.Outcome) schemas.Result {
	return schemas.Result{Version: schemas.EnvelopeVersion, Kind: o.Kind, Message: "the job ended without an answer: " + string(o.Status)}
}

// readStatements reads grant and receipt of an outcome and compares them with it and with each other.
func readStatements(v *Signatures, o schemas.Outcome, expect Expect) (Answer, error) {
	var grant schemas.Grant
	var err error
	answer := Answer{GrantVerified: expect.Broker != nil}
	if answer.GrantVerified {
		grant, err = v.VerifyGrant(o.Grant, expect.Broker)
	} else {
		grant, _, err = ReadGrant(o.Grant)
	}
	if err != nil {
		return Answer{}, err
	}
	switch {
	case grant.Job != o.Job || grant.Tenant != o.Tenant || grant.Model != o.Model:
		return Answer{}, schemas.FieldError(schemas.HeaderGrant, "is for another job")
	case !expect.Envelope.IsZero() && grant.Envelope != expect.Envelope:
		return Answer{}, schemas.FieldError(schemas.HeaderGrant, "is for another envelope")
	}
	answer.Grant = &grant
	if o.Receipt == "" {
		return answer, nil
	}
	receipt, err := v.checkReceipt(o.Receipt, o.Grant, &grant)
	if err != nil {
		return Answer{}, err
	}
	if receipt.Status != o.Status || receipt.Result != schemas.HashOf(o.Body) {
		return Answer{}, schemas.FieldError(schemas.HeaderReceipt, "is for another result")
	}
	answer.Receipt = &receipt
	return answer, nil
}

// CheckReceipt verifies a receipt under the grant that it cites: signed by the worker the grant names, for the same job,
// model and worker, within the lease. The grant itself must have been verified by the caller.
func CheckReceipt(token, grantToken string, g *schemas.Grant) (schemas.Receipt, error) {
	return new(Signatures).checkReceipt(token, grantToken, g)
}

// checkReceipt is CheckReceipt by keys that may be known.
func (v *Signatures) checkReceipt(token, grantToken string, g *schemas.Grant) (schemas.Receipt, error) {
	r, err := v.VerifyReceipt(token, g.WorkerKey)
	if err != nil {
		return schemas.Receipt{}, err
	}
	switch {
	case r.Grant != schemas.HashOf([]byte(grantToken)):
		return schemas.Receipt{}, schemas.FieldError("grant", "the receipt cites another grant")
	case r.Job != g.Job || r.Model != g.Model || r.Worker != g.Worker:
		return schemas.Receipt{}, schemas.FieldError("job", "the receipt is for another job, model or worker than its grant")
	case r.Finished.After(g.Lease.Add(maxClockSkew)):
		return schemas.Receipt{}, schemas.FieldError("finished", "lies after the lease")
	}
	return r, nil
}
