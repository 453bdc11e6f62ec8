package schemas_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// model is a full model id.
const model schemas.ModelID = "tiny@1:sha256-00000000000000000000000000000000000000000000000000000000000000aa"

// sample are attributes of the right form.
func sample() schemas.Attributes {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	return schemas.Attributes{
		ID: schemas.JobIDFrom([16]byte{1, 2, 3}), Tenant: "taaaaaaaaaaaaaaaa", Time: at, Model: model, Class: schemas.Standard,
		Key: "000102030405060708090a0b0c0d0e0f", Expiry: at.Add(time.Hour), Policy: schemas.HashOf([]byte("policy")), Budget: 5, Attempts: 3,
	}
}

// wantKind fails the test unless err carries the kind.
func wantKind(t *testing.T, err error, kind schemas.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got %v, want %s", err, kind)
	}
}

func TestAttributesRoundTrip(t *testing.T) {
	t.Parallel()
	a := sample()
	got, err := schemas.ParseAttributes(a.Header())
	if err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("%+v, %v", got, err)
	}
	fields := a.Fields()
	got, err = fields.Attributes()
	if err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestAttributesDigest pins the digest's bytes, as computed by ten lines in another language, and that each attribute is in
// it.
func TestAttributesDigest(t *testing.T) {
	t.Parallel()
	base := sample()
	const want = "sha256-06d69c72180c30c73b2346fed409371408fe8a33eaaff571edb4157be2fc577b"
	if got := base.Digest().String(); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	seen := map[schemas.Hash]string{base.Digest(): "none"}
	v := reflect.ValueOf(&base).Elem()
	for name, change := range map[string]func(*schemas.Attributes){
		"ID": func(a *schemas.Attributes) { a.ID = schemas.NewJobID() }, "Tenant": func(a *schemas.Attributes) { a.Tenant = schemas.NewTenantID() },
		"Time": func(a *schemas.Attributes) { a.Time = a.Time.Add(time.Second) }, "Model": func(a *schemas.Attributes) { a.Model += "x" },
		"Class": func(a *schemas.Attributes) { a.Class = schemas.Batch }, "Key": func(a *schemas.Attributes) { a.Key += "x" },
		"Expiry": func(a *schemas.Attributes) { a.Expiry = a.Expiry.Add(time.Second) }, "Policy": func(a *schemas.Attributes) { a.Policy[0]++ },
		"Budget": func(a *schemas.Attributes) { a.Budget++ }, "Attempts": func(a *schemas.Attributes) { a.Attempts++ },
	} {
		a := sample()
		change(&a)
		if other, dup := seen[a.Digest()]; dup {
			t.Errorf("changing %s gives the digest of changing %s", name, other)
		}
		seen[a.Digest()] = name
	}
	if len(seen) != v.NumField()+1 {
		t.Errorf("%d attributes are tried, there are %d", len(seen)-1, v.NumField())
	}
}

func TestAttributesRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*schemas.Attributes){
		"id": func(a *schemas.Attributes) { a.ID = "x" }, "tenant": func(a *schemas.Attributes) { a.Tenant = "alice" },
		"model": func(a *schemas.Attributes) { a.Model = "tiny" }, "class": func(a *schemas.Attributes) { a.Class = "now" },
		"key": func(a *schemas.Attributes) { a.Key = "xyz" }, "no time": func(a *schemas.Attributes) { a.Time = time.Time{} },
		"fraction": func(a *schemas.Attributes) { a.Time = a.Time.Add(1) }, "expiry": func(a *schemas.Attributes) { a.Expiry = a.Time },
		"long life": func(a *schemas.Attributes) { a.Expiry = a.Time.Add(schemas.MaxLifetime + time.Second) },
		"budget":    func(a *schemas.Attributes) { a.Budget = 0 }, "attempts": func(a *schemas.Attributes) { a.Attempts = schemas.MaxAttempts + 1 },
	} {
		a := sample()
		change(&a)
		if err := a.Check(); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h := sampleHeader()
	h["ce-subject"] = []string{strings.Repeat("a", schemas.MaxAttributeValue+1)}
	_, err := schemas.ParseAttributes(h)
	wantKind(t, err, schemas.KindTooLarge)
	a := sample()
	if a.Expired(a.Expiry.Add(-1)) || !a.Expired(a.Expiry) {
		t.Error("a job expires at its expiry")
	}
}

// sampleHeader are the headers of sample.
func sampleHeader() map[string][]string {
	a := sample()
	return a.Header()
}
