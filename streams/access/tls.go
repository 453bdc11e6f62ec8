package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Lives of certificates.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	serverLife    = 398 * 24 * time.Hour
	clientLife    = 398 * 24 * time.Hour
	// backdate forgives clocks that are behind.
	backdate = time.Hour
)

// authority issues certificates of servers and clients of one network.
type authority struct {
	cert *x509.Certificate
	pem  []byte
	key  *ecdsa.PrivateKey
}

// openAuthority reads the authority of a folder, or makes it. The key is written first: a certificate without its key could
// never issue anything, a key without its certificate is given one.
func openAuthority(dir string) (*authority, error) {
	keyFile, certFile := filepath.Join(dir, fileCAKey), filepath.Join(dir, FileCA)
	key, err := makeKey(keyFile)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Cocoon network authority"},
		NotBefore: time.Now().Add(-backdate), NotAfter: time.Now().Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "authority: %w", err)
	}
	if err := writeMissing(certFile, spellCert(der), 0o644); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(certFile)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindDenied, "authority: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, schemas.Errorf(schemas.KindCorrupt, "%s is no certificate", certFile)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindCorrupt, "%s: %w", certFile, err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, schemas.Errorf(schemas.KindCorrupt, "%s does not belong to %s", keyFile, certFile)
	}
	return &authority{cert, text, key}, nil
}

// certificate is what is issued: with hosts to a server, which is also a client of its neighbours; without to a client.
type certificate struct {
	name  string
	hosts []string
	life  time.Duration
}

// issue writes a certificate and its key into a folder, unless they are there.
func (a *authority) issue(dir string, c certificate) error {
	key, err := makeKey(filepath.Join(dir, FileKey))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: c.name},
		NotBefore: time.Now().Add(-backdate), NotAfter: time.Now().Add(c.life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if len(c.hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, host := range c.hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return schemas.Errorf(schemas.KindInvalid, "certificate of %s: %w", c.name, err)
	}
	if err := writeMissing(filepath.Join(dir, FileCert), spellCert(der), 0o644); err != nil {
		return err
	}
	return writeMissing(filepath.Join(dir, FileCA), a.pem, 0o644)
}

// makeKey reads a private key, or makes it.
func makeKey(path string) (*ecdsa.PrivateKey, error) {
	made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(made)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "key: %w", err)
	}
	if err := writeMissing(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindDenied, "key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, schemas.Errorf(schemas.KindCorrupt, "%s is no key", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if key, ok := parsed.(*ecdsa.PrivateKey); err == nil && ok {
		return key, nil
	}
	return nil, schemas.Errorf(schemas.KindCorrupt, "%s is no ECDSA key", path)
}

// serial is a random serial number.
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f // positive, as X.509 demands
	return new(big.Int).SetBytes(b[:])
}

// spellCert spells a certificate as PEM.
func spellCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
