package nvidia

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Root is the SHA-256 fingerprint of the "NVIDIA Device Identity CA" certificate, the only root of the production
// environment.
var Root = schemas.Hash{
	0x10, 0x2b, 0xf6, 0x59, 0xd5, 0x41, 0x96, 0x14, 0xc9, 0xd8, 0xe6, 0xae, 0xce, 0xbc, 0x80, 0x45,
	0x4e, 0xb2, 0x6b, 0x1d, 0xf6, 0xa7, 0x69, 0xac, 0x72, 0x0b, 0x9a, 0x69, 0x0b, 0x16, 0x7b, 0x48,
}

const (
	// chainLength is the number of certificates of a device: firmware, die, provisioner, architecture, root.
	chainLength = 5
	// maxStandings bounds the verified chains a Verifier remembers.
	maxStandings = 4096
)

// Report is what a GPU's evidence proves.
type Report struct {
	// ID names the die: the SHA-256 of its identity key.
	ID schemas.Hash
	// Root is the fingerprint of the chain's root.
	Root schemas.Hash
	// Architecture is the chip that the chain was issued for, such as GH100.
	Architecture string
	// Driver and VBIOS are the measured versions.
	Driver, VBIOS string
	// RIMs names NVIDIA's reference files for driver and VBIOS.
	RIMs [2]string
	// Measurements is keyed by index from 0.
	Measurements map[int]schemas.Measure
	// Revocation is what the stapled answers say.
	Revocation Revocation
}

// Revocation is what the vendor says about the certificates between leaf and root.
type Revocation struct {
	// Checked is true when every one of them has a valid answer saying that it is good.
	Checked bool
	// ProducedAt is the oldest answer's date and NextUpdate the first to end; zero when not Checked.
	ProducedAt, NextUpdate time.Time
}

// Verifier verifies GPU evidence. It remembers chains that have verified, each with the newest stapled answers about it,
// and tables for their keys, so that a GPU which attests again costs one cheap P-384 verification. It is safe for concurrent
// use.
type Verifier struct {
	signatures *signatures

	mu sync.Mutex
	// standings is keyed by the hash of the chain's bytes; guarded by mu.
	standings map[schemas.Hash]standing
}

// standing is a chain that has verified, and what the stapled answers with the given hash say about it.
type standing struct {
	*chain
	staples    schemas.Hash
	revocation Revocation
}

// NewVerifier returns a verifier.
func NewVerifier() *Verifier {
	return &Verifier{signatures: newSignatures(), standings: map[schemas.Hash]standing{}}
}

// Verify checks the evidence of one GPU against a challenge and the admitted root fingerprints. Failures are
// KindAttestation with the part that failed as field.
func (v *Verifier) Verify(e schemas.GPUEvidence, nonce [32]byte, roots []schemas.Hash, now time.Time) (*Report, error) {
	m, err := parseMessage(e.Report)
	if err != nil {
		return nil, err
	}
	c, err := v.stand(e, roots, now)
	if err != nil {
		return nil, err
	}
	digest := sha512.Sum384(m.signed)
	if !v.signatures.verify(c.key, digest[:], m.signature) {
		return nil, refuse("report.signature", "the GPU's key did not sign this report")
	}
	if m.nonce != nonce {
		return nil, refuse("report.nonce", "is not the challenge")
	}
	if id := m.opaque[fieldFWID]; len(id) > 0 && !slices.ContainsFunc(c.firmware, func(f []byte) bool { return bytes.Equal(f, id) }) {
		return nil, refuse("report.fwid", "is not the firmware id of the GPU's certificate")
	}
	r := &Report{
		ID: c.id, Root: c.rootHash, Architecture: c.architecture, Driver: m.text(fieldDriver), VBIOS: m.vbios(),
		Measurements: m.measurements, Revocation: c.revocation,
	}
	if r.Driver == "" || r.VBIOS == "" {
		return nil, refuse("report.opaque", "names no driver or VBIOS: not a GPU's report")
	}
	r.RIMs = m.rims(r)
	return r, nil
}

