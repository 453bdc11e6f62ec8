package enclave

import (
	"crypto/ed25519"

	"github.com/cocoon-network/cocoon/schemas"
)

// VerifySubmissionSpend verifies a tenant's signature for all jobs of one encapsulation, as it stands in the wraps of
// broker mode.
func (v *Signatures) VerifySubmissionSpend(tenantKey ed25519.PublicKey, s *schemas.Spend, key schemas.KeyID, enc []byte) error {
	return v.verifySpend(tenantKey, schemas.SpendSubmission(s.Tenant, key, enc), s)
}

// VerifyJobSpend verifies a tenant's signature for one pinned job.
func (v *Signatures) VerifyJobSpend(tenantKey ed25519.PublicKey, s *schemas.Spend, attributes schemas.Hash, commit [32]byte) error {
	return v.verifySpend(tenantKey, schemas.SpendJob(s, attributes, commit), s)
}

// verifySpend verifies the signature of a spend authorisation.
func (v *Signatures) verifySpend(key ed25519.PublicKey, signed []byte, s *schemas.Spend) error {
	if !v.verify(key, signed, s.Signature[:]) {
		return &schemas.Error{Kind: schemas.KindInvalid, Field: "spend.signature", Message: "is not by the key of the account"}
	}
	return nil
}
