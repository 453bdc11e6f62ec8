package schemas

import "time"

// Signed statements are JWS (RFC 7515) in compact serialisation with alg EdDSA. The typ header separates them, so
// that one can never be taken for the other.
const (
	TypGrant   = "cocoon-grant+jws"
	TypReceipt = "cocoon-receipt+jws"
)

// Grant is the broker's permission for one worker to open one job once. Its JWS is signed by the key that the broker
// attests.
type Grant struct {
	// V is the version of the form, 1.
	V int `json:"v"`
	// Job, Tenant, Model and Class are copied from the job's attributes.
	Job    JobID    `json:"job"`
	Tenant TenantID `json:"tenant"`
	Model  ModelID  `json:"model"`
	Class  Class    `json:"class"`
	// Envelope is the hash of the whole sealed job.
	Envelope Hash `json:"envelope"`
	// Attempt is 1 for the first grant of a job and counts up in the broker, never from delivery counts.
	Attempt int `json:"attempt"`
	// Worker is the worker's id and WorkerKey its Ed25519 public key (base64 in JSON); a receipt under this grant
	// must be signed by it.
	Worker    WorkerID `json:"worker"`
	WorkerKey []byte   `json:"worker_key"`
	// Owner is where the worker's earnings go, copied from its attested claims.
	Owner Owner `json:"owner"`
	// Catalogue is the version whose prices hold for this job.
	Catalogue uint64 `json:"catalogue"`
	// Multiplier is the price multiplier of this job: its class's in that catalogue, or the worker's ask if higher.
	Multiplier BasisPoints `json:"multiplier"`
	// Ceiling is the most the job may cost; the sealed spend authorisation says the same.
	Ceiling NanoTON `json:"ceiling"`
	// Policy is the version of the policy under which the worker was admitted.
	Policy uint64 `json:"policy"`
	// Environment is "production" or "simulated".
	Environment Environment `json:"environment"`
	// Broker is the key id of the signing broker.
	Broker KeyID `json:"broker"`
	// Issued and Lease bound the grant: the worker must have published its outcome by Lease.
	Issued time.Time `json:"issued"`
	Lease  time.Time `json:"lease"`
}

// Receipt is the worker's statement of what it did for a job. With its grant it is the only source of money.
type Receipt struct {
	// V is the version of the form, 1.
	V int `json:"v"`
	// Job is the job and Grant the hash of the compact JWS of the grant under which it ran.
	Job   JobID `json:"job"`
	Grant Hash  `json:"grant"`
	// Worker is the worker that signs.
	Worker WorkerID `json:"worker"`
	// Model is the full model id, weights included.
	Model ModelID `json:"model"`
	// Usage is counted by measured code inside the enclave.
	Usage Usage `json:"usage"`
	// Status is Succeeded, or Cancelled for a job that was stopped after it had produced tokens.
	Status Status `json:"status"`
	// Result is the hash of the sealed result, the body of the outcome.
	Result Hash `json:"result"`
	// Seq counts this worker's receipts from 1 and Prev is the hash of the compact JWS of the one before (zero for
	// the first), so that two receipts with one number are evidence against the worker.
	Seq  uint64 `json:"seq"`
	Prev Hash   `json:"prev"`
	// Started and Finished bound the run.
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
}

// Environment keeps real and simulated hardware apart everywhere.
type Environment string

// The two environments.
const (
	// Production admits only evidence that chains to Intel's and NVIDIA's roots.
	Production Environment = "production"
	// Simulated admits only evidence that chains to a named development root.
	Simulated Environment = "simulated"
)
