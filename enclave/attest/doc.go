// Package attest is Cocoon's remote attestation: it makes evidence inside an enclave, and judges evidence of others.
//
// Inside an enclave, [Boot] measures the configuration, the root keys that the process obeys and its models into RTMR3
// and gives a [Machine], the [Attester] of that boot. Everywhere else, [NewVerifier] gives a [Verifier], whose Verify
// answers with an [Admission] or with the exact reason why there is none. Both sides read the same policy, which a
// [Keeper] holds: it accepts signed policies, never goes back to an older one and tells its watchers.
//
// There is one verifier and no softer path. Simulated hardware (package sim) makes quotes, collateral and GPU reports of
// the real formats under a development root, and they pass through the same code; what differs is the root that the
// policy names. A policy says production or simulated, a process trusts one of the two, production admits only Intel's
// and NVIDIA's roots, and a simulated policy that names one of those is refused: the two never mix.
//
// What a successful verification proves, in the order in which it is checked:
//
//   - a genuine CPU of an acceptable TCB runs a TD that is not debuggable, with an admitted firmware, kernel and
//     command line;
//   - that TD measured an admitted configuration, our own root keys and only admitted models, in the fixed order, and
//     nothing after them;
//   - it holds the keys in the claims, which are fresh if a nonce was given, for the role its image has;
//   - the number of genuine GPUs in confidential mode that the image must have, each in an admitted firmware state,
//     signed a challenge bound to those keys, and the quote binds their reports.
//
// What it does not prove: that those GPUs sit in this machine (a report can be relayed; that it was not rests on the
// measured image), that nobody has attacked the hardware physically, that the host will keep serving, and that the clock
// is right.
//
// Refusals are *schemas.Error. Kind is KindAttestation for evidence that does not verify and KindPolicy for evidence
// that does, but is not admitted; KindUnavailable means that collateral or policy could not be had, and nothing was
// decided. Field names what decided, as a path such as "tcb.platform", "td.attributes", "gpus[1].architecture",
// "log[3].type", "claims.role" or "policy".
package attest
