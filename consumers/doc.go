// Package consumers does the work: a [Worker] takes sealed jobs from their queues, opens them inside the enclave, runs them
// and answers with a sealed result and a signed receipt.
//
// Start with [NewWorker] and [Worker.Run]. A worker needs a connection (streams.Bus), a standing with the key brokers
// (enclave.Session) and an [Engine] per model. Engines are the other half of this package: one contract for everything
// that runs a model. consumers/ggml is the embedded one, consumers/openai speaks to any OpenAI-compatible server,
// consumers/stub has no model and serves benchmarks and tests, and consumers/enginetest holds all of them to the contract.
// consumers/fleet runs as many workers on a host as the backlog asks for.
//
// The way of a job, one file per step: pull.go takes exactly as many jobs as there are free slots, the urgent classes
// first; grant.go asks the brokers for up to 64 at a time; run.go streams through the engine; outcome.go stores the answer
// and acknowledges. lease.go and renew.go keep the two leases meanwhile, the queue's and the brokers'. verdict.go is the
// one place that says what a failure means for the job.
//
// Invariants:
//
//   - A job is begun when it is taken. What an engine has no room for is left to other workers.
//   - The outcome is stored, by compare-and-set, before the job is acknowledged. A crash anywhere repeats work and changes
//     nothing else: the first outcome of a job is the only one.
//   - A worker whose lease has lapsed says nothing more about the job, neither that it is done nor that it failed.
//   - A receipt states what the engine counted with the model's own tokenizer. An answer that nobody counted is no answer.
//   - Plaintext stays in the enclave and out of the log: see log.go for everything that a worker may write down.
//
// A worker refuses to begin with a model that is not in the catalogue, with an engine that cannot count, and when the
// policy does not admit it. One that is no longer admitted finishes what it holds, takes nothing more and keeps asking.
package consumers
