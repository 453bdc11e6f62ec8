package wycheprooftest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Hex are bytes, spelled in hex in the files.
type Hex []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// Case is one case with what its group says about it. A file fills the fields of its own kind and leaves the others.
type Case struct {
	// ID and Comment are for messages.
	ID      int    `json:"tcId"`
	Comment string `json:"comment"`
	// Result is "valid", "invalid", or "acceptable" for what implementations may do either way.
	Result string `json:"result"`

	// Signatures and message authentication.
	Msg Hex `json:"msg"`
	Sig Hex `json:"sig"`
	Tag Hex `json:"tag"`
	// Encryption.
	Key Hex `json:"key"`
	IV  Hex `json:"iv"`
	AAD Hex `json:"aad"`
	CT  Hex `json:"ct"`
	// Derivation.
	IKM  Hex `json:"ikm"`
	Salt Hex `json:"salt"`
	Info Hex `json:"info"`
	Size int `json:"size"`
	OKM  Hex `json:"okm"`
	// Agreement. Public is the other side's key, a group's key is in PublicKey.
	Public  Hex `json:"public"`
	Private Hex `json:"private"`
	Shared  Hex `json:"shared"`
	// Encapsulation.
	Seed          Hex `json:"seed"`
	Encapsulation Hex `json:"ek"`
	Ciphertext    Hex `json:"c"`
	SharedKey     Hex `json:"K"`
	// JWS is a compact token.
	JWS string `json:"jws"`

	// PublicKey is the verifier's key: 32 bytes of Ed25519, or an uncompressed point.
	PublicKey Hex `json:"-"`
}

// Valid reports whether the case must be taken. Nothing is known of one that is acceptable.
func (c *Case) Valid() bool { return c.Result == "valid" }

// file is a file of cases.
type file struct {
	Groups []struct {
		PublicKey struct {
			PK           Hex `json:"pk"`
			Uncompressed Hex `json:"uncompressed"`
		} `json:"publicKey"`
		Tests []json.RawMessage `json:"tests"`
	} `json:"testGroups"`
}

// Each hands every case of a file, such as "ed25519_test.json", to check. Fewer than least cases fail the test: a search that
// finds nothing proves nothing. Where the module cannot be had the test is skipped, or fails if everything is required.
func Each(t *testing.T, name string, least int, check func(t *testing.T, c *Case)) {
	t.Helper()
	dir, err := folder()
	if err != nil {
		if os.Getenv("COCOON_TEST_REQUIRE") == "all" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "testvectors_v1", name))
	if err != nil {
		t.Fatal(err)
	}
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, g := range f.Groups {
		for _, raw := range g.Tests {
			c := Case{PublicKey: append(g.PublicKey.PK, g.PublicKey.Uncompressed...)}
			if err := json.Unmarshal(raw, &c); err != nil {
				t.Fatal(err)
			}
			count++
			check(t, &c)
		}
	}
	if count < least {
		t.Errorf("%s: %d cases, want at least %d", name, count, least)
	}
}

// folder is where the go command keeps the module, fetched if need be.
var folder = sync.OnceValues(func() (string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("go", "mod", "download", "-json", "github.com/c2sp/wycheproof")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var module struct{ Dir, Error string }
	if e := json.Unmarshal(out, &module); err != nil || e != nil || module.Dir == "" {
		return "", fmt.Errorf("the cases of Wycheproof cannot be had: %w: %s%s", errors.Join(err, e), module.Error, stderr.Bytes())
	}
	return module.Dir, nil
})
