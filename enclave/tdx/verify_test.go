package tdx

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/pcs"
	testcases "github.com/google/go-tdx-guest/testing"
	"github.com/google/go-tdx-guest/testing/testdata"
	"github.com/google/go-tdx-guest/verify"

	"github.com/cocoon-network/cocoon/enclave/wycheprooftest"
	"github.com/cocoon-network/cocoon/schemas"
)

// intelTime is when the library's collateral samples were valid.
var intelTime = time.Date(2023, 7, 1, 1, 0, 0, 0, time.UTC)

// intelSamples serves the library's samples of Intel's collateral.
type intelSamples struct{ change func(url string, d *Document) }

func (s intelSamples) Fetch(_ context.Context, url string) (Document, error) {
	header, body, err := testcases.TestGetter.Get(url)
	d := Document{Body: bytes.Clone(body), Fetched: intelTime}
	for _, name := range issuerHeaders {
		if v := header[name]; len(v) == 1 {
			d.Issuer = v[0]
		}
	}
	if s.change != nil {
		s.change(url, &d)
	}
	return d, err
}

// intel verifies over the samples.
func intel(change func(string, *Document)) *Verifier {
	return NewVerifier(NewCollateral(CollateralOptions{Source: intelSamples{change}, Now: func() time.Time { return intelTime }}))
}

// fieldOf is the field of a refusal, "" when err is none.
func fieldOf(t *testing.T, err error) string {
	t.Helper()
	var e *schemas.Error
	if !errors.As(err, &e) || e.Kind != schemas.KindAttestation {
		if err != nil {
			t.Errorf("untyped error: %v", err)
		}
		return ""
	}
	return e.Field
}

// TestIntelQuote verifies a quote that Intel's hardware signed, under Intel's root, with Intel's collateral. Everything
// verifies down to the TCB level, where the sample collateral has none for the sample quote; the library's own tests
// expect that too.
func TestIntelQuote(t *testing.T) {
	t.Parallel()
	raw := Trim(testdata.RawQuote)
	if len(raw) != 4935 {
		t.Fatalf("quote of %d bytes", len(raw))
	}
	_, err := intel(nil).Verify(context.Background(), raw, []schemas.Hash{IntelRoot}, intelTime)
	if fieldOf(t, err) != "tcb.platform" || !strings.Contains(err.Error(), "no TCB level") {
		t.Fatalf("verify: %v", err)
	}
	r, err := ReadRegisters(raw)
	if err != nil {
		t.Fatal(err)
	}
	if r.Debug() || r.Attributes != 0x40000000 || !strings.HasPrefix(r.Module.String(), "2fd279c1") {
		t.Errorf("registers: %+v", r)
	}
	name, root, err := ParseRoot(raw)
	if err != nil || root != IntelRoot || name != "Intel SGX Root CA, Intel Corporation" {
		t.Errorf("root: %s %s %v", name, root, err)
	}
}

// TestIntelQuoteSignatures checks the second, own verification of the two signatures on real bytes.
func TestIntelQuoteSignatures(t *testing.T) {
	t.Parallel()
	raw := Trim(testdata.RawQuote)
	q, err := parseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := parseChain(q.chain)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&standing{chain: chain}).signed(q); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]int{"body": 200, "signature": signatureAt + 3, "key": signatureAt + 70, "QE report": signatureAt + 140, "QE signature": signatureAt + 134 + 390, "authentication data": signatureAt + 134 + 455} {
		x := bytes.Clone(raw)
		x[at] ^= 1
		q, err := parseQuote(x)
		if err != nil {
			t.Fatal(name, err)
		}
		if err := (&standing{chain: chain}).signed(q); err == nil {
			t.Errorf("%s: altered byte accepted", name)
		}
	}
}

