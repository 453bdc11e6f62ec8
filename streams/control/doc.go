// Package control is the operator's service beside the streams. It holds no secrets and decides nothing about money or
// trust; without it jobs still run, and what it would have ended waits for it.
//
// Start with [New] and [Service.Run]. What it does:
//
//   - demand: it creates the consumers of a queue when the first job arrives, so that what waits can be seen, and when a
//     worker asks for it;
//   - lanes: it splits a queue by tenant while it is hot, so that one tenant's flood does not delay the others, and joins it
//     again when it is empty. Hot is 64 waiting jobs ([Options].Hot): below that a job waits for fewer than 64 others, and a
//     cold queue costs the server one consumer instead of one per lane;
//   - expiry: it gives a job whose deadline passed in the queue the outcome "expired";
//   - cancellation: it takes a waiting job out of its queue with the outcome "cancelled", or tells its worker to stop;
//   - dead letters: it moves a job that was delivered too often to the dead letters, with a typed failed outcome;
//   - gauges: it says what waits, from the leader's side, at a cost that does not depend on the number of jobs;
//   - reputation: it counts, per worker and owner, what became of the grants, and puts workers below the policy's floor on
//     probation.
//
// Invariants:
//
//   - Every write is idempotent or a compare-and-set, so that any number of control services may run at the same time and
//     each may be killed at any moment. The first outcome of a job stands, whoever makes it.
//   - What it keeps in memory is an index that it can build again from the streams: at a start, after a gap and at
//     intervals it reads them. Nothing is decided from memory alone; the stream is asked before a job is ended.
//   - It never ends a job before the job's own deadline plus [ExpirySlack]: until then a worker may still answer.
package control
