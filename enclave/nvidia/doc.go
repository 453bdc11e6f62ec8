// Package nvidia verifies what NVIDIA GPUs in confidential computing mode say about themselves, and collects it.
//
// Start with [Verifier.Verify]: it checks an SPDM measurement report and its certificate chain offline, down to a pinned
// root, and answers with a [Report]. [Report.Match] compares a report with the golden values of a policy. On the other
// side, [Collector] asks the GPUs of this machine through a [Library]; the one over NVIDIA's own library is built only
// with cgo and the tag nvml ([Open] says so otherwise), because it compiles against the vendor's headers. [Probe] tells
// without any signature which GPUs could attest, [NVML.Vitals] how they are doing.
//
// What is verified, and refused when it is not so:
//
//   - Every byte of a report is accounted for: request, response, measurement blocks, opaque fields, signature. Nothing
//     may follow, nothing may appear twice. The request must have asked for all measurements and a signature.
//   - The chain has exactly five certificates in order, each signing the one before; its last is a pinned root. What the
//     chain itself brings as a root proves nothing.
//   - The leaf's P-384 key signed request and response; the nonce is the challenge; the firmware id of the report is the
//     one in the leaf's certificate.
//   - Stapled revocation answers are signed by the issuer of the certificate they are about, or its delegate. Whether
//     they are demanded, and how old they may be, is the policy's decision.
//
// What a report does not say: that the GPU sits behind this TD. A report can be relayed. That it was not rests on the
// measured image, whose driver owns the session with the GPU and whose own process reads the report: gpu_attested is not
// co-location, and no screen of ours says that it is.
package nvidia
