// Package producers asks the network for work: it is the Go SDK. It seals requests for one model's key, publishes them,
// and opens and verifies what comes back. It is pure Go and holds the only plaintext outside an enclave.
//
// Start with [Dial], then choose by how long you want to wait:
//
//   - [Client.Do] submits a [Job] and returns its [Answer].
//   - [Client.Stream] does the same and yields the answer while it grows.
//   - [Client.Submit] returns as soon as the network has the job; [Handle.Wait] waits whenever you like, and
//     [Client.Get] asks for an outcome by job id, also from another process, days later.
//   - [Client.Seal], [Client.Publish] and [Client.Collect] are the three steps apart, for bulk: one encapsulation for up
//     to 1,000 jobs. The package batch is built on them, and the package gateway serves OpenAI's API with the rest.
//
// What the client guarantees:
//
//   - Nothing is sealed before the policy and the catalogue have verified against the root keys of [Options.Trust] and
//     the broker's evidence against that policy. A simulated environment is never taken for a real one, and
//     [Client.Environment] always says which it is.
//   - A job is paid once. Its id is fixed before it is sent; everything after that may be done again. When it is not
//     known whether the network has a job, the same bytes are sent again. With [Job.IdempotencyKey] the id is
//     derived from the tenant's secret and the key, so that two processes that submit the same key submit one job.
//   - What is submitted is written to a [Record] first. A process that died finds it there: [Client.Resume] sends
//     again what may have been lost, by the same ids, until each job has a verified outcome.
//   - An answer is returned only after the receipt and the grant behind it verified, they fit the job and each other,
//     and the result opened. A job sealed to a key that the broker lost is sealed again by itself.
//   - Failures are [schemas.Error]: branch on the Kind, retry when schemas.Retriable says so. A full queue is
//     KindBusy at once, an absent broker KindUnavailable after [Options.PublishWait].
//   - Live chunks may be lost, the outcome is not: a stream that misses chunks completes itself from the outcome,
//     and says so with an error when it cannot.
//
// A Client is safe for concurrent use, and Close ends every goroutine it started.
package producers
