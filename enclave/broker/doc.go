// Package broker is the attested key broker: it holds the keys that jobs are sealed to and decides, job by job, which
// worker may open one. It sees 1.2 kB of a job, never its payload, and workers never see its keys.
//
// Start with [New], which takes the group's state from a [Store], from another broker ([Config.Join]) or founds a group.
// [Broker.Handle] answers the calls of enclave.Call by verb; [Broker.Run] advances the epochs and publishes the keys. Both
// know no transport. Any number of brokers with the same state answer as one: challenges and session tickets are sealed
// under keys that all of them derive, so a session begun with one continues with any other.
//
// A grant is refused, with a typed reason for each job, unless all of this holds: the worker's evidence was admitted under
// the policy in force and is not older than the policy allows; the worker serves the model; the job is not expired and
// names a policy this broker has obeyed; its wrap opens with a live epoch key; the tenant's signature authorises the
// ceiling; the price multiplier is within what the tenant pays; no other worker holds the lease; attempts are left; the
// tenant's credit covers the ceiling beside everything reserved.
//
// Invariants:
//
//   - Erased epochs cannot be derived again: the state holds the oldest live secret of a one-way ratchet, and it is saved
//     before memory forgets what it replaced.
//   - Content keys leave only under the session secret of a worker whose evidence answered a challenge.
//   - State leaves only to a broker of the same measurement, sealed to its attested key, and only as the answer to its
//     own request.
//   - On doubt no grant: an unreadable account, an unknown policy or a full table is a refusal.
//   - Leases stop double work; they never decide about money. The first outcome of a job is the only one, whatever
//     brokers say.
package broker
