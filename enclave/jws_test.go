package enclave_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
)

// TestJWSIsPlainJOSE: any JOSE library verifies our statements, and what such a library signs in the same form verifies
// here.
func TestJWSIsPlainJOSE(t *testing.T) {
	t.Parallel()
	public, sign, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	receipt := schemas.Receipt{
		V: 1, Job: schemas.NewJobID(), Grant: schemas.HashOf([]byte("g")), Worker: schemas.WorkerIDOf(public), Model: enclavetest.Model,
		Usage: schemas.Usage{Prompt: 1}, Status: schemas.Succeeded, Result: schemas.HashOf([]byte("r")), Seq: 1, Started: at, Finished: at,
	}
	token, err := enclave.SignReceipt(sign, receipt)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := signed.Verify(public)
	if err != nil {
		t.Fatal(err)
	}
	var got schemas.Receipt
	if err := json.Unmarshal(payload, &got); err != nil || got.Job != receipt.Job {
		t.Errorf("%s, %v", payload, err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: sign},
		(&jose.SignerOptions{}).WithType(schemas.TypReceipt).WithHeader("kid", string(schemas.KeyIDOf(public))))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := theirs.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	if compact != token {
		t.Errorf("the library spells it %s, we %s", compact, token)
	}
}

// TestJWSHasOneSpelling: the unused bits at the end of a part and line breaks inside it are no second spelling.
func TestJWSHasOneSpelling(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	outcome := n.Run(t, n.Session(t), n.Seal(t, enclave.NewSubmission(n.Tenant(t), n.Key(t)), "x"))
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(outcome.Grant) - 1
	value := strings.IndexByte(alphabet, outcome.Grant[last])
	for _, other := range []string{
		outcome.Grant[:last] + string(alphabet[value^1]), outcome.Grant + "\n", outcome.Grant[:last] + "\n" + outcome.Grant[last:],
	} {
		if _, err := enclave.VerifyGrant(other, n.Broker.Public()); outcomeName(err) != "invalid" {
			t.Errorf("%q: %v", other[len(other)-4:], err)
		}
	}
}

// FuzzJWS: no text makes the parser panic, and whatever is read is spelled as it was signed.
func FuzzJWS(f *testing.F) {
	for _, v := range readVectors(f) {
		if v.Format == "grant" || v.Format == "receipt" {
			f.Add(v.Text)
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		for _, read := range []func(string) (any, error){
			func(s string) (any, error) { v, _, err := enclave.ReadGrant(s); return v, err },
			func(s string) (any, error) { v, err := enclave.ReadReceipt(s); return v, err },
		} {
			statement, err := read(token)
			if err != nil {
				if schemas.KindOf(err) == schemas.KindUnknown {
					t.Errorf("%v has no kind", err)
				}
				continue
			}
			b, err := schemas.EncodeJSON(statement)
			if parts := strings.Split(token, "."); err != nil || len(parts) != 3 || parts[1] != base64.RawURLEncoding.EncodeToString(b) {
				t.Errorf("%q was read as %s", token, b)
			}
		}
	})
}

// FuzzOpen: no bytes make an opener panic, every refusal has a kind, and nothing opens that the vectors do not say opens.
func FuzzOpen(f *testing.F) {
	keys := map[string]map[string][]byte{}
	headers := map[string]map[string][]string{}
	for _, v := range readVectors(f) {
		if v.Format == "envelope" || v.Format == "result" || v.Format == "chunk" {
			f.Add(v.Format, v.Body)
			if v.Expect == "ok" && keys[v.Format] == nil {
				keys[v.Format], headers[v.Format] = v.Keys, v.Header
			}
		}
	}
	f.Fuzz(func(t *testing.T, format string, body []byte) {
		if keys[format] == nil {
			return
		}
		if format == "chunk" && len(body) >= 4 && int(body[0])<<24|int(body[1])<<16|int(body[2])<<8|int(body[3]) > len(body)-4 {
			return // the frame's length is the test's, not the format's
		}
		for _, open := range openers()[format] {
			if _, err := open(vector{Format: format, Header: headers[format], Body: body, Keys: keys[format]}); err != nil && schemas.KindOf(err) == schemas.KindUnknown {
				t.Errorf("%v has no kind", err)
			}
		}
	})
}

// FuzzTenant: no file makes the reader panic, and what is read is written to a file that reads the same.
func FuzzTenant(f *testing.F) {
	tenant, err := enclave.NewTenant()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tenant.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		tenant, err := enclave.ParseTenant(b)
		if err != nil {
			if schemas.KindOf(err) == schemas.KindUnknown {
				t.Errorf("%v has no kind", err)
			}
			return
		}
		again, err := enclave.ParseTenant(tenant.Marshal())
		if err != nil || again.ID() != tenant.ID() || !again.Public().Equal(tenant.Public()) {
			t.Errorf("%s reads as another tenant: %v", tenant.Marshal(), err)
		}
	})
}
