// Package enclave holds everything secret in Cocoon: how a job is sealed, who may open it, how its answer comes back, and
// what is signed about it. It has no transport: calls to the broker go through a [Call] that the caller supplies.
//
// A tenant starts with [NewTenant], verifies a model's published key with [VerifyKey], prepares a [Submission] with
// [NewSubmission] and seals jobs with [Submission.Seal]. Any machine with the tenant's identity file opens an outcome with
// [Tenant.OpenResult], at once or days later.
//
// A worker starts with [NewSession], attests with [Session.Attest] before [Session.Expires], asks for jobs with [Session.Grant],
// and turns an [OpenJob] into an outcome with [OpenJob.Finish]. Live tokens leave through
// [OpenJob.Chunks].
//
// The broker is in enclave/broker, evidence and policy in enclave/attest, encrypted weights in enclave/weights.
//
// Invariants:
//
//   - Nothing is sealed to a key that was not verified: [TrustedKey] and [TrustedWorker] are made by verification only.
//   - Every key seals under one nonce sequence. Indexes under an encapsulation are handed out once.
//   - All public attributes are bound into every key; a changed one makes the job unopenable.
//   - A payload that was cut, reordered or spliced does not open; it gives no prefix either.
//   - All failures to open are one error, KindSealed, whatever the cause.
//   - No method logs, and no error carries plaintext or key material.
//
// What the package refuses to do: negotiate algorithms (the version of a form fixes them), open anything for a key it was
// not sealed to, sign a grant or a receipt that its own parser would refuse.
//
// The byte formats are normative in schemas/spec; THREATS.md says who could try what, and which test shows it refused.
package enclave
