package schemas

import "crypto/ed25519"

// Spend is the tenant's permission to charge one job. It travels inside the wrap, beside the content key, so only the
// broker (in pin mode: the worker, who shows it to the broker) reads it.
type Spend struct {
	_ struct{} `cbor:",toarray"`
	// Tenant pays; it must equal the tenant in the attributes.
	Tenant TenantID
	// Job is the job it is for; it must equal the id in the attributes.
	Job JobID
	// Ceiling is the most the job may cost; it must equal the budget in the attributes.
	Ceiling NanoTON
	// Multiplier is the highest price multiplier the tenant pays. A worker whose ask is above it is refused the job.
	Multiplier BasisPoints
	// Signature is the tenant's Ed25519 signature over SpendSubmission (broker mode) or SpendJob (pin mode).
	Signature [ed25519.SignatureSize]byte
}

// SpendSubmission is what the tenant signs once for all jobs of one encapsulation in broker mode: that who made enc
// speaks for it. Ceiling and job id of each job are authenticated by the wrap, which only the maker of enc and the
// attested broker can produce.
func SpendSubmission(tenant TenantID, key KeyID, enc []byte) []byte {
	kid := key.KeyBytes()
	return AppendFields(nil, "cocoon/spend-submission/v1", []byte(tenant), kid[:], enc)
}

// SpendJob is what the tenant signs for each pinned job, where a worker shows the authorisation to a broker that
// cannot open the wrap.
func SpendJob(s *Spend, attributes Hash, commit [32]byte) []byte {
	return AppendFields(nil, "cocoon/spend-job/v1", []byte(s.Tenant), []byte(s.Job), be64(uint64(s.Ceiling)),
		be32(uint32(s.Multiplier)), attributes[:], commit[:])
}

// Check refuses an authorisation that does not belong to the job.
func (s *Spend) Check(a *Attributes) error {
	switch {
	case s.Tenant != a.Tenant:
		return invalid("spend.tenant", "is not the tenant of the job")
	case s.Job != a.ID:
		return invalid("spend.job", "is not this job")
	case s.Ceiling != a.Budget:
		return invalid("spend.ceiling", "is not the budget of the job")
	case s.Multiplier == 0 || s.Multiplier > MaxMultiplier:
		return invalid("spend.multiplier", "must lie between 1 and 1,000,000 basis points")
	}
	return nil
}

// Wrap is the plaintext of Recipient.Wrapped.
type Wrap struct {
	_ struct{} `cbor:",toarray"`
	// Content is the content key.
	Content [32]byte
	// Spend is the tenant's permission to charge the job.
	Spend Spend
}

// walk visits the fields of an authorisation.
func (s *Spend) walk(f *form) {
	f.fields(5)
	str(f, &s.Tenant)
	str(f, &s.Job)
	signed(f, &s.Ceiling)
	unsigned(f, &s.Multiplier)
	f.fixed(s.Signature[:])
}

// walk visits the fields of a wrap.
func (w *Wrap) walk(f *form) {
	f.fields(2)
	f.fixed(w.Content[:])
	w.Spend.walk(f)
}

// Encode spells the wrap.
func (w *Wrap) Encode() []byte { return EncodeCBOR(w) }

// ParseWrap reads a wrap strictly.
func ParseWrap(b []byte) (*Wrap, error) {
	var w Wrap
	if err := DecodeCBOR(b, &w, MaxWrapped); err != nil {
		return nil, rename(err, "wrap")
	}
	return &w, nil
}