// rims spells the names of NVIDIA's reference files.
func (m *message) rims(r *Report) [2]string {
	vbios := strings.Join([]string{
		"NV_GPU_VBIOS", m.text(fieldProject), m.text(fieldProjectSKU), m.text(fieldChipSKU), strings.ReplaceAll(r.VBIOS, ".", ""),
	}, "_")
	return [2]string{"NV_GPU_DRIVER_" + r.Architecture + "_" + r.Driver, strings.ToUpper(vbios)}
}

// stand finds a verified chain or verifies it, and then the same for the answers stapled to it.
func (v *Verifier) stand(e schemas.GPUEvidence, roots []schemas.Hash, now time.Time) (s standing, err error) {
	key, staples := schemas.HashOf(e.Chain), staplesHash(e.OCSP)
	v.mu.Lock()
	known := v.standings[key]
	v.mu.Unlock()
	if known.chain != nil && slices.Contains(roots, known.rootHash) && known.valid(now) {
		s.chain = known.chain
		if known.staples == staples && known.revocation.valid(now) {
			return known, nil
		}
	} else if s.chain, err = verifyChain(e.Chain, roots, now); err != nil {
		return s, err
	}
	if s.revocation, err = s.checkStaples(e.OCSP, now); err != nil {
		return s, err
	}
	s.staples = staples
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.standings) >= maxStandings {
		for other := range v.standings {
			delete(v.standings, other)
			break
		}
	}
	v.standings[key] = s
	return s, nil
}

// verifyChain verifies a chain down to one of the admitted roots.
func verifyChain(b []byte, roots []schemas.Hash, now time.Time) (*chain, error) {
	c, err := parseChain(b)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(roots, c.rootHash) {
		return nil, refuse("chain.root", "%s (%s) is not a root this policy names", c.certs[chainLength-1].Subject.CommonName, c.rootHash)
	}
	return c, c.check(now)
}

// staplesHash identifies stapled answers; the hash of each keeps their borders apart.
func staplesHash(staples [][]byte) schemas.Hash {
	var all []byte
	for _, staple := range staples {
		sum := schemas.HashOf(staple)
		all = append(all, sum[:]...)
	}
	return schemas.HashOf(all)
}

// chain is a GPU's certificate chain.
type chain struct {
	certs        [chainLength]*x509.Certificate
	key          *ecdsa.PublicKey
	id, rootHash schemas.Hash
	architecture string
	firmware     [][]byte
}

// parseChain reads exactly five certificates, leaf first, and nothing else.
func parseChain(b []byte) (*chain, error) {
	c := &chain{}
	rest := b
	for i := range c.certs {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, refuse("chain", "has %d certificates, must have 5", i)
		}
		var err error
		if c.certs[i], err = x509.ParseCertificate(block.Bytes); err != nil {
			return nil, because("chain", err)
		}
	}
	if len(bytes.Trim(rest, "\x00\r\n ")) != 0 {
		return nil, refuse("chain", "has bytes after the fifth certificate")
	}
	key, ok := c.certs[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, refuse("chain", "the GPU's key is not a P-384 key")
	}
	c.key, c.id, c.rootHash = key, schemas.HashOf(c.certs[1].RawSubjectPublicKeyInfo), schemas.HashOf(c.certs[4].Raw)
	c.architecture = architecture(c.certs[3].Subject.CommonName)
	c.firmware = firmwareIDs(c.certs[0])
	return c, nil
}

// architecture reads the chip from the name of the certificate that stands for all chips of its kind, such as
// "NVIDIA GH100 Identity".
func architecture(commonName string) string {
	fields := strings.Fields(commonName)
	if len(fields) < 2 || fields[len(fields)-1] != "Identity" {
		return ""
	}
	return fields[len(fields)-2]
}

