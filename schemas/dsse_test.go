package schemas_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// issued is when the documents of these tests are made.
var issued = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// rootKey is the n-th of a fixed set of keys.
func rootKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), n))
}

// trustOf believes in k of n of the fixed keys.
func trustOf(t testing.TB, k, n int) schemas.Trust {
	t.Helper()
	var keys []ed25519.PublicKey
	for i := range n {
		keys = append(keys, rootKey(byte(i+1)).Public().(ed25519.PublicKey))
	}
	roots, err := schemas.NewRootKeys(k, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return schemas.Trust{Roots: roots, Environment: schemas.Production}
}

// newPolicy is a production policy that admits nothing.
func newPolicy() *schemas.Policy {
	return &schemas.Policy{
		V: 1, Version: 7, Issued: issued, Expires: issued.Add(24 * time.Hour), Environment: schemas.Production, EvidenceMinutes: 60,
		TDX: schemas.TDXRules{
			AcceptStatus: []schemas.TCBStatus{schemas.UpToDate}, MaxTCBAgeDays: 365, DenyAdvisories: []string{}, Modules: []schemas.Measure{},
			Platforms: schemas.PlatformRules{Mode: schemas.PlatformsAny, Listed: []schemas.PPID{}, Blocked: []schemas.PPID{}},
		},
		GPU:          schemas.GPURules{Architectures: []string{}, Golden: []schemas.Golden{}, Blocked: []schemas.Hash{}},
		Measurements: []schemas.Measurement{}, Models: []schemas.ModelID{},
		Reputation: schemas.Reputation{WindowMinutes: 60},
	}
}

// sealed signs a policy with some of the fixed keys.
func sealed(t testing.TB, p *schemas.Policy, keys ...byte) []byte {
	t.Helper()
	signed, err := schemas.SignDocument(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range keys {
		if err := signed.Sign(rootKey(n)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := signed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fieldError checks kind and field of an error.
func fieldError(t *testing.T, name string, err error, kind schemas.Kind, field string) {
	t.Helper()
	var e *schemas.Error
	if !errors.As(err, &e) || e.Kind != kind || e.Field != field {
		t.Errorf("%s: %v, want %s: %s", name, err, kind, field)
	}
}

func TestVerifyDocument(t *testing.T) {
	t.Parallel()
	trust, now := trustOf(t, 2, 3), issued.Add(time.Hour)
	p, hash, err := schemas.VerifyDocument[schemas.Policy](sealed(t, newPolicy(), 1, 3), trust, 7, now)
	if err != nil || p.Version != 7 {
		t.Fatalf("%+v, %v", p, err)
	}
	if want, err := schemas.DocumentHash(newPolicy()); err != nil || hash != want {
		t.Errorf("hash %s, want %s, %v", hash, want, err)
	}
	other := func(change func(*schemas.Policy)) []byte {
		p := newPolicy()
		change(p)
		return sealed(t, p, 1, 2, 3)
	}
	catalogue := schemas.Catalogue{
		V: 1, Version: 1, Issued: issued, Expires: issued.Add(time.Hour), Environment: schemas.Production, Models: []schemas.Model{},
		Classes: map[schemas.Class]schemas.BasisPoints{schemas.Priority: 1, schemas.Standard: 1, schemas.Batch: 1},
	}
	signedCatalogue, err := schemas.SignDocument(&catalogue, rootKey(1), rootKey(2))
	if err != nil {
		t.Fatal(err)
	}
	wrongKind, err := signedCatalogue.Encode()
	if err != nil {
		t.Fatal(err)
	}
	relabelled, err := (&schemas.Signed{Payload: signedCatalogue.Payload, PayloadType: schemas.PolicyMediaType, Signatures: signedCatalogue.Signatures}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		signed   []byte
		previous uint64
		now      time.Time
		kind     schemas.Kind
		field    string
	}{
		"unsigned":           {sealed(t, newPolicy()), 0, now, schemas.KindPolicy, "signatures"},
		"one of two":         {sealed(t, newPolicy(), 1), 0, now, schemas.KindPolicy, "signatures"},
		"one and a stranger": {sealed(t, newPolicy(), 1, 9), 0, now, schemas.KindPolicy, "signatures"},
		"one key twice":      {twice(t, sealed(t, newPolicy(), 1)), 0, now, schemas.KindPolicy, "signatures"},
		"rolled back":        {sealed(t, newPolicy(), 1, 2), 8, now, schemas.KindPolicy, "version"},
		"expired":            {sealed(t, newPolicy(), 1, 2), 0, issued.Add(24 * time.Hour), schemas.KindPolicy, "expires"},
		"from the future":    {sealed(t, newPolicy(), 1, 2), 0, issued.Add(-time.Hour), schemas.KindPolicy, "issued"},
		"another environment": {other(func(p *schemas.Policy) {
			p.Environment = schemas.Simulated
			p.Simulated = &schemas.SimulatedRoots{TDX: []schemas.Hash{}, GPU: []schemas.Hash{}}
		}), 0, now, schemas.KindPolicy, "environment"},
		"another kind":          {wrongKind, 0, now, schemas.KindInvalid, "payloadType"},
		"another kind, renamed": {relabelled, 0, now, schemas.KindPolicy, "signatures"},
		"not JSON":              {[]byte("policy"), 0, now, schemas.KindInvalid, ""},
	} {
		_, _, err := schemas.VerifyDocument[schemas.Policy](c.signed, trust, c.previous, c.now)
		fieldError(t, name, err, c.kind, c.field)
	}
	if _, _, err := schemas.VerifyDocument[schemas.Policy](sealed(t, newPolicy(), 1, 2), schemas.Trust{}, 0, now); schemas.KindOf(err) != schemas.KindInvalid {
		t.Errorf("no trust: %v", err)
	}
}

// twice repeats the only signature under another key id.
func twice(t *testing.T, signed []byte) []byte {
	t.Helper()
	s, err := schemas.ParseSigned(signed)
	if err != nil {
		t.Fatal(err)
	}
	again := s.Signatures[0]
	again.KeyID = schemas.KeyIDOf(rootKey(2).Public().(ed25519.PublicKey))
	s.Signatures = append(s.Signatures, again, s.Signatures[0])
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestStrangersSignaturesDoNoHarm: signatures of unknown keys are ignored, up to a limit.
func TestStrangersSignaturesDoNoHarm(t *testing.T) {
	t.Parallel()
	trust := trustOf(t, 2, 3)
	if _, _, err := schemas.VerifyDocument[schemas.Policy](sealed(t, newPolicy(), 9, 1, 10, 2, 11), trust, 0, issued); err != nil {
		t.Error(err)
	}
	signed, err := schemas.SignDocument(newPolicy())
	if err != nil {
		t.Fatal(err)
	}
	for n := range byte(schemas.MaxSignatures) {
		if err := signed.Sign(rootKey(n + 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := signed.Sign(rootKey(1)); err != nil || len(signed.Signatures) != schemas.MaxSignatures {
		t.Errorf("signing again: %d signatures, %v", len(signed.Signatures), err)
	}
	if err := signed.Sign(rootKey(200)); schemas.KindOf(err) != schemas.KindTooLarge {
		t.Errorf("one too many: %v", err)
	}
}

// TestMutatedDocuments alters every byte of a signed policy: none is binding any more.
func TestMutatedDocuments(t *testing.T) {
	t.Parallel()
	trust, signed := trustOf(t, 2, 2), sealed(t, newPolicy(), 1, 2)
	for i := range signed {
		x := bytes.Clone(signed)
		x[i] ^= 1
		_, _, err := schemas.VerifyDocument[schemas.Policy](x, trust, 0, issued)
		if k := schemas.KindOf(err); k != schemas.KindInvalid && k != schemas.KindPolicy && k != schemas.KindTooLarge {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}

// TestOneSpelling: a signed payload has exactly one form, and so has its envelope.
func TestOneSpelling(t *testing.T) {
	t.Parallel()
	trust := trustOf(t, 1, 1)
	canonical, err := schemas.EncodeJSON(newPolicy())
	if err != nil {
		t.Fatal(err)
	}
	for name, payload := range map[string]string{
		"white space":      strings.Replace(string(canonical), `"v":1`, `"v": 1`, 1),
		"another case":     strings.Replace(string(canonical), `"v":1`, `"V":1`, 1),
		"twice":            strings.Replace(string(canonical), `"v":1`, `"v":1,"v":1`, 1),
		"unknown field":    strings.Replace(string(canonical), `"v":1`, `"v":1,"w":1`, 1),
		"another order":    strings.Replace(string(canonical), `"v":1,"version":7`, `"version":7,"v":1`, 1),
		"escaped":          strings.Replace(string(canonical), `production`, `\u0070roduction`, 1),
		"another offset":   strings.Replace(string(canonical), `2026-11-22T12:00:00Z`, `2026-11-22T14:00:00+02:00`, 1),
		"trailing newline": string(canonical) + "\n",
	} {
		if payload == string(canonical) {
			t.Fatalf("%s: the case changes nothing", name)
		}
		s := schemas.Signed{Payload: []byte(payload), PayloadType: schemas.PolicyMediaType, Signatures: []schemas.Signature{}}
		if err := s.Sign(rootKey(1)); err != nil {
			t.Fatal(err)
		}
		b, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := schemas.VerifyDocument[schemas.Policy](b, trust, 0, issued); schemas.KindOf(err) != schemas.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	signed := sealed(t, newPolicy(), 1)
	if _, err := schemas.ParseSigned(append([]byte{' '}, signed...)); schemas.KindOf(err) != schemas.KindInvalid {
		t.Errorf("envelope with white space: %v", err)
	}
}

// TestSignedBytes checks the pre-authentication encoding against the example in the DSSE protocol's own text.
func TestSignedBytes(t *testing.T) {
	t.Parallel()
	s := schemas.Signed{PayloadType: "http://example.com/HelloWorld", Payload: []byte("hello world"), Signatures: []schemas.Signature{}}
	if err := s.Sign(rootKey(1)); err != nil {
		t.Fatal(err)
	}
	want := []byte("DSSEv1 29 http://example.com/HelloWorld 11 hello world")
	if !ed25519.Verify(rootKey(1).Public().(ed25519.PublicKey), want, s.Signatures[0].Sig) {
		t.Error("something else was signed")
	}
}

func TestRootKeys(t *testing.T) {
	t.Parallel()
	a, b := rootKey(1).Public().(ed25519.PublicKey), rootKey(2).Public().(ed25519.PublicKey)
	one, err := schemas.NewRootKeys(1, a, b)
	if err != nil {
		t.Fatal(err)
	}
	if other, err := schemas.NewRootKeys(1, b, a); err != nil || other.Hash() != one.Hash() {
		t.Errorf("the order of keys matters: %v", err)
	}
	if other, err := schemas.NewRootKeys(2, a, b); err != nil || other.Hash() == one.Hash() {
		t.Errorf("the threshold does not matter: %v", err)
	}
	for name, c := range map[string]struct {
		k    int
		keys []ed25519.PublicKey
	}{
		"none": {1, nil}, "zero of one": {0, []ed25519.PublicKey{a}}, "two of one": {2, []ed25519.PublicKey{a}}, "one twice": {1, []ed25519.PublicKey{a, a}},
		"short": {1, []ed25519.PublicKey{a[:31]}}, "too many": {1, make([]ed25519.PublicKey, schemas.MaxRootKeys+1)},
	} {
		if _, err := schemas.NewRootKeys(c.k, c.keys...); schemas.KindOf(err) != schemas.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	text, err := schemas.EncodeJSON(schemas.Trust{Roots: one, Environment: schemas.Simulated})
	if err != nil {
		t.Fatal(err)
	}
	trust, err := schemas.ParseTrust(text)
	if err != nil || trust.Roots.Hash() != one.Hash() {
		t.Errorf("trust: %+v, %v", trust, err)
	}
	if _, err := schemas.ParseTrust(bytes.Replace(text, []byte("simulated"), []byte("elsewhere"), 1)); schemas.KindOf(err) != schemas.KindInvalid {
		t.Errorf("unknown environment: %v", err)
	}
	keys, err := schemas.EncodeJSON(one)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := schemas.ParseRootKeys(keys); err != nil || again.Hash() != one.Hash() {
		t.Errorf("root keys: %+v, %v", again, err)
	}
}

func FuzzSigned(f *testing.F) {
	f.Add(sealed(f, newPolicy(), 1, 2))
	f.Add([]byte(`{"payload":"","payloadType":"","signatures":[]}`))
	trust := trustOf(f, 1, 2)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := schemas.ParseSigned(b)
		if err != nil {
			return
		}
		if again, err := s.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("does not re-encode: %v", err)
		}
		_, _, _ = schemas.VerifyDocument[schemas.Policy](b, trust, 0, issued)
	})
}

func FuzzPolicy(f *testing.F) {
	b, err := json.Marshal(newPolicy())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := schemas.ParsePolicy(b)
		if err != nil {
			if schemas.KindOf(err) == schemas.KindUnknown {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		one, err := schemas.EncodeJSON(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := schemas.ParsePolicy(one)
		if err != nil {
			t.Fatalf("its own encoding is refused: %v", err)
		}
		if two, err := schemas.EncodeJSON(again); err != nil || !bytes.Equal(one, two) {
			t.Fatalf("two encodings: %v", err)
		}
	})
}

// A policy binds when enough root keys have signed it.
func ExampleVerifyDocument() {
	policy := newPolicy()
	signed, err := schemas.SignDocument(policy, rootKey(1))
	if err != nil {
		fmt.Println(err)
		return
	}
	roots, err := schemas.NewRootKeys(2, rootKey(1).Public().(ed25519.PublicKey), rootKey(2).Public().(ed25519.PublicKey))
	if err != nil {
		fmt.Println(err)
		return
	}
	trust := schemas.Trust{Roots: roots, Environment: schemas.Production}
	for range 2 {
		b, err := signed.Encode()
		if err != nil {
			fmt.Println(err)
			return
		}
		verified, _, err := schemas.VerifyDocument[schemas.Policy](b, trust, 0, issued)
		if err != nil {
			fmt.Println(err)
		} else {
			fmt.Println("version", verified.Version)
		}
		if err := signed.Sign(rootKey(2)); err != nil {
			fmt.Println(err)
			return
		}
	}
	// Output:
	// policy_refused: signatures: has 1 valid signatures of root keys, needs 2
	// version 7
}
