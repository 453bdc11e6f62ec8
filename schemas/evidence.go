package schemas

import "fmt"

// Limits of evidence.
const (
	// MaxEvidence bounds the encoded form in bytes: sixteen GPUs fit.
	MaxEvidence = 512 << 10
	// MaxQuote bounds a TDX quote in bytes; real ones have about 5,000.
	MaxQuote = 16 << 10
	// MaxGPUReport bounds one SPDM report in bytes, MaxGPUChain its certificate chain, MaxOCSP one stapled answer.
	MaxGPUReport = 8 << 10
	MaxGPUChain  = 16 << 10
	MaxOCSP      = 4 << 10
	// MaxStaples bounds the stapled answers of one chain.
	MaxStaples = 4
)

// Evidence is everything a verifier needs to judge an attested process, beside the policy and Intel's collateral. Its
// wire form is deterministic CBOR with integer keys.
type Evidence struct {
	// Claims are the very bytes that the quote binds; see ParseClaims.
	Claims []byte `cbor:"1,keyasint"`
	// Quote is the raw TDX quote.
	Quote []byte `cbor:"2,keyasint"`
	// Log explains RTMR3.
	Log EventLog `cbor:"3,keyasint"`
	// GPUs holds one entry for each GPU, in the order of Claims.GPUs.
	GPUs []GPUEvidence `cbor:"4,keyasint"`
}

// GPUEvidence is what one GPU says about itself.
type GPUEvidence struct {
	// Report is the SPDM GET_MEASUREMENTS request and response.
	Report []byte `cbor:"1,keyasint"`
	// Chain is the PEM certificate chain, leaf first, root last.
	Chain []byte `cbor:"2,keyasint"`
	// OCSP holds the answers about the chain's certificates between leaf and root, in chain order; empty when the
	// host could not fetch them. They are signed by the vendor and therefore not part of the digest.
	OCSP [][]byte `cbor:"3,keyasint,omitempty"`
}

// Digest is what claims name a GPU's evidence by.
func (g GPUEvidence) Digest() Hash { return labelled("cocoon/gpu/v1", g.Report, g.Chain) }

// Encode spells the evidence.
func (e Evidence) Encode() ([]byte, error) {
	if err := e.Check(); err != nil {
		return nil, err
	}
	return EncodeCBOR(e), nil
}

// ParseEvidence reads evidence strictly. It checks sizes and shape, not one signature.
func ParseEvidence(b []byte) (Evidence, error) {
	var e Evidence
	if err := DecodeCBOR(b, &e, MaxEvidence); err != nil {
		return Evidence{}, rename(err, "evidence")
	}
	return e, e.Check()
}

// Check refuses evidence whose parts exceed their limits.
func (e Evidence) Check() error {
	if err := within("claims", e.Claims, MaxClaims); err != nil {
		return err
	}
	if err := within("quote", e.Quote, MaxQuote); err != nil {
		return err
	}
	if len(e.Log) > MaxEvents {
		return &Error{Kind: KindTooLarge, Field: "log", Message: "has more than 64 events"}
	}
	for i, event := range e.Log {
		if len(event.Type) > MaxToken || len(event.Payload) > MaxEventPayload {
			return &Error{Kind: KindTooLarge, Field: logField(i, "payload"), Message: "is longer than 256 bytes"}
		}
	}
	if len(e.GPUs) > MaxGPUs {
		return &Error{Kind: KindTooLarge, Field: "gpus", Message: "has more than 16 entries"}
	}
	for i := range e.GPUs {
		if err := e.GPUs[i].check(fmt.Sprintf("gpus[%d].", i)); err != nil {
			return err
		}
	}
	return nil
}

// check refuses GPU evidence whose parts exceed their limits.
func (g *GPUEvidence) check(prefix string) error {
	if err := within(prefix+"report", g.Report, MaxGPUReport); err != nil {
		return err
	}
	if err := within(prefix+"chain", g.Chain, MaxGPUChain); err != nil {
		return err
	}
	if len(g.OCSP) > MaxStaples {
		return &Error{Kind: KindTooLarge, Field: prefix + "ocsp", Message: "has more than 4 entries"}
	}
	for i, staple := range g.OCSP {
		if err := within(fmt.Sprintf("%socsp[%d]", prefix, i), staple, MaxOCSP); err != nil {
			return err
		}
	}
	return nil
}

// within refuses empty and oversized parts.
func within(field string, b []byte, limit int) error {
	if len(b) == 0 {
		return invalid(field, "is empty")
	}
	if len(b) > limit {
		return &Error{Kind: KindTooLarge, Field: field, Message: fmt.Sprintf("is longer than %d bytes", limit)}
	}
	return nil
}

// Hash is the identity of these very bytes of evidence, for caches and audit records. It is not an identity of the
// machine: a quote has bytes that no signature covers.
func (e Evidence) Hash() (Hash, error) {
	b, err := e.Encode()
	return HashOf(b), err
}
