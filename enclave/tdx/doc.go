// Package tdx verifies Intel TDX quotes: signatures and chains down to a pinned root, collateral and revocation lists,
// and Intel's judgement of platform, TDX module and quoting enclave, which it reports as data for a policy.
//
// Start with [NewVerifier] and [Verifier.Verify]; the answer is a [Report]. [Collateral] caches what Intel signs about
// its platforms; it sits over a [Source] (Intel's service, or the simulator's) and optionally a shared [Store].
// Quotes are made by package tdx/guest, on the other side.
//
// The work is done by go-tdx-guest v0.3.1, exactly that version, behind rules it does not have itself:
//
//   - The shape of a quote is checked before the library sees it, and a panic inside is an error: its parser slices
//     before it checks.
//   - The library gets fresh options each time: it writes into them, and a zero time would become sticky.
//   - Roots are always given, by fingerprint. A nil pool would mean "Intel, and a warning on stdout".
//   - Collateral is handed over as one snapshot, so that what is appraised is what was verified, and must have exactly
//     the two keys that are signed and the signature: a second spelling of a key would be read, but not verified.
//   - Collateral from the future is refused.
//   - TCB statuses are data. The library knows only "UpToDate or error", and its TCB check hides the QE check after it:
//     all three are appraised here, from the verified bytes, whatever it said.
//   - The two signatures of a quote and the binding of the attestation key are checked here a second time. When the PCK
//     chain and the collateral are known from an earlier call, this is the only work left: see [Verifier].
//
// What a report does not say: whether these measurements, this status, this machine are acceptable. That is the policy's
// question, answered by package attest, which is the only one that should call this package in production.
package tdx
