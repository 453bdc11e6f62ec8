package enclave_test

import (
	"crypto/ed25519"
	"crypto/hpke"
	"encoding/base64"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// update makes the vectors anew: go test ./enclave -run TestVectors -update. Sealing is random, so every file changes;
// do it only when a format does.
var update = flag.Bool("update", false, "write the vectors anew")

// vectorDir is where the vectors lie, for every implementation to read.
const vectorDir = "../schemas/testdata/vectors"

// vector is one file: something that must open, or must not, for one reason. See spec/vectors.md.
type vector struct {
	// Format is the folder: what the bytes are.
	Format string `json:"format"`
	// Name says what is special about it.
	Name string `json:"name"`
	// Expect is "ok" or the name of the kind that the refusal must have.
	Expect string `json:"expect"`
	// Stage is "parse" when the form alone is refused, "open" when it takes keys.
	Stage string `json:"stage"`
	// Header are the message headers, Body the bytes (base64), Text is a form that is text.
	Header map[string][]string `json:"header,omitempty"`
	Body   []byte              `json:"body,omitempty"`
	Text   string              `json:"text,omitempty"`
	// Keys are what it takes to open: base64 by name.
	Keys map[string][]byte `json:"keys,omitempty"`
	// Want is what comes out: base64 by name.
	Want map[string][]byte `json:"want,omitempty"`
}

// minVectors is how many there must be: a generator that lost some must not pass.
const minVectors = 120

// readVectors reads all vectors.
func readVectors(t testing.TB) []vector {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(vectorDir, "*", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < minVectors {
		t.Fatalf("%d vectors, want at least %d", len(paths), minVectors)
	}
	var all []vector
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var v vector
		if err := schemas.DecodeJSON(b, &v, 1<<20); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, v)
	}
	return all
}

// writeVectors replaces the folder's content.
func writeVectors(t *testing.T, all []vector) {
	t.Helper()
	if err := os.RemoveAll(vectorDir); err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		dir := filepath.Join(vectorDir, v.Format)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		b, err := json.MarshalIndent(v, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		name := strings.NewReplacer(" ", "-", ",", "", "'", "", "/", "-").Replace(v.Name)
		path := filepath.Join(dir, name+".json")
		if _, err := os.Stat(path); err == nil {
			t.Fatalf("two vectors are called %s", path)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// openers open a vector of a format. Each format may have several paths: all must agree.
func openers() map[string][]func(vector) (map[string][]byte, error) {
	return map[string][]func(vector) (map[string][]byte, error){
		"attributes": {openAttributes},
		"envelope":   {openEnvelopeVector, openThroughUnwrap},
		"outcome":    {openOutcome},
		"result":     {openResultVector},
		"chunk":      {openChunkVector},
		"grant":      {openGrant},
		"receipt":    {openReceipt, openCheckedReceipt},
		"keybundle":  {openBundle},
		"spend":      {openSpend},
		"tenant":     {openTenant},
		"credit":     {openCredit},
	}
}

// TestVectors runs every vector through every path that opens its format.
func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t, generate(t))
	}
	seen := map[string]int{}
	for _, v := range readVectors(t) {
		paths := openers()[v.Format]
		if len(paths) == 0 {
			t.Errorf("nobody opens format %q", v.Format)
		}
		for i, open := range paths {
			got, err := open(v)
			if name := outcomeName(err); name != v.Expect {
				t.Errorf("%s: %s: path %d: got %s (%v), want %s", v.Format, v.Name, i, name, err, v.Expect)
				continue
			}
			if err == nil && i == 0 && !maps.EqualFunc(got, v.Want, func(a, b []byte) bool { return slices.Equal(a, b) }) {
				t.Errorf("%s: %s: other content came out", v.Format, v.Name)
			}
		}
		seen[v.Format]++
	}
	for format := range openers() {
		if seen[format] == 0 {
			t.Errorf("format %s has no vectors", format)
		}
	}
}

// outcomeName is "ok" or the name of the refusal's kind.
func outcomeName(err error) string {
	if err == nil {
		return "ok"
	}
	return schemas.KindOf(err).String()
}

// private reads a private key of a vector.
func (v vector) private() (hpke.PrivateKey, error) {
	return hpke.MLKEM768X25519().NewPrivateKey(v.Keys["private"])
}

// openAttributes reads job headers.
func openAttributes(v vector) (map[string][]byte, error) {
	a, err := schemas.ParseAttributes(v.Header)
	if err != nil {
		return nil, err
	}
	digest := a.Digest()
	return map[string][]byte{"digest": digest[:]}, nil
}

// openEnvelopeVector opens a whole job.
func openEnvelopeVector(v vector) (map[string][]byte, error) {
	a, err := schemas.ParseAttributes(v.Header)
	if err != nil {
		return nil, err
	}
	private, err := v.private()
	if err != nil {
		return nil, err
	}
	request, spend, err := enclave.NewUnwrapper(private, 4).Open(&a, v.Body)
	if err != nil {
		return nil, err
	}
	e, err := schemas.ParseEnvelope(v.Body)
	if err != nil {
		return nil, err
	}
	hash := e.Hash(&a)
	return map[string][]byte{"request": request.Encode(), "spend": schemas.EncodeCBOR(spend), "hash": hash[:]}, nil
}

