package nvidia

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/cocoon-network/cocoon/schemas"
)

// realTime is a moment at which the real chain is valid.
var realTime = time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC)

// realH100 is the report and chain of a real H100; see testdata/README.md.
func realH100(t testing.TB) (report, chain []byte) {
	t.Helper()
	text, err := os.ReadFile("testdata/h100-report.hex")
	if err != nil {
		t.Fatal(err)
	}
	if report, err = hex.DecodeString(string(bytes.TrimSpace(text))); err != nil {
		t.Fatal(err)
	}
	if chain, err = os.ReadFile("testdata/h100-chain.pem"); err != nil {
		t.Fatal(err)
	}
	return report, chain
}

// realNonce is the challenge that the real report answers.
func realNonce(t testing.TB, report []byte) [32]byte {
	t.Helper()
	m, err := parseMessage(report)
	if err != nil {
		t.Fatal(err)
	}
	return m.nonce
}

func TestRealH100(t *testing.T) {
	t.Parallel()
	report, chain := realH100(t)
	r, err := NewVerifier().Verify(schemas.GPUEvidence{Report: report, Chain: chain}, realNonce(t, report), []schemas.Hash{Root}, realTime)
	if err != nil {
		t.Fatal(err)
	}
	if r.Architecture != "GH100" || r.Driver != "545.00" || r.VBIOS != "96.00.5E.00.01" || len(r.Measurements) != 64 || r.Revocation.Checked {
		t.Errorf("report: %+v", r)
	}
	if want := [2]string{"NV_GPU_DRIVER_GH100_545.00", "NV_GPU_VBIOS_1010_0200_882_96005E0001"}; r.RIMs != want {
		t.Errorf("reference files %v, want %v", r.RIMs, want)
	}
	golden := schemas.Golden{Driver: "545.00", VBIOS: "96.00.5E.00.01", Values: map[int][]schemas.Measure{9: {{}, r.Measurements[9]}, 3: {r.Measurements[3]}}}
	if n, err := r.Match(golden); err != nil || n != 2 {
		t.Errorf("golden values: %d matched, %v", n, err)
	}
	golden.Values[3] = []schemas.Measure{{1}}
	if _, err := r.Match(golden); err == nil {
		t.Error("another firmware state matched")
	}
	golden.Driver = "545.01"
	if _, err := r.Match(golden); err == nil {
		t.Error("another driver matched")
	}
}

func TestRealH100Refused(t *testing.T) {
	t.Parallel()
	report, chain := realH100(t)
	missing, err := os.ReadFile("testdata/h100-chain-missing-die.pem")
	if err != nil {
		t.Fatal(err)
	}
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	type call struct {
		e     schemas.GPUEvidence
		nonce [32]byte
		roots []schemas.Hash
		at    time.Time
	}
	for name, c := range map[string]struct {
		field  string
		change func(*call)
	}{
		"another nonce":       {"report.nonce", func(c *call) { c.nonce[0] ^= 1 }},
		"another root":        {"chain.root", func(c *call) { c.roots = []schemas.Hash{{1}} }},
		"no roots":            {"chain.root", func(c *call) { c.roots = nil }},
		"before the chain":    {"chain", func(c *call) { c.at = time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC) }},
		"missing certificate": {"chain", func(c *call) { c.e.Chain = missing }},
		"six certificates":    {"chain", func(c *call) { c.e.Chain = append(bytes.Clone(chain), chain...) }},
		"no chain":            {"chain", func(c *call) { c.e.Chain = nil }},
		"signature":           {"report.signature", func(c *call) { c.e.Report = flip(report, len(report)-1) }},
		"measurement":         {"report.signature", func(c *call) { c.e.Report = flip(report, 120) }},
		"trailing byte":       {"report.response", func(c *call) { c.e.Report = append(bytes.Clone(report), 0) }},
		"request version":     {"report.request", func(c *call) { c.e.Report = flip(report, 0) }},
		"response version":    {"report.response", func(c *call) { c.e.Report = flip(report, requestSize) }},
		"truncated":           {"report", func(c *call) { c.e.Report = report[:minReport-1] }},
		"staple too few":      {"ocsp", func(c *call) { c.e.OCSP = [][]byte{{1}} }},
		"staples wrong":       {"ocsp", func(c *call) { c.e.OCSP = [][]byte{{1}, {2}, {3}} }},
	} {
		k := call{schemas.GPUEvidence{Report: report, Chain: chain}, realNonce(t, report), []schemas.Hash{Root}, realTime}
		c.change(&k)
		_, err := NewVerifier().Verify(k.e, k.nonce, k.roots, k.at)
		var e *schemas.Error
		if !errors.As(err, &e) || e.Kind != schemas.KindAttestation || e.Field != c.field {
			t.Errorf("%s: %v, want an attestation failure of %s", name, err, c.field)
		}
	}
}

// TestStandingsDoNotWiden checks that a chain which verified once is still judged by the roots and time of each call.
func TestStandingsDoNotWiden(t *testing.T) {
	t.Parallel()
	report, chain := realH100(t)
	v, e, nonce := NewVerifier(), schemas.GPUEvidence{Report: report, Chain: chain}, realNonce(t, report)
	if _, err := v.Verify(e, nonce, []schemas.Hash{Root}, realTime); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(e, nonce, []schemas.Hash{{1}}, realTime); err == nil {
		t.Error("known chain accepted under another root")
	}
	if _, err := v.Verify(e, nonce, []schemas.Hash{Root}, time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
		t.Error("known chain accepted before it was valid")
	}
	e.Report = bytes.Clone(report)
	e.Report[200] ^= 1
	if _, err := v.Verify(e, nonce, []schemas.Hash{Root}, realTime); err == nil {
		t.Error("altered report accepted with a known chain")
	}
}

