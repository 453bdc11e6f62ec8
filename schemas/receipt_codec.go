package schemas

import (
	"crypto/ed25519"
)

// ParseGrant reads the payload of a grant strictly. The signature is verified by enclave.VerifyGrant.
func ParseGrant(b []byte) (Grant, error) {
	var g Grant
	if err := readStatement(b, g.walk); err != nil {
		return Grant{}, err
	}
	return g, g.Check()
}

// Check refuses grants that no broker may sign.
func (g *Grant) Check() error {
	if g.V != 1 {
		return &Error{Kind: KindUnsupported, Field: "v", Message: "must be 1"}
	}
	if _, err := ParseJobID(string(g.Job)); err != nil {
		return err
	}
	if _, err := ParseTenantID(string(g.Tenant)); err != nil {
		return err
	}
	if _, err := ParseModelID(string(g.Model)); err != nil {
		return err
	}
	if _, err := ParseClass(string(g.Class)); err != nil {
		return err
	}
	if _, err := ParseOwner(string(g.Owner)); err != nil {
		return err
	}
	if _, err := ParseKeyID(string(g.Broker)); err != nil {
		return rename(err, "broker")
	}
	switch {
	case g.Envelope.IsZero():
		return invalid("envelope", "must not be zero")
	case g.Attempt < 1 || g.Attempt > MaxAttempts:
		return invalid("attempt", "must lie between 1 and 10")
	case len(g.WorkerKey) != ed25519.PublicKeySize:
		return invalid("worker_key", "must be an Ed25519 public key of 32 bytes")
	case g.Worker != WorkerIDOf(g.WorkerKey):
		return invalid("worker", "is not the id of worker_key")
	case g.Catalogue == 0:
		return invalid("catalogue", "must be at least 1")
	case g.Multiplier < 1 || g.Multiplier > MaxMultiplier:
		return invalid("multiplier", "must lie between 1 and 1,000,000 basis points")
	case g.Ceiling <= 0:
		return invalid("ceiling", "must be a positive number of nanoTON")
	case g.Policy == 0:
		return invalid("policy", "must be at least 1")
	case !utcSecond(g.Issued):
		return invalid("issued", "must be UTC with whole seconds")
	case !utcSecond(g.Lease) || !g.Lease.After(g.Issued):
		return invalid("lease", "must lie after issued")
	}
	return g.Environment.check()
}

// ParseReceipt reads the payload of a receipt strictly. The signature is verified by enclave.VerifyReceipt.
func ParseReceipt(b []byte) (Receipt, error) {
	var r Receipt
	if err := readStatement(b, r.walk); err != nil {
		return Receipt{}, err
	}
	return r, r.Check()
}

// Check refuses receipts that no worker may sign.
func (r *Receipt) Check() error {
	if r.V != 1 {
		return &Error{Kind: KindUnsupported, Field: "v", Message: "must be 1"}
	}
	if _, err := ParseJobID(string(r.Job)); err != nil {
		return err
	}
	if _, err := ParseWorkerID(string(r.Worker)); err != nil {
		return err
	}
	if _, err := ParseModelID(string(r.Model)); err != nil {
		return err
	}
	switch {
	case r.Grant.IsZero():
		return invalid("grant", "must not be zero")
	case r.Status != Succeeded && r.Status != Cancelled:
		return invalid("status", "must be succeeded or cancelled")
	case r.Usage.Prompt > MaxUsage || r.Usage.Cached > MaxUsage || r.Usage.Completion > MaxUsage || r.Usage.Reasoning > MaxUsage:
		return invalid("usage", "has a count above 2^40 tokens")
	case r.Result.IsZero():
		return invalid("result", "must not be zero")
	case r.Seq == 0:
		return invalid("seq", "must be at least 1")
	case (r.Seq == 1) != r.Prev.IsZero():
		return invalid("prev", "must be zero for the first receipt and only there")
	case !utcSecond(r.Started):
		return invalid("started", "must be UTC with whole seconds")
	case !utcSecond(r.Finished) || r.Finished.Before(r.Started):
		return invalid("finished", "must not lie before started")
	}
	return nil
}
