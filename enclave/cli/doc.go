// Package cli holds the verbs about trust: broker, keys, receipt, attest, policy, catalogue, and the sealing of weights; and
// the wiring between enclaves and the message system that other roles share.
//
// Roles start with [NewCatalogues] and [PolicyFeed], which follow the two signed documents of a network, and with
// [BrokerCall], the transport of enclave.Session. [ServeBroker] runs a broker on a bus: it follows policy, catalogue, credit
// and standings, answers every verb, publishes keys and stores decisions. [WeightsKey] is what sealing weights begins with.
//
// The verbs are functions that return a *cobra.Command: [Broker], [Keys], [Receipt], [ModelsSeal], [ModelsPublish] and those of attestation
// and documents. [BenchSeal] and [BenchBroker] measure the enclave's work beside its physical floor.
//
// Nothing here decides: decisions are in enclave and enclave/broker, the message system in streams. What is read from the
// bus is untrusted until enclave or schemas has verified it, and what is refused is logged and skipped, so that nobody can
// stop a process by publishing rubbish.
//
// Built with -tags worker, the package has only what a measured worker needs: no simulated hardware, no benchmarks.
package cli
