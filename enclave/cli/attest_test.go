//go:build !worker

package cli

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// evidenceDesk is a desk with evidence of a worker that a signed policy admits, made by the verbs themselves.
func evidenceDesk(t *testing.T) *desk {
	t.Helper()
	d := newDesk(t)
	d.must("policy", "init", "@p.json", "--simulated", "@sim")
	trust, err := readTrust(d.path("trust.json"))
	if err != nil {
		t.Fatal(err)
	}
	p := d.platform()
	m, err := p.Boot(context.Background(), sim.MachineSpec{Name: "host", Image: "worker", GPUs: 1, PolicyRoot: trust.Roots.Hash(), Models: []schemas.ModelID{testModel}})
	if err != nil {
		t.Fatal(err)
	}
	kem, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	claims := schemas.Claims{
		V: 1, Role: schemas.RoleWorker, HPKE: kem.PublicKey().Bytes(), Sign: make([]byte, ed25519.PublicKeySize), Boot: schemas.NewBootID(),
		Owner: schemas.Owner("0:" + strings.Repeat("ab", 32)), Expires: time.Now().UTC().Truncate(time.Second).Add(50 * time.Minute),
	}
	e, err := m.Attest(context.Background(), claims, [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	d.file("evidence.cbor", b)
	d.file("collateral.json", []byte(d.must("attest", "collateral", "@evidence.cbor", "--simulated", "@sim")))
	d.file("m.json", []byte(d.must("attest", "measure", "--name", "worker", "--evidence", "@evidence.cbor")))
	d.must("policy", "add", "image", "@p.json", "@m.json")
	d.must("policy", "add", "model", "@p.json", testModel)
	d.must("policy", "sign", "@p.json", "--key", "@a.key", "--key", "@b.key")
	return d
}

// verifying is the command line that verifies the desk's evidence offline.
func verifying(more ...string) []string {
	return append([]string{"attest", "verify", "@evidence.cbor", "--policy", "@p.signed.json", "--trust", "@trust.json", "--collateral", "@collateral.json"}, more...)
}

func TestAttestVerify(t *testing.T) {
	t.Parallel()
	d := evidenceDesk(t)
	out := d.must(verifying()...)
	for _, want := range []string{
		"ADMITTED", "image worker as worker", "SIMULATED hardware", "GPUs attested  1", "NOT PROVEN", "co-location", "physical integrity", "nobody challenged",
		"platform UpToDate", "earns for",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	var v verdict
	if err := json.Unmarshal([]byte(d.must(verifying("--json")...)), &v); err != nil {
		t.Fatal(err)
	}
	if !v.Admitted || v.Environment != schemas.Simulated || len(v.Steps) != 8 || v.Admission.GPUAttested != 1 || v.Admission.Challenged || v.Reason != nil {
		t.Errorf("verdict: %+v", v)
	}
	for _, s := range v.Steps {
		if !s.Proven || s.What == "" {
			t.Errorf("step %+v", s)
		}
	}
}

func TestAttestVerifyRefuses(t *testing.T) {
	t.Parallel()
	d := evidenceDesk(t)
	d.exits(cli.ExitRefused, "another challenge", verifying("--nonce", strings.Repeat("01", 32))...)
	d.exits(cli.ExitRefused, "claims.expires", verifying("--at", time.Now().Add(55*time.Minute).UTC().Format(time.RFC3339))...)
	d.exits(cli.ExitRefused, "policy", verifying("--at", "2099-01-01T00:00:00Z")...)
	d.must("attest", "verify", "@evidence.cbor", "--policy", "@p.signed.json", "--trust", "@trust.json", "--simulated", "@sim")
	d.exits(cli.ExitNotFound, "no simulated hardware", "attest", "collateral", "@evidence.cbor", "--simulated", "@nowhere")
	d.exits(cli.ExitUsage, "not both", "attest", "collateral", "@evidence.cbor", "--simulated", "@sim", "--service", "http://x")
	d.exits(cli.ExitUsage, "--nonce", verifying("--nonce", "01")...)
	d.exits(cli.ExitUsage, "--policy", "attest", "verify", "@evidence.cbor", "--trust", "@trust.json")
	d.file("evidence.cbor.bad", []byte("garbage"))
	d.exits(cli.ExitRefused, "evidence", "attest", "verify", "@evidence.cbor.bad", "--policy", "@p.signed.json", "--trust", "@trust.json", "--collateral", "@collateral.json")
	// Without collateral nothing is decided: that is no refusal.
	d.file("empty.json", []byte("{}"))
	d.exits(cli.ExitError, "collateral", "attest", "verify", "@evidence.cbor", "--policy", "@p.signed.json", "--trust", "@trust.json", "--collateral", "@empty.json")

	// The refusal is printed with the steps that held.
	d.must("policy", "init", "@q.json", "--simulated", "@sim")
	d.must("policy", "sign", "@q.json", "--key", "@a.key", "--key", "@b.key")
	out, err := d.run("attest", "verify", "@evidence.cbor", "--policy", "@q.signed.json", "--trust", "@trust.json", "--collateral", "@collateral.json", "--json")
	if cli.ExitCode(err) != cli.ExitRefused {
		t.Fatalf("exit: %v", err)
	}
	var v verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if v.Admitted || v.Reason == nil || v.Reason.Field != "image" || v.Reason.Kind != "policy_refused" || v.Admission != nil {
		t.Errorf("verdict: %+v", v)
	}
	for _, s := range v.Steps {
		if before := s.Step == "policy" || s.Step == "quote" || s.Step == "tcb" || s.Step == "td" || s.Step == "claims"; s.Proven != before {
			t.Errorf("step %s proven: %t", s.Step, s.Proven)
		}
	}
}

func TestAttestShow(t *testing.T) {
	t.Parallel()
	d := evidenceDesk(t)
	out := d.must("attest", "show", "@evidence.cbor")
	for _, want := range []string{"verified", "no: this only shows", "SIMULATED - NOT INTEL", "boot-done", testModel} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	var s statement
	if err := json.Unmarshal([]byte(d.must("attest", "show", "@evidence.cbor", "--json")), &s); err != nil || s.Verified || len(s.GPUs) != 1 || len(s.Log) != 4 {
		t.Errorf("statement: %+v, %v", s, err)
	}
	d.exits(cli.ExitNotFound, "does not exist", "attest", "show", "@nothing")
}

func TestAttestMeasure(t *testing.T) {
	t.Parallel()
	d := evidenceDesk(t)
	var m schemas.Measurement
	if err := json.Unmarshal([]byte(d.must("attest", "measure", "--name", "worker", "--evidence", "@evidence.cbor", "--gpus", "2-4")), &m); err != nil {
		t.Fatal(err)
	}
	want := sim.ImageRegisters("worker")
	if m.MRTD != want.MRTD || m.RTMR2 != want.RTMR[2] || m.MinGPUs != 2 || m.MaxGPUs != 4 || len(m.Configs) != 1 || m.Configs[0] != sim.ImageConfig("worker") {
		t.Errorf("measurement: %+v", m)
	}
	log, err := os.ReadFile("../tdx/measure/testdata/cos-113-ccel.bin")
	if err != nil {
		t.Fatal(err)
	}
	d.file("ccel.bin", log)
	d.file("bundle", []byte("configuration"))
	out := d.must("attest", "measure", "--name", "w", "--evidence", "@evidence.cbor", "--ccel", "@ccel.bin", "--rtmr2", schemas.Measure{9}.String(), "--config-file", "@bundle", "--mrowner", schemas.Measure{8}.String())
	if err := json.Unmarshal([]byte(out), &m); err != nil || !strings.HasPrefix(m.RTMR0.String(), "a4de2df2") || m.RTMR2 != (schemas.Measure{9}) || m.MROwner != (schemas.Measure{8}) || len(m.Configs) != 2 {
		t.Errorf("measurement: %s, %v", out, err)
	}
	var g schemas.Golden
	if err := json.Unmarshal([]byte(d.must("attest", "measure", "--golden", "--evidence", "@evidence.cbor", "--index", "3,7")), &g); err != nil || g.Driver != sim.GPUDriver || len(g.Values) != 2 {
		t.Errorf("golden: %+v, %v", g, err)
	}
	d.exits(cli.ExitUsage, "--name", "attest", "measure", "--evidence", "@evidence.cbor")
	d.exits(cli.ExitUsage, "--firmware or --evidence", "attest", "measure", "--name", "w")
	d.exits(cli.ExitUsage, "--gpus", "attest", "measure", "--name", "w", "--gpus", "many")
	d.exits(cli.ExitUsage, "--rtmr1", "attest", "measure", "--name", "w", "--rtmr1", "xyz", "--evidence", "@evidence.cbor")
	d.exits(cli.ExitError, "firmware", "attest", "measure", "--name", "w", "--firmware", "@bundle")
	d.exits(cli.ExitError, "index", "attest", "measure", "--golden", "--evidence", "@evidence.cbor", "--index", "99")
}

// TestPublishedKeyIsEvidence reads the evidence inside a published key.
func TestPublishedKeyIsEvidence(t *testing.T) {
	t.Parallel()
	d := evidenceDesk(t)
	evidence, err := os.ReadFile(d.path("evidence.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := schemas.EncodeJSON(schemas.NewPublishedKey("a.b.c", evidence))
	if err != nil {
		t.Fatal(err)
	}
	d.file("key.json", key)
	a, b := d.must("attest", "show", "@evidence.cbor"), d.must("attest", "show", "@key.json")
	if a != b {
		t.Errorf("another evidence:\n%s\n%s", a, b)
	}
}

func TestGatheredBundle(t *testing.T) {
	t.Parallel()
	d := evidenceDesk(t)
	text, err := os.ReadFile(d.path("collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := tdx.ParseBundle(text)
	if err != nil || len(bundle) != 4 || !bytes.Contains(text, []byte(`"crl.root"`)) {
		t.Errorf("bundle of %d documents, %v", len(bundle), err)
	}
}
