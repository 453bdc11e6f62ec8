// Package tracing follows jobs through the network with OpenTelemetry spans, without letting anybody follow a tenant.
//
// A [Tracer] opens spans and a nil one does nothing, at no cost: every role takes one in its options, and there is no
// global. There are two kinds of traces:
//
//   - The tenant's own: [Tracer.Start] opens a span below the caller's, in the SDK and the gateway. It stays on the
//     tenant's side. Nothing of it travels: no header, no envelope and no subject carries a trace context.
//   - The network's: [Tracer.Job] opens a span at the broker, the worker or settlement. It belongs to a trace of its own
//     per job, whose id is the hash of the job's id, so all roles put their spans into the same trace without having told
//     each other anything, and two jobs of one tenant have nothing in common.
//
// The two meet in one place only: the tenant's span carries the job's id and a link to the network's trace. Who holds
// the tenant's traces can look up what the network did; who holds the network's traces cannot find the tenant's.
//
// What a span may say is a closed list, kept by types: [Span] has a method for each attribute, and there is none for a
// tenant, a request, an answer or an error's message. The status of a span is the kind of its error.
//
// A network's role must trace with a provider that has [IDs] as its generator: they give jobs their trace ids. The
// tenant's side may use any provider.
package tracing
