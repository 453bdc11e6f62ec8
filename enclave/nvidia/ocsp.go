package nvidia

import (
	"crypto/x509"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/cocoon-network/cocoon/schemas"
)

// firstStapled and lastStapled are the certificates that the vendor's responder knows: die, provisioner, architecture.
// The leaf is made by the GPU itself at every boot.
const (
	firstStapled = 1
	lastStapled  = chainLength - 2
)

// checkStaples verifies the stapled answers. No answers are not an error here: the policy decides. A revoked or unknown
// certificate, a wrong or outdated answer, and an incomplete set are.
func (c *chain) checkStaples(staples [][]byte, now time.Time) (Revocation, error) {
	if len(staples) == 0 {
		return Revocation{}, nil
	}
	if len(staples) != lastStapled-firstStapled+1 {
		return Revocation{}, refuse("ocsp", "has %d answers, must have 3: die, provisioner, architecture", len(staples))
	}
	r := Revocation{Checked: true}
	for i, staple := range staples {
		cert, issuer := c.certs[firstStapled+i], c.certs[firstStapled+i+1]
		answer, err := ocsp.ParseResponseForCert(staple, cert, issuer)
		if err != nil {
			return Revocation{}, because("ocsp", err)
		}
		if d := answer.Certificate; d != nil && !mayAnswer(d, now) {
			return Revocation{}, refuse("ocsp", "answer about %q is signed by %q, which may not answer", cert.Subject.CommonName, d.Subject.CommonName)
		}
		if answer.Status != ocsp.Good {
			return Revocation{}, refuse("ocsp", "certificate %q is revoked or unknown to its issuer", cert.Subject.CommonName)
		}
		if now.Add(schemas.MaxClockSkew).Before(answer.ThisUpdate) || answer.NextUpdate.IsZero() || !now.Before(answer.NextUpdate) {
			return Revocation{}, refuse("ocsp", "answer about %q is valid from %s to %s", cert.Subject.CommonName,
				answer.ThisUpdate.Format(time.RFC3339), answer.NextUpdate.Format(time.RFC3339))
		}
		r.add(answer)
	}
	return r, nil
}

// mayAnswer reports whether the issuer has delegated its answers to a certificate. The OCSP library checks only that the
// issuer signed it, and the issuer of one die's certificate has signed those of all its siblings.
func mayAnswer(delegate *x509.Certificate, now time.Time) bool {
	return slices.Contains(delegate.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) && !now.Before(delegate.NotBefore) && !now.After(delegate.NotAfter)
}

// add narrows the revocation data by one answer.
func (r *Revocation) add(answer *ocsp.Response) {
	if r.ProducedAt.IsZero() || answer.ThisUpdate.Before(r.ProducedAt) {
		r.ProducedAt = answer.ThisUpdate
	}
	if r.NextUpdate.IsZero() || answer.NextUpdate.Before(r.NextUpdate) {
		r.NextUpdate = answer.NextUpdate
	}
}
