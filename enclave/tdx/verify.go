package tdx

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/pcs"
	"github.com/google/go-tdx-guest/verify"

	"github.com/cocoon-network/cocoon/schemas"
)

// IntelRoot is the SHA-256 fingerprint of the "Intel SGX Root CA" certificate, the only root of the production
// environment.
var IntelRoot = schemas.Hash{
	0x44, 0xa0, 0x19, 0x6b, 0x2b, 0x99, 0xf8, 0x89, 0xb8, 0xe1, 0x49, 0xe9, 0x5b, 0x80, 0x7a, 0x35,
	0x0e, 0x74, 0x24, 0x96, 0x43, 0x99, 0xe8, 0x85, 0xa7, 0xcb, 0xb8, 0xcc, 0xfa, 0xb6, 0x74, 0xd3,
}

// maxStandings bounds the verified chains a Verifier remembers: one for each machine that attests here.
const maxStandings = 4096

// Verifier verifies quotes. It remembers PCK chains that have verified together with a set of collateral, until the
// first of them ends, and the attestation key that the machine's quoting enclave vouched for; a later quote of the same
// machine then costs one P-256 verification. The same checks are made on the way through the library, so that the short way
// can never accept what the long way refuses.
//
// It is safe for concurrent use.
type Verifier struct {
	collateral *Collateral

	mu sync.Mutex // guards the fields below
	// standings is keyed by the hash of the chain's bytes, facts by that of the collateral.
	standings map[schemas.Hash]*standing
	facts     map[schemas.Hash]*facts
}

// NewVerifier returns a verifier over a cache of collateral.
func NewVerifier(collateral *Collateral) *Verifier {
	return &Verifier{collateral: collateral, standings: map[schemas.Hash]*standing{}, facts: map[schemas.Hash]*facts{}}
}

// Report is what a quote proves.
type Report struct {
	Registers
	// Root is the fingerprint of the root that the quote chains to.
	Root schemas.Hash
	// Platform, TDXModule and QE are Intel's judgements.
	Platform, TDXModule, QE Level
	// Evaluation is the lower tcbEvaluationDataNumber of the two documents.
	Evaluation int
	// FMSPC names the processor family, PPID the machine.
	FMSPC string
	PPID  schemas.PPID
	// NextUpdate is when the first of the documents and certificates behind this report ends.
	NextUpdate time.Time
	// Collateral identifies the documents used.
	Collateral schemas.Hash

	chain *pckChain
}

// Verify checks a quote down to one of the given root fingerprints. Nothing panics, whatever the bytes. Failures are
// KindAttestation with the part that failed as field, or KindUnavailable when collateral could not be had.
func (v *Verifier) Verify(ctx context.Context, raw []byte, roots []schemas.Hash, now time.Time) (r *Report, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, refuse("quote", "is malformed: %v", p)
		}
	}()
	if len(roots) == 0 || now.IsZero() {
		return nil, refuse("roots", "roots and the time are required")
	}
	q, err := parseQuote(raw)
	if err != nil {
		return nil, err
	}
	s, err := v.stand(ctx, raw, q, roots, now)
	if err != nil {
		return nil, err
	}
	return s.appraise(q)
}

// Holds reports whether a report still rests on the newest collateral known here, so that a copy of it may be used
// again instead of verifying the same quote.
func (v *Verifier) Holds(ctx context.Context, r *Report, now time.Time) bool {
	if r.chain == nil {
		return false
	}
	snap, err := v.snapshot(ctx, r.chain)
	return err == nil && snap.digest == r.Collateral && now.Before(r.NextUpdate)
}

