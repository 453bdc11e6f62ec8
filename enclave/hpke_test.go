package enclave_test

import (
	"bytes"
	"crypto/hpke"
	"crypto/sha3"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// hpkeVector is one case of the vectors that lie in the Go toolchain's own tree: RFC 9180's and those of the draft that
// adds the post-quantum KEMs.
type hpkeVector struct {
	Mode        uint16 `json:"mode"`
	KEM         uint16 `json:"kem_id"`
	KDF         uint16 `json:"kdf_id"`
	AEAD        uint16 `json:"aead_id"`
	Info        hexes  `json:"info"`
	SkRm        hexes  `json:"skRm"`
	PkRm        hexes  `json:"pkRm"`
	IkmR        hexes  `json:"ikmR"`
	Enc         hexes  `json:"enc"`
	Encryptions []struct {
		Aad hexes `json:"aad"`
		Ct  hexes `json:"ct"`
		Pt  hexes `json:"pt"`
	} `json:"encryptions"`
	Exports []struct {
		Context hexes `json:"exporter_context"`
		L       int   `json:"L"`
		Value   hexes `json:"exported_value"`
	} `json:"exports"`
	AccExports hexes `json:"exports_accumulated"`
}

// hexes are bytes spelled in hex.
type hexes []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hexes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// TestHPKEVectors runs, as the recipient, the vectors that nobody here made through the very functions that seals are made
// with. They are read from GOROOT at test time; a toolchain without its own test data cannot run them.
func TestHPKEVectors(t *testing.T) {
	t.Parallel()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		unavailable(t, "there is no go command: "+err.Error())
	}
	ours := 0
	for file, least := range map[string]int{"rfc9180.json": 20, "hpke-pq.json": 5} {
		path := filepath.Join(strings.TrimSpace(string(root)), "src", "crypto", "hpke", "testdata", file)
		b, err := os.ReadFile(path)
		if err != nil {
			unavailable(t, "the toolchain has no vectors: "+err.Error())
		}
		var vectors []hpkeVector
		if err := json.Unmarshal(b, &vectors); err != nil {
			t.Fatal(err)
		}
		ran := 0
		for _, v := range vectors {
			if v.run(t) {
				ran++
				if v.KEM == hpke.MLKEM768X25519().ID() {
					ours++
				}
			}
		}
		if ran < least {
			t.Errorf("%s: %d vectors ran, want at least %d", file, ran, least)
		}
	}
	if ours == 0 {
		t.Error("no vector of ML-KEM-768+X25519 ran")
	}
}

// unavailable skips, or fails where everything must run.
func unavailable(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("COCOON_TEST_REQUIRE") == "all" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// run runs one vector; false: the standard library does not have its algorithms.
func (v *hpkeVector) run(t *testing.T) bool {
	t.Helper()
	kem, err1 := hpke.NewKEM(v.KEM)
	kdf, err2 := hpke.NewKDF(v.KDF)
	aead, err3 := hpke.NewAEAD(v.AEAD)
	if err1 != nil || err2 != nil || err3 != nil || v.Mode != 0 {
		return false
	}
	private, err := kem.NewPrivateKey(v.SkRm)
	if err != nil {
		t.Fatal(err)
	}
	derived, err := kem.DeriveKeyPair(v.IkmR)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(private.PublicKey().Bytes(), v.PkRm) || !bytes.Equal(derived.PublicKey().Bytes(), v.PkRm) {
		t.Errorf("KEM %#x: another public key", v.KEM)
	}
	recipient, err := hpke.NewRecipient(v.Enc, private, kdf, aead, v.Info)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range v.Encryptions {
		if got, err := recipient.Open(e.Aad, e.Ct); err != nil || !bytes.Equal(got, e.Pt) {
			t.Errorf("KEM %#x: encryption %d: %x, %v", v.KEM, i, got, err)
		}
	}
	for i, e := range v.Exports {
		if got, err := recipient.Export(string(e.Context), e.L); err != nil || !bytes.Equal(got, e.Value) {
			t.Errorf("KEM %#x: export %d: %x, %v", v.KEM, i, got, err)
		}
	}
	if len(v.AccExports) > 0 {
		v.accumulated(t, recipient)
	}
	return true
}

// accumulated checks a thousand exports through their hash, which is what the toolchain keeps of RFC 9180's large file.
func (v *hpkeVector) accumulated(t *testing.T, recipient *hpke.Recipient) {
	t.Helper()
	source, sink := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	for l := range 1000 {
		var n [1]byte
		if _, err := io.ReadFull(source, n[:]); err != nil {
			t.Fatal(err)
		}
		context := make([]byte, n[0])
		if _, err := io.ReadFull(source, context); err != nil {
			t.Fatal(err)
		}
		value, err := recipient.Export(string(context), l)
		if err != nil {
			t.Fatal(err)
		}
		sink.Write(value)
	}
	sum := make([]byte, 16)
	if _, err := io.ReadFull(sink, sum); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sum, v.AccExports) {
		t.Errorf("KEM %#x: exports accumulate to %x, want %x", v.KEM, sum, []byte(v.AccExports))
	}
}