// openThroughUnwrap goes the broker's way first: one wrap without the payload; it may succeed where the payload is what is
// wrong.
func openThroughUnwrap(v vector) (map[string][]byte, error) {
	a, err := schemas.ParseAttributes(v.Header)
	if err != nil {
		return nil, err
	}
	e, err := schemas.ParseEnvelope(v.Body)
	if err != nil {
		return nil, err
	}
	private, err := v.private()
	if err != nil {
		return nil, err
	}
	mine := schemas.KeyIDOf(private.PublicKey().Bytes())
	for i := range e.Recipients {
		if r := &e.Recipients[i]; r.KeyID() == mine {
			if _, err := enclave.NewUnwrapper(private, 4).Unwrap(e.Mode, r.Enc, r.Index, r.Wrapped, &a); err != nil {
				return nil, err
			}
		}
	}
	return openEnvelopeVector(v)
}

// openOutcome reads an outcome message.
func openOutcome(v vector) (map[string][]byte, error) {
	o, err := schemas.ParseOutcome(v.Header, v.Body)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"status": []byte(o.Status), "job": []byte(o.Job)}, nil
}

// openResultVector opens an outcome as its tenant.
func openResultVector(v vector) (map[string][]byte, error) {
	tenant, err := enclave.ParseTenant(v.Keys["tenant"])
	if err != nil {
		return nil, err
	}
	o, err := schemas.ParseOutcome(v.Header, v.Body)
	if err != nil {
		return nil, err
	}
	answer, err := tenant.OpenResult(o, enclave.Expect{Broker: v.Keys["broker"]})
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"result": answer.Result.Encode()}, nil
}

// openChunkVector opens a sequence of chunks, each with its length in front; the last one decides.
func openChunkVector(v vector) (map[string][]byte, error) {
	tenant, err := enclave.ParseTenant(v.Keys["tenant"])
	if err != nil {
		return nil, err
	}
	var hash schemas.Hash
	copy(hash[:], v.Keys["envelope"])
	opener := tenant.ChunkOpener(schemas.JobID(v.Keys["job"]), hash)
	var last enclave.LiveChunk
	for rest := v.Body; len(rest) >= 4; {
		n := int(rest[0])<<24 | int(rest[1])<<16 | int(rest[2])<<8 | int(rest[3])
		if last, err = opener.Open(rest[4 : 4+n]); err != nil {
			return nil, err
		}
		rest = rest[4+n:]
	}
	chunk := schemas.Chunk{Events: last.Events}
	return map[string][]byte{"chunk": chunk.Encode()}, nil
}

// openGrant verifies a grant.
func openGrant(v vector) (map[string][]byte, error) {
	g, err := enclave.VerifyGrant(v.Text, v.Keys["key"])
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"job": []byte(g.Job)}, nil
}

// openReceipt verifies a receipt.
func openReceipt(v vector) (map[string][]byte, error) {
	r, err := enclave.VerifyReceipt(v.Text, v.Keys["key"])
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"job": []byte(r.Job)}, nil
}

// openCheckedReceipt goes settlement's way: a receipt under a grant that names its signer.
func openCheckedReceipt(v vector) (map[string][]byte, error) {
	r, _ := enclave.ReadReceipt(v.Text)
	g := schemas.Grant{Job: r.Job, Model: r.Model, Worker: r.Worker, WorkerKey: v.Keys["key"], Lease: r.Finished}
	grantToken := string(v.Keys["grant"])
	_, err := enclave.CheckReceipt(v.Text, grantToken, &g)
	return nil, err
}

// openBundle reads the payload of a key bundle.
func openBundle(v vector) (map[string][]byte, error) {
	k, err := schemas.ParseKeyBundle([]byte(v.Text))
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"kid": []byte(k.Key)}, nil
}

// openSpend verifies a spend authorisation of broker mode.
func openSpend(v vector) (map[string][]byte, error) {
	var s schemas.Spend
	if err := schemas.DecodeCBOR(v.Body, &s, schemas.MaxWrapped); err != nil {
		return nil, err
	}
	a, err := schemas.ParseAttributes(v.Header)
	if err != nil {
		return nil, err
	}
	if err := s.Check(&a); err != nil {
		return nil, err
	}
	return map[string][]byte{}, new(enclave.Signatures).VerifySubmissionSpend(ed25519.PublicKey(v.Keys["key"]), &s, a.Key, v.Keys["enc"])
}

// openTenant reads an identity file.
func openTenant(v vector) (map[string][]byte, error) {
	tenant, err := enclave.ParseTenant([]byte(v.Text))
	if err != nil {
		return nil, err
	}
	job := tenant.JobID("line-1")
	secret := tenant.ReplySecret(job)
	return map[string][]byte{
		"public": tenant.Public(), "job": []byte(job), "reply_key": tenant.ReplyKey(), "reply_secret": secret[:],
	}, nil
}

// openCredit reads an account's credit.
func openCredit(v vector) (map[string][]byte, error) {
	c, err := schemas.ParseCredit([]byte(v.Text))
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"available": []byte(c.Available.Decimal())}, nil
}

// base64Of is how binary values stand in texts.
func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
