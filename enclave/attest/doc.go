// Package attest is Cocoon's remote attestation: it makes evidence inside an enclave and judges evidence of others.
package attest