// stand finds the standing of the quote's machine, or establishes it by full verification. In both cases the signatures
// of this quote have been checked when it returns.
func (v *Verifier) stand(ctx context.Context, raw []byte, q *quote, roots []schemas.Hash, now time.Time) (*standing, error) {
	key := schemas.HashOf(q.chain)
	v.mu.Lock()
	known := v.standings[key]
	v.mu.Unlock()
	if known != nil && slices.Contains(roots, known.chain.rootHash) {
		snap, err := v.snapshot(ctx, known.chain)
		if err != nil {
			return nil, err
		}
		if snap.digest == known.facts.collateral && known.valid(now) {
			return known, known.signed(q)
		}
	}
	chain, err := parseChain(q.chain)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(roots, chain.rootHash) {
		return nil, refuse("quote.root", "%s (%s) is not a root this policy names", chain.root.Subject.CommonName, chain.rootHash)
	}
	if err := chain.check(now); err != nil {
		return nil, err
	}
	s := &standing{chain: chain}
	if err := s.signed(q); err != nil {
		return nil, err
	}
	snap, err := v.snapshot(ctx, chain)
	if err != nil {
		return nil, err
	}
	if err := throughLibrary(raw, chain, snap, now); err != nil {
		return nil, err
	}
	if s.facts, err = v.read(snap); err != nil {
		return nil, err
	}
	if !s.valid(now) {
		return nil, refuse("collateral", "is from the future or has ended")
	}
	for url, d := range snap.documents {
		v.collateral.verified(url, d)
	}
	v.remember(key, s)
	return s, nil
}

// read takes verified documents apart, once for all machines that share them.
func (v *Verifier) read(snap *snapshot) (*facts, error) {
	v.mu.Lock()
	f := v.facts[snap.digest]
	v.mu.Unlock()
	if f != nil {
		return f, nil
	}
	f, err := newFacts(snap)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.facts) >= maxDocuments {
		clear(v.facts) // standings keep theirs; the next machine reads its own again
	}
	v.facts[snap.digest] = f
	return f, nil
}

// remember keeps a standing, at the price of another one when there are too many.
func (v *Verifier) remember(key schemas.Hash, s *standing) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.standings) >= maxStandings {
		for other := range v.standings {
			delete(v.standings, other)
			break
		}
	}
	v.standings[key] = s
}

// The library says these when it has passed everything before its two TCB checks, the last things it does. Its
// judgement there is replaced by ours; should the texts change, verification fails closed.
const (
	libraryTCBError = "TDX TCB info reported by Intel PCS failed TCB status check: "
	libraryQEError  = "QE Identity reported by Intel PCS failed TCB status check: "
)

// throughLibrary has go-tdx-guest verify chain, revocation, collateral and quote.
func throughLibrary(raw []byte, chain *pckChain, snap *snapshot, now time.Time) error {
	parsed, err := abi.QuoteToProto(bytes.Clone(raw))
	if err != nil {
		return because("quote", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(chain.root)
	err = verify.TdxQuote(parsed, &verify.Options{
		CheckRevocations: true, GetCollateral: true, Getter: snap, Now: now, TrustedRoots: pool,
	})
	if err != nil && !strings.HasPrefix(err.Error(), libraryTCBError) && !strings.HasPrefix(err.Error(), libraryQEError) {
		return because("quote", err)
	}
	return nil
}

// pckChain is the certificate chain of a quote.
type pckChain struct {
	leaf, intermediate, root *x509.Certificate
	rootHash                 schemas.Hash
	extensions               *pcs.PckExtensions
	ppid                     schemas.PPID
}

// parseChain demands exactly three certificates, leaf first.
func parseChain(b []byte) (*pckChain, error) {
	var certs [3]*x509.Certificate
	rest := b
	for i := range certs {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, refuse("quote.chain", "has %d certificates, must have 3", i)
		}
		var err error
		if certs[i], err = x509.ParseCertificate(block.Bytes); err != nil {
			return nil, because("quote.chain", err)
		}
	}
	if len(rest) != 0 && !bytes.Equal(rest, []byte{0}) {
		return nil, refuse("quote.chain", "has bytes after the third certificate")
	}
	c := &pckChain{leaf: certs[0], intermediate: certs[1], root: certs[2], rootHash: schemas.HashOf(certs[2].Raw)}
	if len(c.root.CRLDistributionPoints) == 0 {
		return nil, refuse("quote.root", "names no revocation list")
	}
	var err error
	if c.extensions, err = pcs.PckCertificateExtensions(c.leaf); err != nil {
		return nil, because("quote.chain", err)
	}
	if err := c.ppid.UnmarshalText([]byte(strings.ToLower(c.extensions.PPID))); err != nil {
		return nil, because("quote.chain", err)
	}
	return c, nil
}

// documents are the urls of the collateral about the machine: TCB info, QE identity, the two revocation lists.
func (c *pckChain) documents() [4]string {
	return [4]string{pcs.TcbInfoURL(c.extensions.FMSPC), pcs.QeIdentityURL(), pcs.PckCrlURL("platform"), c.root.CRLDistributionPoints[0]}
}

// check verifies the chain's signatures, so that nobody makes us fetch documents about processors that do not exist.
func (c *pckChain) check(now time.Time) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(c.root)
	intermediates.AddCert(c.intermediate)
	_, err := c.leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return because("quote.chain", err)
	}
	return nil
}

