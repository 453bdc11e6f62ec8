// Package streams is the only package of Cocoon that speaks NATS: subjects, streams, publishing, pulling,
// compare-and-set outcomes, live feeds, request/reply, key-value buckets and large bodies.
//
// Start with [Connect], which gives a [Bus]; everything else is a method of it. A producer calls [Bus.PublishJob] and
// [Bus.AwaitOutcome]; a worker asks a [Puller] for exactly as many jobs as it has free slots and finishes each
// [Delivery] by [Bus.PublishOutcome] and then [Delivery.Done]; settlement reads [Bus.Receipts]. The shape of all
// streams, consumers and limits is a [Topology]; [Bus.Apply] makes it so. What stands on the wire is listed in
// subjects.go and topology.go, and nowhere else.
//
// The package moves sealed bytes. It never sees a key or a plaintext, and it trusts nothing a header says beyond what the
// subject proves: a message whose attributes disagree with its subject is refused.
//
// Invariants:
//
//   - A job that was acknowledged stays in its queue until a consumer acknowledged it, its dead letter was stored or it
//     expired. Publishing the same envelope again is harmless: its hash is the message id.
//   - The first outcome of a job is the only one. [Bus.PublishOutcome] is a compare-and-set on a subject that expects to be
//     empty; acknowledgements decide nothing, because JetStream obeys those of a lapsed lease too.
//   - A [Puller] never holds more jobs than it was asked for.
//   - Every wait has a context, every queue and size a named limit. Writes are repeated with the same bytes through a
//     loss of the stream leader, which takes up to 9 s.
//   - No stream allows rollups, schedules or delete markers: anyone who may publish could use them against others.
//   - Tenants and workers never create consumers and never need the permission for it: with a consumer comes the right
//     to name a subject to which the server delivers.
//
// Errors are [*schemas.Error] values; branch with errors.Is(err, schemas.KindBusy) and the like. KindUnavailable means
// that the cluster could not be reached in time and the same call may be repeated; KindDenied that the user of this
// connection has no right to it.
//
// Folders below: embedded runs a server in this process, control is the operator's service beside the streams, callout
// turns attestation into a log-in, access holds the permissions of every role, streamstest is for tests.
package streams
