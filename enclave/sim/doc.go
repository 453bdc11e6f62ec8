// Package sim is SIMULATED confidential hardware: TDX machines and NVIDIA GPUs in software, for development and tests.
//
// Nothing here protects anything. What it is good for is that it makes the real formats: version 4 quotes signed through
// a PCK chain, Intel's collateral and revocation lists, SPDM measurement reports with a five-certificate chain and
// revocation answers. The production verifier (package attest) checks them without knowing the difference; only the
// root they chain to is another one, which a policy of the simulated environment must name.
//
// Start with [Open], which keeps the secret of a development root in a folder, so that a network that starts again finds
// its machines, policies and evidence still valid; or [New], from a seed. [Platform.Boot] boots a simulated machine and
// gives it as an attest.Machine, the same type that real hardware has. [Platform.Collateral] serves the documents
// about it, and [Platform.Policy] writes a policy that admits given images. [Knobs] make the hardware misbehave: every
// TCB status, revocation, stale or future collateral.
//
// The names in every certificate say SIMULATED. Their common names are Intel's where the verifying library demands it.
package sim