func TestIntelQuoteRefused(t *testing.T) {
	t.Parallel()
	raw := Trim(testdata.RawQuote)
	verifyAt := func(change func(string, *Document), roots []schemas.Hash, now time.Time) error {
		_, err := intel(change).Verify(context.Background(), raw, roots, now)
		return err
	}
	roots := []schemas.Hash{IntelRoot}
	for name, c := range map[string]struct {
		field  string
		change func(string, *Document)
		roots  []schemas.Hash
		now    time.Time
	}{
		"another root":               {"quote.root", nil, []schemas.Hash{{1}}, intelTime},
		"no root":                    {"roots", nil, nil, intelTime},
		"no time":                    {"roots", nil, roots, time.Time{}},
		"collateral ended":           {"quote", nil, roots, intelTime.AddDate(0, 1, 0)},
		"collateral of the future":   {"collateral", nil, roots, time.Date(2023, 6, 18, 8, 0, 0, 0, time.UTC)},
		"certificates of the future": {"quote.chain", nil, roots, time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC)},
		"TCB info altered": {"quote", func(url string, d *Document) {
			if Name(url) == "tcb.50806f000000" {
				d.Body = bytes.Replace(d.Body, []byte(`"pcesvn":5`), []byte(`"pcesvn":4`), 1)
			}
		}, roots, intelTime},
		// The library verifies "tcbInfo" and reads "TCBInfo" over it: see readSigned.
		"TCB info spelled twice": {"collateral.tcbInfo", func(url string, d *Document) {
			if Name(url) == "tcb.50806f000000" {
				d.Body = append([]byte(`{"TCBInfo":{"tcbLevels":[]},`), d.Body[1:]...)
			}
		}, roots, intelTime},
		"QE identity spelled twice": {"collateral.enclaveIdentity", func(url string, d *Document) {
			if Name(url) == "qe" {
				d.Body = bytes.TrimSpace(d.Body)
				d.Body = append(d.Body[:len(d.Body)-1], []byte(`,"EnclaveIdentity":{"isvprodid":2}}`)...)
			}
		}, roots, intelTime},
		"no issuer": {"quote", func(url string, d *Document) { d.Issuer = "" }, roots, intelTime},
	} {
		if err := verifyAt(c.change, c.roots, c.now); fieldOf(t, err) != c.field {
			t.Errorf("%s: %v, want a refusal of %s", name, err, c.field)
		}
	}
}

// TestLibraryReadsWhatItDoesNotVerify shows why readSigned exists: the bare library takes TCB levels from a key that no
// signature covers. When this test fails the library has been mended, and nothing else changes.
func TestLibraryReadsWhatItDoesNotVerify(t *testing.T) {
	t.Parallel()
	const url = "https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=50806f000000"
	responses := map[string]testcases.HTTPResponse{}
	for u, r := range testcases.TestGetter.Responses {
		responses[u] = r
	}
	forged := responses[url]
	level := `{"tcb":{"sgxtcbcomponents":[` + strings.Repeat(`{"svn":0},`, 15) + `{"svn":0}],"pcesvn":0,"tdxtcbcomponents":[` + strings.Repeat(`{"svn":0},`, 15) + `{"svn":0}]},"tcbDate":"2023-02-15T00:00:00Z","tcbStatus":"UpToDate"}`
	honest := bytes.TrimSpace(forged.Body)
	forged.Body = append(bytes.Clone(honest[:len(honest)-1]), []byte(`,"TCBInfo":{"tcbLevels":[`+level+`]}}`)...)
	responses[url] = forged
	options := func(getter *testcases.Getter) *verify.Options {
		return &verify.Options{CheckRevocations: true, GetCollateral: true, Getter: getter, Now: intelTime, TrustedRoots: intelPool(t)}
	}
	if err := verify.RawTdxQuote(testdata.RawQuote, options(testcases.TestGetter)); err == nil {
		t.Fatal("the honest sample verifies: choose another one")
	}
	if err := verify.RawTdxQuote(testdata.RawQuote, options(&testcases.Getter{Responses: responses})); err != nil {
		t.Errorf("the library refuses: %v", err)
	}
}