// check verifies the chain in the exact order given.
func (c *chain) check(now time.Time) error {
	for i, cert := range c.certs {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return refuse("chain", "certificate %d is not valid at %s", i, now.UTC().Format(time.RFC3339))
		}
		if i == chainLength-1 {
			break
		}
		parent := c.certs[i+1]
		if !parent.IsCA || !bytes.Equal(cert.RawIssuer, parent.RawSubject) {
			return refuse("chain", "certificate %d was not issued by the one after it", i)
		}
		if err := cert.CheckSignatureFrom(parent); err != nil {
			return because("chain", fmt.Errorf("certificate %d: %w", i, err))
		}
	}
	return nil
}

// valid reports whether the certificates are still in force.
func (c *chain) valid(now time.Time) bool {
	for _, cert := range c.certs {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return false
		}
	}
	return true
}

// valid reports whether the answers, if there are any, are still in force.
func (r Revocation) valid(now time.Time) bool { return !r.Checked || now.Before(r.NextUpdate) }

// The DICE extensions that carry firmware ids: Hopper's composite device id and Blackwell's TCB info.
var (
	oidCompositeDevice = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}
	oidTCBInfo         = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1, 1}
	oidSHA384          = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
)

// firmwareIDs collects every SHA-384 digest that the leaf's DICE extension names.
func firmwareIDs(cert *x509.Certificate) (ids [][]byte) {
	for _, extension := range cert.Extensions {
		if extension.Id.Equal(oidCompositeDevice) || extension.Id.Equal(oidTCBInfo) {
			ids = append(ids, digestsIn(extension.Value, 0)...)
		}
	}
	return ids
}

// maxASN1Depth bounds the nesting of an extension.
const maxASN1Depth = 12

// digestsIn walks ASN.1 for an octet string of 48 bytes right after the object id of SHA-384.
func digestsIn(b []byte, depth int) (found [][]byte) {
	algorithm := false
	for len(b) > 0 && depth < maxASN1Depth {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(b, &v)
		if err != nil {
			return found
		}
		b = rest
		switch {
		case v.IsCompound:
			found = append(found, digestsIn(v.Bytes, depth+1)...)
			algorithm = false
		case v.Class == asn1.ClassUniversal && v.Tag == asn1.TagOID:
			var id asn1.ObjectIdentifier
			_, err := asn1.Unmarshal(v.FullBytes, &id)
			algorithm = err == nil && id.Equal(oidSHA384)
		case v.Class == asn1.ClassUniversal && v.Tag == asn1.TagOctetString && algorithm && len(v.Bytes) == measureSize:
			found = append(found, v.Bytes)
			algorithm = false
		default:
			algorithm = false
		}
	}
	return found
}

// Match compares a report with one golden state. It returns the number of values that agreed, and an error that names
// the first difference.
func (r *Report) Match(g schemas.Golden) (int, error) {
	if r.Driver != g.Driver || r.VBIOS != g.VBIOS {
		return 0, fmt.Errorf("driver %s, VBIOS %s", r.Driver, r.VBIOS)
	}
	first := -1
	for index, admitted := range g.Values {
		if value, ok := r.Measurements[index]; (!ok || !slices.Contains(admitted, value)) && (first < 0 || index < first) {
			first = index
		}
	}
	if first >= 0 {
		return 0, fmt.Errorf("measurement %d is %s", first, r.Measurements[first])
	}
	return len(g.Values), nil
}

// ReadReport reads versions and measurements of a report without verifying anything: for display, and for measuring a GPU
// that is known to be good.
func ReadReport(raw []byte) (driver, vbios string, measurements map[int]schemas.Measure, err error) {
	m, err := parseMessage(raw)
	if err != nil {
		return "", "", nil, err
	}
	return m.text(fieldDriver), m.vbios(), m.measurements, nil
}

// refuse is a KindAttestation error that names the part which did not verify.
func refuse(field, format string, args ...any) error {
	return &schemas.Error{Kind: schemas.KindAttestation, Field: field, Message: fmt.Sprintf(format, args...)}
}

// because is refuse with the cause kept.
func because(field string, err error) error {
	var own *schemas.Error
	if errors.As(err, &own) {
		return own
	}
	return &schemas.Error{Kind: schemas.KindAttestation, Field: field, Message: err.Error(), Err: err}
}
