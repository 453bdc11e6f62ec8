package sim_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func newPlatform(t *testing.T, seed byte) *sim.Platform {
	t.Helper()
	p, err := sim.New([sim.SeedSize]byte{seed}, sim.Options{Now: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// chains collects every certificate of a machine with one GPU.
func chains(t *testing.T, p *sim.Platform) (all []byte) {
	t.Helper()
	td, err := p.Launch("host", sim.ImageRegisters("image"))
	if err != nil {
		t.Fatal(err)
	}
	quote, err := td.Quote(context.Background(), [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	all = append(append(all, quote[bytes.Index(quote, []byte("-----BEGIN")):]...), '\n') // the quote ends its chain with a zero
	gpu, err := p.GPU("host", 0)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := gpu.Chain()
	if err != nil {
		t.Fatal(err)
	}
	documents, err := p.Documents(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"crl.platform", "qe"} {
		issuer, err := url.QueryUnescape(documents[name].Issuer)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, issuer...)
	}
	return append(all, chain...)
}

func TestOneSeedOneHierarchy(t *testing.T) {
	t.Parallel()
	a, b, other := newPlatform(t, 1), newPlatform(t, 1), newPlatform(t, 2)
	if !bytes.Equal(chains(t, a), chains(t, b)) {
		t.Error("two platforms of one seed have different certificates")
	}
	if a.Roots().TDX[0] == other.Roots().TDX[0] || a.Roots().GPU[0] == other.Roots().GPU[0] {
		t.Error("two seeds have one root")
	}
	if a.PPID("x") == a.PPID("y") || a.PPID("x") == other.PPID("x") {
		t.Error("two machines have one PPID")
	}
}

// TestEverythingSaysSimulated: nobody can take a certificate of ours for a real one.
func TestEverythingSaysSimulated(t *testing.T) {
	t.Parallel()
	rest, n := chains(t, newPlatform(t, 1)), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if n++; !strings.Contains(cert.Subject.String(), "SIMULATED") || !strings.Contains(cert.Issuer.String(), "SIMULATED") {
			t.Errorf("%s, issued by %s", cert.Subject, cert.Issuer)
		}
	}
	if n != 3+5+2+2 {
		t.Errorf("%d certificates looked at", n)
	}
	if !strings.Contains(sim.GPUName, "SIMULATED") {
		t.Error("the GPU's name does not say so")
	}
}

func TestOpenKeepsTheRoot(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := sim.Load(dir, sim.Options{}); schemas.KindOf(err) != schemas.KindNotFound {
		t.Errorf("nothing kept: %v", err)
	}
	a, err := sim.Open(dir, sim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := sim.Load(dir, sim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if a.Roots().TDX[0] != b.Roots().TDX[0] {
		t.Error("another root after a restart")
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %s, %v", info.Mode(), err)
	}
	path := filepath.Join(dir, files[0].Name())
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sim.Open(dir, sim.Options{}); schemas.KindOf(err) != schemas.KindCorrupt {
		t.Errorf("damaged seed: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "short" {
		t.Errorf("the damaged file was touched: %q, %v", b, err)
	}
}

func TestPolicyIsValid(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 1)
	policy := p.Policy(sim.PolicySpec{
		Images: []sim.ImageRule{{Name: "worker", Role: schemas.RoleWorker, MinGPUs: 1, MaxGPUs: 8}, {Name: "broker", Role: schemas.RoleBroker}},
		Models: []schemas.ModelID{"b@1:" + schemas.ModelID(schemas.Hash{}.String()), "a@1:" + schemas.ModelID(schemas.Hash{}.String())},
	})
	if err := policy.Check(); err != nil {
		t.Error(err)
	}
	if policy.Environment != schemas.Simulated || policy.Models[0][0] != 'a' {
		t.Errorf("policy: %+v", policy)
	}
}

func TestBootNeedsNames(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 1)
	for _, spec := range []sim.MachineSpec{{Image: "i", PolicyRoot: schemas.Hash{1}}, {Name: "n", PolicyRoot: schemas.Hash{1}}, {Name: "n", Image: "i"}} {
		if _, err := p.Boot(context.Background(), spec); schemas.KindOf(err) != schemas.KindInvalid {
			t.Errorf("%+v: %v", spec, err)
		}
	}
}

func TestServiceKnowsOnlyItsOwn(t *testing.T) {
	t.Parallel()
	if _, err := newPlatform(t, 1).Fetch(context.Background(), "https://example.com/"); schemas.KindOf(err) != schemas.KindNotFound {
		t.Errorf("unknown url: %v", err)
	}
	if err := (&sim.TD{}).Extend(context.Background(), 4, schemas.Measure{}); schemas.KindOf(err) != schemas.KindInvalid {
		t.Errorf("fifth register: %v", err)
	}
}

// A simulated quote passes the production verifier under the development root, and no other.
func Example() {
	platform, err := sim.New([sim.SeedSize]byte{1}, sim.Options{Now: func() time.Time { return start }})
	if err != nil {
		fmt.Println(err)
		return
	}
	td, err := platform.Launch("host-1", sim.ImageRegisters("worker"))
	if err != nil {
		fmt.Println(err)
		return
	}
	quote, err := td.Quote(context.Background(), [64]byte{})
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier := tdx.NewVerifier(platform.Collateral())
	report, err := verifier.Verify(context.Background(), quote, platform.Roots().TDX, start)
	fmt.Println(report.Platform, err)
	name, _, _ := tdx.ParseRoot(quote)
	fmt.Println(name)
	_, err = verifier.Verify(context.Background(), quote, []schemas.Hash{tdx.IntelRoot}, start)
	fmt.Println(schemas.KindOf(err))
	// Output:
	// UpToDate <nil>
	// Intel SGX Root CA, SIMULATED - NOT INTEL
	// attestation_failed
}