// samePEM reports whether two quotes differ at most in white space of the certificate chain, which nothing signs.
func samePEM(a, b []byte) bool {
	i, j := bytes.Index(a, []byte("-----BEGIN")), bytes.Index(b, []byte("-----BEGIN"))
	if i < 0 || i != j || !bytes.Equal(a[:i], b[:j]) {
		return false
	}
	a, b = a[i:], b[j:]
	for {
		var x, y *pem.Block
		x, a = pem.Decode(a)
		y, b = pem.Decode(b)
		if x == nil || y == nil {
			return x == nil && y == nil
		}
		if !bytes.Equal(x.Bytes, y.Bytes) {
			return false
		}
	}
}

// TestMutatedIntelQuote changes a real quote in thousands of ways. Nothing panics, not even inside the library, and every
// refusal is typed.
func TestMutatedIntelQuote(t *testing.T) {
	t.Parallel()
	raw, v, random := Trim(testdata.RawQuote), intel(nil), rand.New(rand.NewPCG(1, 2))
	for range 6000 {
		x := mutated(random, raw)
		_, err := v.Verify(context.Background(), x, []schemas.Hash{IntelRoot}, intelTime)
		if field := fieldOf(t, err); field == "" || strings.Contains(err.Error(), "is malformed: ") {
			t.Fatalf("mutated quote: %v", err)
		} else if field == "tcb.platform" && !samePEM(x, raw) {
			t.Fatal("a mutated quote got as far as an unaltered one")
		}
	}
}

// mutated changes a quote: cut, a size field, or a few bytes.
func mutated(random *rand.Rand, raw []byte) []byte {
	x := bytes.Clone(raw)
	switch random.IntN(4) {
	case 0:
		x = x[:random.IntN(len(x))]
	case 1:
		for _, at := range []int{signedSize, signatureAt + 128, signatureAt + 130, signatureAt + 134 + 448, signatureAt + 134 + 450 + 32, signatureAt + 134 + 452 + 32} {
			if random.IntN(3) == 0 {
				binary.LittleEndian.PutUint32(x[at:], random.Uint32()>>uint(random.IntN(32)))
			}
		}
	case 2:
		for range 1 + random.IntN(4) {
			x[random.IntN(len(x))] ^= byte(1 + random.IntN(255))
		}
	case 3:
		x = append(x, make([]byte, 1+random.IntN(64))...)
	}
	return x
}

func TestTrim(t *testing.T) {
	t.Parallel()
	raw := Trim(testdata.RawQuote)
	for name, c := range map[string]struct{ in, want []byte }{
		"padded":    {append(bytes.Clone(raw), 0, 0, 0), raw},
		"exact":     {raw, raw},
		"truncated": {raw[:2000], raw[:2000]},
		"tiny":      {raw[:10], raw[:10]},
	} {
		if got := Trim(c.in); !bytes.Equal(got, c.want) {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(c.want))
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		pcs.TcbInfoURL("50806f000000"): "tcb.50806f000000", pcs.QeIdentityURL(): "qe", pcs.PckCrlURL("platform"): "crl.platform",
		"https://certificates.trustedservices.intel.com/IntelSGXRootCA.der": "crl.root",
	} {
		if got := Name(url); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}

func FuzzQuote(f *testing.F) {
	raw := Trim(testdata.RawQuote)
	f.Add(raw)
	f.Add(raw[:700])
	v := intel(nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := v.Verify(context.Background(), b, []schemas.Hash{IntelRoot}, intelTime)
		if fieldOf(t, err) == "" || strings.Contains(err.Error(), "is malformed: ") {
			t.Fatalf("quote: %v", err)
		}
		q, err := parseQuote(b)
		if err != nil {
			return
		}
		// What parses has every byte in its place: the parts give the whole again.
		le := binary.LittleEndian
		again := le.AppendUint32(bytes.Clone(q.signed), uint32(len(b)-signatureAt))
		again = append(append(again, q.signature...), q.key...)
		again = le.AppendUint32(append(again, 6, 0), uint32(len(q.qeReport)+len(q.qeSignature)+2+len(q.auth)+6+len(q.chain)))
		again = append(append(again, q.qeReport...), q.qeSignature...)
		again = append(le.AppendUint16(again, uint16(len(q.auth))), q.auth...)
		again = append(le.AppendUint32(append(again, 5, 0), uint32(len(q.chain))), q.chain...)
		if !bytes.Equal(again, b) {
			t.Fatal("a quote does not re-encode to its bytes")
		}
	})
}