// TestMutatedReports changes a real report in thousands of ways: nothing panics, nothing altered is accepted.
func TestMutatedReports(t *testing.T) {
	t.Parallel()
	report, chain := realH100(t)
	v, nonce, random := NewVerifier(), realNonce(t, report), rand.New(rand.NewPCG(3, 4))
	verified := 0
	for range 20_000 {
		x := bytes.Clone(report)
		switch random.IntN(3) {
		case 0:
			x = x[:random.IntN(len(x))]
		case 1:
			x[random.IntN(len(x))] ^= byte(1 + random.IntN(255))
		case 2: // the fields that give sizes
			x[requestSize+random.IntN(12)] = byte(random.Uint32())
		}
		if bytes.Equal(x, report) {
			continue
		}
		if _, err := parseMessage(x); err != nil {
			if schemas.KindOf(err) != schemas.KindAttestation {
				t.Fatalf("untyped error: %v", err)
			}
			continue
		}
		if verified++; verified%20 == 0 { // a signature check costs more than all the parsing
			if _, err := v.Verify(schemas.GPUEvidence{Report: x, Chain: chain}, nonce, []schemas.Hash{Root}, realTime); err == nil {
				t.Fatal("altered report accepted")
			}
		}
	}
	if verified < 1000 {
		t.Errorf("only %d mutated reports parsed: the test no longer reaches the signature", verified)
	}
}

func TestMutatedChains(t *testing.T) {
	t.Parallel()
	report, chain := realH100(t)
	v, nonce, random := NewVerifier(), realNonce(t, report), rand.New(rand.NewPCG(5, 6))
	root := chain[bytes.LastIndex(chain, []byte("-----BEGIN")):]
	for range 1500 {
		x := bytes.Clone(chain)
		at := random.IntN(len(x))
		x[at] ^= byte(1 + random.IntN(255))
		_, err := v.Verify(schemas.GPUEvidence{Report: report, Chain: x}, nonce, []schemas.Hash{Root}, realTime)
		if err != nil && schemas.KindOf(err) != schemas.KindAttestation {
			t.Fatalf("untyped error: %v", err)
		}
		if err == nil && !sameCertificates(t, x, chain) {
			t.Fatalf("chain altered at byte %d accepted (root begins at %d)", at, len(chain)-len(root))
		}
	}
}

// sameCertificates compares chains by content: white space of PEM is not signed.
func sameCertificates(t *testing.T, a, b []byte) bool {
	t.Helper()
	x, errX := parseChain(a)
	y, errY := parseChain(b)
	if errX != nil || errY != nil {
		return false
	}
	for i := range x.certs {
		if !x.certs[i].Equal(y.certs[i]) {
			return false
		}
	}
	return true
}

func FuzzReport(f *testing.F) {
	report, _ := realH100(f)
	f.Add(report)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			if schemas.KindOf(err) != schemas.KindAttestation {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		// Every byte is accounted for: the parts give the whole again.
		if len(m.signed)+len(m.signature) != len(b) || len(m.signature) != signatureSize {
			t.Fatal("bytes are missing")
		}
		size := requestSize + 8 + 32 + 2
		size += len(m.measurements) * (4 + 3 + measureSize)
		for _, v := range m.opaque {
			size += 4 + len(v)
		}
		if size != len(m.signed) {
			t.Fatalf("%d of %d bytes accounted for", size, len(m.signed))
		}
	})
}

func FuzzChain(f *testing.F) {
	_, chain := realH100(f)
	f.Add(chain)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseChain(b)
		if err != nil {
			if schemas.KindOf(err) != schemas.KindAttestation {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		_ = c.check(realTime) // must not panic
		var again []byte
		for _, cert := range c.certs {
			again = append(again, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
		}
		if !sameCertificates(t, b, again) {
			t.Fatal("the chain's certificates make another chain")
		}
	})
}

// FuzzStaple: no bytes in the place of the vendor's answers are taken for an answer about the real chain.
func FuzzStaple(f *testing.F) {
	_, chain := realH100(f)
	c, err := parseChain(chain)
	if err != nil {
		f.Fatal(err)
	}
	unsigned, err := ocsp.CreateRequest(c.certs[1], c.certs[2], nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(unsigned, []byte{0x30, 3, 0x0a, 1, 6}, []byte(nil))
	f.Fuzz(func(t *testing.T, die, provisioner, architecture []byte) {
		r, err := c.checkStaples([][]byte{die, provisioner, architecture}, realTime)
		if err == nil || r.Checked || schemas.KindOf(err) != schemas.KindAttestation {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	report, chain := realH100(b)
	e, nonce := schemas.GPUEvidence{Report: report, Chain: chain}, realNonce(b, report)
	b.Run("full", func(b *testing.B) {
		for b.Loop() {
			if _, err := NewVerifier().Verify(e, nonce, []schemas.Hash{Root}, realTime); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("known-chain", func(b *testing.B) {
		v := NewVerifier()
		for b.Loop() {
			if _, err := v.Verify(e, nonce, []schemas.Hash{Root}, realTime); err != nil {
				b.Fatal(err)
			}
		}
	})
}