// snapshot is the collateral of one verification. It implements the library's getter, and serves nothing else.
type snapshot struct {
	documents map[string]Document
	tcb, qe   Document
	crls      [2]Document
	digest    schemas.Hash
}

// snapshot gathers the four documents about a machine.
func (v *Verifier) snapshot(ctx context.Context, chain *pckChain) (*snapshot, error) {
	s := &snapshot{documents: make(map[string]Document, 4)}
	urls := chain.documents()
	all := sha256.New()
	for i, into := range []*Document{&s.tcb, &s.qe, &s.crls[0], &s.crls[1]} {
		d, digest, err := v.collateral.get(ctx, urls[i])
		if err != nil {
			return nil, err
		}
		*into = d
		s.documents[urls[i]] = d
		all.Write(digest[:])
	}
	s.digest = schemas.Hash(all.Sum(nil))
	return s, nil
}

// Get implements the library's trust.HTTPSGetter.
func (s *snapshot) Get(url string) (map[string][]string, []byte, error) {
	d, ok := s.documents[url]
	if !ok {
		return nil, nil, errors.New("not part of this verification: " + url)
	}
	header := map[string][]string{}
	if d.Issuer != "" {
		for _, name := range issuerHeaders {
			header[name] = []string{d.Issuer}
		}
	}
	return header, d.Body, nil
}

// issuerHeaders are the spellings under which the library looks for the chain that signs a document.
var issuerHeaders = [...]string{"Tcb-Info-Issuer-Chain", "Sgx-Enclave-Identity-Issuer-Chain", "Sgx-Pck-Crl-Issuer-Chain"}

// vouched checks that the PCK vouches for a quote's attestation key, and returns the key.
func (c *pckChain) vouched(q *quote) (*ecdsa.PublicKey, error) {
	pck, ok := c.leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || pck.Curve != elliptic.P256() {
		return nil, refuse("quote.chain", "the PCK is not a P-256 key")
	}
	if !verifyP256(pck, q.qeReport, q.qeSignature) {
		return nil, refuse("quote.qe", "the PCK did not sign the quoting enclave's report")
	}
	binding := sha256.New()
	binding.Write(q.key)
	binding.Write(q.auth)
	data := q.qeReport[320:384]
	if !bytes.Equal(binding.Sum(nil), data[:32]) || !bytes.Equal(data[32:], make([]byte, 32)) {
		return nil, refuse("quote.qe", "the quoting enclave does not vouch for the attestation key")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, q.key...))
	if err != nil {
		return nil, because("quote.key", err)
	}
	return key, nil
}

// verifyP256 checks a raw r‖s signature over the SHA-256 of a message.
func verifyP256(key *ecdsa.PublicKey, message, signature []byte) bool {
	digest := sha256.Sum256(message)
	return ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}

// ParseRoot reads the fingerprint of the last certificate of a quote's chain, for display.
func ParseRoot(raw []byte) (name string, fingerprint schemas.Hash, err error) {
	q, err := parseQuote(raw)
	if err != nil {
		return "", schemas.Hash{}, err
	}
	c, err := parseChain(q.chain)
	if err != nil {
		return "", schemas.Hash{}, err
	}
	return strings.Join(append([]string{c.root.Subject.CommonName}, c.root.Subject.Organization...), ", "), c.rootHash, nil
}

// hexBytes spells bytes for messages.
func hexBytes(b []byte) string { return hex.EncodeToString(b) }