func FuzzBundle(f *testing.F) {
	f.Add([]byte(`{"qe":{"body":"e30=","fetched":"2026-01-01T00:00:00Z"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		bundle, err := ParseBundle(b)
		if err != nil {
			return
		}
		for _, d := range bundle {
			_ = d.issued() // must not panic
		}
		one, err := schemas.EncodeJSON(bundle)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseBundle(one)
		if err != nil {
			t.Fatalf("%s, its own encoding, is refused: %v", one, err)
		}
		if two, err := schemas.EncodeJSON(again); err != nil || !bytes.Equal(one, two) {
			t.Fatalf("%s encodes again as %s (%v)", one, two, err)
		}
	})
}

// FuzzFacts fuzzes Intel's documents as they are read after the library has verified them, and the certificate chain of a
// quote: whatever stands there ends in facts or in a refusal.
func FuzzFacts(f *testing.F) {
	q, err := parseQuote(Trim(testdata.RawQuote))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(testdata.TcbInfoBody, testdata.QeIdentityBody, testdata.PckCrlBody, q.chain)
	f.Fuzz(func(t *testing.T, tcb, qe, crl, pem []byte) {
		_, err := newFacts(&snapshot{tcb: Document{Body: tcb}, qe: Document{Body: qe}, crls: [2]Document{{Body: crl}, {Body: crl}}})
		if err != nil {
			fieldOf(t, err)
		}
		c, err := parseChain(pem)
		if err != nil {
			fieldOf(t, err)
			return
		}
		_ = c.check(intelTime)
		var again []byte
		for _, cert := range []*x509.Certificate{c.leaf, c.intermediate, c.root} {
			again = append(again, encodePEM(cert.Raw)...)
		}
		if second, err := parseChain(again); err != nil || !second.leaf.Equal(c.leaf) || !second.intermediate.Equal(c.intermediate) || second.rootHash != c.rootHash {
			t.Fatalf("the chain's certificates make another chain: %v", err)
		}
	})
}

// encodePEM spells a certificate.
func encodePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// intelPool is Intel's root, taken from the sample quote.
func intelPool(t *testing.T) *x509.CertPool {
	t.Helper()
	q, err := parseQuote(Trim(testdata.RawQuote))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := parseChain(q.chain)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(chain.root)
	return pool
}

// TestWycheproof: signatures over quotes and certificates, by people who meant them to be taken wrongly.
func TestWycheproof(t *testing.T) {
	t.Parallel()
	key := func(c *wycheprooftest.Case) *ecdsa.PublicKey {
		k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), c.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	wycheprooftest.Each(t, "ecdsa_secp256r1_sha256_p1363_test.json", 260, func(t *testing.T, c *wycheprooftest.Case) {
		// A quote's signature has 64 bytes by its form.
		if taken := len(c.Sig) == signatureSize && verifyP256(key(c), c.Msg, c.Sig); taken != c.Valid() {
			t.Errorf("case %d (%s) is %s; taken: %t", c.ID, c.Comment, c.Result, taken)
		}
	})
	wycheprooftest.Each(t, "ecdsa_secp256r1_sha256_test.json", 480, func(t *testing.T, c *wycheprooftest.Case) {
		issuer := &x509.Certificate{PublicKeyAlgorithm: x509.ECDSA, PublicKey: key(c)}
		if err := issuer.CheckSignature(x509.ECDSAWithSHA256, c.Msg, c.Sig); (err == nil) != c.Valid() {
			t.Errorf("case %d (%s) is %s: %v", c.ID, c.Comment, c.Result, err)
		}
	})
}
