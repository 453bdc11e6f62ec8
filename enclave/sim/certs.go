package sim

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"time"
)

// Organisations in the certificates of the two development roots.
const (
	OrganisationTDX = "SIMULATED - NOT INTEL"
	OrganisationGPU = "SIMULATED - NOT NVIDIA"
)

// Certificates have fixed dates, so that one seed gives one hierarchy. GPU certificates never end, as the vendor's.
var (
	notBefore   = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter    = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
	gpuNotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// identity is a key with its certificate.
type identity struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// signer signs deterministically (RFC 6979), so that a seed gives the same certificates every time.
type signer struct{ key *ecdsa.PrivateKey }

// Public implements crypto.Signer.
func (s signer) Public() crypto.PublicKey { return s.key.Public() }

// Sign implements crypto.Signer.
func (s signer) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return s.key.Sign(nil, digest, o)
}

// issue fills a template and has the parent sign it; without a parent the certificate signs itself.
func (p *Platform) issue(t *x509.Certificate, curve elliptic.Curve, purpose string, parent *identity) (identity, error) {
	key := p.key(curve, purpose)
	t.SerialNumber = p.serial(purpose)
	t.SubjectKeyId = p.derive("ski "+purpose, 20)
	t.NotBefore, t.BasicConstraintsValid = notBefore, true
	if t.NotAfter.IsZero() {
		t.NotAfter = notAfter
	}
	if t.IsCA {
		t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	} else {
		t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	}
	by := &identity{key, t}
	if parent != nil {
		by = parent
	}
	t.AuthorityKeyId = by.cert.SubjectKeyId
	der, err := x509.CreateCertificate(rand.Reader, t, by.cert, key.Public(), signer{by.key})
	if err != nil {
		return identity{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return identity{key, cert}, err
}

// serial is the serial number of the certificate for a purpose.
func (p *Platform) serial(purpose string) *big.Int {
	return new(big.Int).SetBytes(p.derive("serial "+purpose, 19))
}

// subject names a certificate.
func subject(organisation, commonName string) pkix.Name {
	return pkix.Name{CommonName: commonName, Organization: []string{organisation}, Country: []string{"XX"}}
}

// chainPEM concatenates certificates.
func chainPEM(certs ...*x509.Certificate) (b []byte) {
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

// rawSignature signs a digest as r‖s, each of size bytes.
func rawSignature(key *ecdsa.PrivateKey, digest []byte, size int) ([]byte, error) {
	r, s, err := ecdsa.Sign(rand.Reader, key, digest)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 2*size)
	r.FillBytes(b[:size])
	s.FillBytes(b[size:])
	return b, nil
}
